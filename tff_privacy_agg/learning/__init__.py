"""Training with TFF's learning processes."""

from tff_privacy_agg.learning.cohorts import UniformCohorts
from tff_privacy_agg.learning.metrics import no_metrics
from tff_privacy_agg.learning.run_directory import RunDirectory
from tff_privacy_agg.learning.training import TrainingResult, train

__all__ = ['RunDirectory', 'TrainingResult', 'UniformCohorts', 'no_metrics', 'train']

"""Training with TFF's learning processes."""

from tff_privacy_agg import _requires_tff as _requires_tff  # refuses where it is not
from tff_privacy_agg.learning.accounting_plan import Accounting
from tff_privacy_agg.learning.cohorts import Cohorts, PoissonCohorts, UniformCohorts
from tff_privacy_agg.learning.data_source import CohortDataSource
from tff_privacy_agg.learning.example_level import ExampleLevel
from tff_privacy_agg.learning.ledger_release import PrivacyLedgerReleaseManager
from tff_privacy_agg.learning.metrics import no_metrics
from tff_privacy_agg.learning.private_metrics import PrivateMetrics, private_metrics
from tff_privacy_agg.learning.private_process import PrivateLearningProcess
from tff_privacy_agg.learning.process_builder import build_private_learning_process
from tff_privacy_agg.learning.run_directory import RunDirectory
from tff_privacy_agg.learning.statement_release import (
  MLflowReleaseManager,
  StatementReleaseManager,
)
from tff_privacy_agg.learning.training import TrainingResult, train

__all__ = [
  'Accounting',
  'CohortDataSource',
  'Cohorts',
  'ExampleLevel',
  'MLflowReleaseManager',
  'PoissonCohorts',
  'PrivacyLedgerReleaseManager',
  'PrivateLearningProcess',
  'PrivateMetrics',
  'RunDirectory',
  'StatementReleaseManager',
  'TrainingResult',
  'UniformCohorts',
  'build_private_learning_process',
  'no_metrics',
  'private_metrics',
  'train',
]

"""Real data as federated client data: embedded, of another package, or of TFF's cache."""

from tff_privacy_agg import _requires_tff as _requires_tff  # refuses where it is not
from tff_privacy_agg.learning.data.digits import load_digits
from tff_privacy_agg.learning.data.examples import FederatedExamples
from tff_privacy_agg.learning.data.mnist import load_mnist
from tff_privacy_agg.learning.data.named import NAMES, load
from tff_privacy_agg.learning.data.tff_datasets import load_tff_dataset

__all__ = [
  'NAMES',
  'FederatedExamples',
  'load',
  'load_digits',
  'load_mnist',
  'load_tff_dataset',
]

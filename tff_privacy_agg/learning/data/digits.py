"""Handwritten digits, split among clients by a documented non-IID rule."""

import numpy as np
from sklearn import datasets

from tff_privacy_agg.learning.data.examples import FederatedExamples, split_among_clients

NUM_CLASSES = 10
NUM_PIXELS = 64
_LARGEST_PIXEL = 16.0


def load_digits(
  num_clients: int, *, concentration: float = 1.0, seed: int = 0
) -> FederatedExamples:
  """The 1,797 digits of 8 x 8 pixels that scikit-learn ships, split among clients.

  A fifth, chosen at random, is held out; the rest is split as `split_among_clients` says:
  every client has the same number of examples, and label proportions of its own. Small
  stand-ins: results say nothing about larger data.

  Args:
    num_clients: Number of clients, 1 to 1,438.
    concentration: Dirichlet parameter of each class; the smaller, the fewer
      labels a client has.
    seed: Seed of the split.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Examples:
    >>> digits = tpa.data.load_digits(50, concentration=0.3)
    >>> digits.test_x.shape
    (359, 64)
  """
  pixels, labels = datasets.load_digits(return_X_y=True)
  return split_among_clients(
    (pixels / _LARGEST_PIXEL).astype(np.float32),
    labels.astype(np.int32),
    num_clients,
    concentration=concentration,
    seed=seed,
  )

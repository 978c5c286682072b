"""Handwritten digits, split among clients by a documented non-IID rule."""

import dataclasses
from collections import OrderedDict

import numpy as np
import tensorflow_federated as tff
from sklearn import datasets

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

NUM_CLASSES = 10
NUM_PIXELS = 64
_TEST_FRACTION = 0.2
_LARGEST_PIXEL = 16.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedExamples:
  """Examples of many clients, and held-out ones that belong to none.

  Attributes:
    train: Client data; each example is `OrderedDict(x=float32 [64], y=int32 [])`.
    test_x: Held-out pixels, float32 `[m, 64]`, in [0, 1].
    test_y: Held-out labels, int32 `[m]`.
  """

  train: tff.simulation.datasets.ClientData
  test_x: np.ndarray
  test_y: np.ndarray


def load_digits(
  num_clients: int, *, concentration: float = 1.0, seed: int = 0
) -> FederatedExamples:
  """The 1,797 digits of 8 x 8 pixels that scikit-learn ships, split among clients.

  A fifth, chosen at random, is held out. Of the rest every client gets the same
  number of examples (what is left over is dropped). Client by client, its label
  proportions are drawn from a Dirichlet distribution of the given
  concentration, and its examples from the classes in these proportions, without
  replacement; a class that has run out is replaced by what is left. Small
  stand-ins: results say nothing about larger data.

  Args:
    num_clients: Number of clients, 1 to 1,437.
    concentration: Dirichlet parameter of each class; the smaller, the fewer
      labels a client has.
    seed: Seed of the split.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """
  _validate.at_least(1, num_clients=num_clients)
  _validate.at_least(0, seed=seed)
  _validate.positive(concentration=concentration)
  pixels, labels = datasets.load_digits(return_X_y=True)
  pixels = (pixels / _LARGEST_PIXEL).astype(np.float32)
  labels = labels.astype(np.int32)
  rng = np.random.default_rng(seed)
  shuffled = rng.permutation(len(labels))
  held_out, rest = np.split(shuffled, [int(_TEST_FRACTION * len(labels))])
  each = len(rest) // num_clients
  if each == 0:
    raise ConfigurationError(
      f'`num_clients` must be at most {len(rest)}, the number of training examples, '
      f'got {num_clients}.'
    )
  pools = [list(rest[labels[rest] == label]) for label in range(NUM_CLASSES)]
  clients = OrderedDict()
  for client in range(num_clients):
    proportions = rng.dirichlet(np.full(NUM_CLASSES, concentration))
    chosen = []
    for _ in range(each):
      left = np.array([proportions[label] * bool(pool) for label, pool in enumerate(pools)])
      if left.sum() <= 0:
        left = np.array([float(len(pool)) for pool in pools])
      label = rng.choice(NUM_CLASSES, p=left / left.sum())
      chosen.append(pools[label].pop())
    clients[f'client_{client:04d}'] = OrderedDict(x=pixels[chosen], y=labels[chosen])
  return FederatedExamples(
    train=tff.simulation.datasets.TestClientData(clients),
    test_x=pixels[held_out],
    test_y=labels[held_out],
  )

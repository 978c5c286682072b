"""A damaged last checkpoint: the one before it is used, its round runs again and is charged again."""

import errno
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from test_training import process_with, train

import tff_privacy_agg as tpa
from tff_privacy_agg._files import read_json, read_table
from tff_privacy_agg._tff.checkpoints import Checkpoints
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.learning import RunDirectory
from tff_privacy_agg.ledger import LedgerRecord, verify


@pytest.fixture(scope='module')
def process(simulation_worker):
  with tpa.runtime.use(simulation_worker):
    return process_with()


@pytest.fixture(scope='module')
def trained(simulation_worker, process, tmp_path_factory):
  path = tmp_path_factory.mktemp('trained') / 'run'
  with tpa.runtime.use(simulation_worker):
    train(process, 3, path)
  return path


@pytest.fixture
def run(simulation, trained, tmp_path):
  return shutil.copytree(trained, tmp_path / 'run')


@pytest.mark.parametrize(
  ('error', 'number'),
  [(tf.errors.ResourceExhaustedError, errno.ENOSPC), (tf.errors.UnknownError, errno.EIO)],
)
def test_a_checkpoint_that_cannot_be_written_is_an_error_of_the_system(
  tmp_path, monkeypatch, error, number
):
  """TensorFlow's own would end a command in a traceback."""

  async def full(self, state, version):
    raise error(None, None, 'a file; No space left on device')

  monkeypatch.setattr(tff.program.FileProgramStateManager, 'save', full)
  with pytest.raises(OSError, match='program_state_3') as raised:
    Checkpoints(tmp_path).save(np.float32(1.0), 3)
  assert raised.value.errno == number


def change_a_byte(run, number, name='saved_model.pb'):
  file = run / f'checkpoints/program_state_{number}' / name
  data = bytearray(file.read_bytes())
  data[len(data) // 2] ^= 1
  file.write_bytes(data)


def weights(process, state):
  return np.concatenate([np.ravel(one) for one in process.get_model_weights(state).trainable])


@pytest.mark.parametrize('name', ['saved_model.pb', 'variables/variables.data-00000-of-00001'])
def test_the_one_before_is_used_and_nothing_is_taken_back(run, process, name):
  released = tpa.export_model(run, run / 'out', format='npz')
  before = LedgerRecord.read(run / 'ledger.jsonl')
  change_a_byte(run, 3, name)
  result, lines = train(process, 3, run)
  assert any('checkpoint of round 3 is damaged and not used: its files' in line for line in lines)
  assert any(
    'resuming after round 2; a round that was cut off runs again' in line for line in lines
  )
  assert (result.rounds_run, result.rounds_done) == (1, 3)
  after = LedgerRecord.read(run / 'ledger.jsonl')
  assert verify(run / 'ledger.jsonl').ok
  assert after.state.rounds == before.state.rounds + 1 == 4
  assert after.epsilon('server') > before.epsilon('server')
  assert [row['round'] for row in read_table(run / 'metrics.csv')] == ['1', '2', '3']
  # From the same state and the same clients, with other noise.
  shutil.rmtree(run / 'out')
  again = tpa.export_model(run, run / 'out', format='npz')
  assert again['model']['round'] == released['model']['round'] == 3
  assert again['model']['sha256'] != released['model']['sha256']
  # What was damaged is set aside, and the next start is an ordinary one.
  assert (run / 'checkpoints/damaged_3').is_dir()
  _, lines = train(process, 3, run)
  assert not any('damaged' in line for line in lines)


def test_the_state_resumed_from_is_that_of_the_round_before(run, process):
  initial = process.initialize()
  directory = RunDirectory(run, read_json(run / 'config.json'))
  whole, done = directory.latest(initial)
  shutil.rmtree(run / 'checkpoints/program_state_3')
  before, second = directory.latest(initial)
  assert (done, second) == (3, 2)
  assert not np.array_equal(weights(process, whole), weights(process, before))


def test_without_digests_what_tensorflow_cannot_read_is_damaged(run, process):
  """As checkpoints of earlier versions are."""
  (run / 'checkpoints/digests.json').unlink()
  (run / 'checkpoints/program_state_3/saved_model.pb').write_bytes(b'\xff' * 40)
  _, lines = train(process, 2, run)
  assert any('checkpoint of round 3 is damaged and not used' in line for line in lines)
  assert any('resuming after round 2' in line for line in lines)


def test_a_training_with_no_checkpoint_left_is_refused_before_a_charge(run, process):
  for number in (1, 2, 3):
    change_a_byte(run, number)
  ledger = (run / 'ledger.jsonl').read_bytes()
  with pytest.raises(ConfigurationError, match=r'No checkpoint in .* can be read'):
    train(process, 4, run)
  assert (run / 'ledger.jsonl').read_bytes() == ledger
  with pytest.raises(ConfigurationError, match=r'The checkpoint of round 3 in .* is damaged'):
    tpa.export_model(run, run / 'out', format='npz')


def test_a_whole_checkpoint_of_another_structure_is_refused_not_passed_over(run):
  directory = RunDirectory(run, read_json(run / 'config.json'))
  with pytest.raises(ConfigurationError, match='Resume with the process that wrote it'):
    directory.latest({'another': np.float32(1)})


def test_a_training_whose_ledger_is_gone_is_refused(run, process):
  """A new ledger would begin at an epsilon of zero."""
  for file in run.glob('ledger.jsonl*'):
    file.unlink()
  with pytest.raises(LedgerError, match='charged 0 rounds and would understate epsilon'):
    train(process, 4, run)
  assert [row['round'] for row in read_table(run / 'metrics.csv')] == ['1', '2', '3']
  with pytest.raises(LedgerError, match='Restore the ledger'):  # and again, with the one just made
    train(process, 4, run)


def test_lines_that_a_crash_cut_off_do_not_stop_a_training(run, process):
  for name, cut in (('metrics.csv', b'9,0.1'), ('history.jsonl', b'{"after": 3, "ident')):
    with (run / name).open('ab') as file:
      file.write(cut)
  train(process, 4, run)
  assert [row['round'] for row in read_table(run / 'metrics.csv')] == ['1', '2', '3', '4']
  lines = (run / 'history.jsonl').read_text().splitlines()
  assert json.loads(lines[-1])['rounds'] == 4


@pytest.mark.parametrize(
  ('name', 'content', 'sentence'),
  [
    ('metrics.csv', 'round,loss\n1,0.5\nx,0.4\n', "has a row of the round 'x'"),
    ('metrics.csv', 'round,loss\n1,0.5,0.6\n', 'is no table of metrics'),
    ('config.json', '{"facts": ' + '9' * 400 + '}', 'too large a number'),
    ('config.json', '[1]', 'must hold a JSON object, and holds a list'),
    ('config.json', '{"a": "\\ud800"}', 'is broken JSON'),
    ('history.jsonl', '{"identity": 5}\n', 'records no start of a training that can be read'),
  ],
)
def test_files_that_are_no_longer_what_they_were_are_refused(run, process, name, content, sentence):
  (run / name).write_text(content)
  ledger = (run / 'ledger.jsonl').read_bytes()
  with pytest.raises(ConfigurationError, match=sentence):
    train(process, 4, run)
  assert (run / 'ledger.jsonl').read_bytes() == ledger

"""The model comes out as it was released, with the card of its ledger, or not at all."""

import errno
import json
import os
import re
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from test_training import IDS, SIZE, model_fn, process_with, train

import tff_privacy_agg as tpa
from tff_privacy_agg import cli
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.learning.export import run_export

X = np.array([[1.0, 2.0], [-3.0, 0.5]], np.float32)


@pytest.fixture(scope='module')
def trained(simulation_worker, tmp_path_factory):
  """A run directory of four rounds, and the weights that it ended with."""
  path = tmp_path_factory.mktemp('trained') / 'run'
  with tpa.runtime.use(simulation_worker):
    process = process_with()
    result, _ = train(process, 4, path)
    weights = process.get_model_weights(result.state)
  return path, [np.asarray(one) for one in weights.trainable]


@pytest.fixture
def run(trained, tmp_path):
  """A copy of it that a test may change."""
  return shutil.copytree(trained[0], tmp_path / 'run')


def predictions(kernel, bias):
  return X @ kernel + bias


def test_a_saved_model_predicts_with_the_released_weights(trained, tmp_path):
  path, weights = trained
  card = tpa.export_model(path, tmp_path / 'out', model=model_fn)
  keras = tf.keras.models.load_model(tmp_path / 'out/model')
  np.testing.assert_allclose(keras.predict(X, verbose=0), predictions(*weights), rtol=1e-5)
  assert card == json.loads((tmp_path / 'out/privacy_card.json').read_text())
  assert card['model']['round'] == 4
  assert card['warnings'] == []


def test_a_keras_file_predicts_with_the_released_weights(trained, tmp_path):
  path, weights = trained
  tpa.export_model(path, tmp_path / 'out', model=model_fn, format='keras')
  keras = tf.keras.models.load_model(tmp_path / 'out/model.keras')
  np.testing.assert_allclose(keras.predict(X, verbose=0), predictions(*weights), rtol=1e-5)


@pytest.mark.parametrize('model', [None, model_fn], ids=['numbered', 'named'])
def test_arrays_need_no_model(trained, tmp_path, model):
  path, weights = trained
  tpa.export_model(path, tmp_path / 'out', model=model, format='npz')
  with np.load(tmp_path / 'out/model.npz') as found:
    assert ('trainable_0' in found.files) == (model is None)
    for name, weight in zip(found.files, weights, strict=True):
      np.testing.assert_array_equal(found[name], weight)


def test_the_card_is_the_ledgers_and_reads_as_a_model_card(trained, tmp_path):
  path, _ = trained
  card = tpa.export_model(path, tmp_path / 'out', format='npz')
  stated = json.loads(tpa.ledger.LedgerRecord.read(path / 'ledger.jsonl').statement('json'))
  assert {key: card[key] for key in stated} == stated
  text = (tmp_path / 'out/MODEL_CARD.md').read_text()
  assert text.startswith('---\nlibrary_name: numpy\n')
  for sentence in stated['promises']:
    assert f'- {sentence}' in text
  assert card['model']['sha256'] in text
  assert "np.load('model.npz')" in text


def test_an_export_that_fails_leaves_nothing(trained, tmp_path, monkeypatch):
  def full(path, content):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(run_export, 'write_bytes', full)
  with pytest.raises(
    OSError, match=re.escape(f'No space left on device: {str(tmp_path / "out")!r}')
  ):
    tpa.export_model(trained[0], tmp_path / 'out', format='npz')
  assert not list(tmp_path.iterdir())
  monkeypatch.undo()
  tpa.export_model(trained[0], tmp_path / 'out', format='npz')
  assert len([*(tmp_path / 'out').iterdir()]) == 3


def test_an_earlier_round_can_be_chosen_while_it_is_kept(trained, tmp_path):
  path, weights = trained
  card = tpa.export_model(path, tmp_path / 'out', format='npz', round_number=3)
  assert card['model']['round'] == 3
  with np.load(tmp_path / 'out/model.npz') as found:
    assert not np.array_equal(found['trainable_0'], weights[0])
  with pytest.raises(
    ConfigurationError, match='no checkpoint of round 1; it keeps those of 2, 3, 4'
  ):
    tpa.export_model(path, tmp_path / 'other', format='npz', round_number=1)


def _open_a_charge(run):
  with process_with().open_ledger(run / 'ledger.jsonl') as ledger:
    ledger.charge(5, planned_survivors=SIZE, cohort=IDS[:SIZE])


def _forge(run):
  file = run / 'ledger.jsonl'
  file.write_text(file.read_text().replace('"survivors":4', '"survivors":5', 1))


def _forget_a_checkpoint(run):
  shutil.rmtree(run / 'checkpoints/program_state_4')


def _lose(run):
  (run / 'ledger.jsonl').unlink()


DOUBTS = {
  'open': (_open_a_charge, 'a charge of round 5 is open'),
  'forged': (_forge, 'it does not verify'),
  'behind': (_forget_a_checkpoint, 'settled round 4 last, and the last checkpoint is of round 3'),
  'lost': (_lose, 'there is none, so that nothing is promised'),
}


@pytest.mark.parametrize(('change', 'sentence'), DOUBTS.values(), ids=DOUBTS.keys())
def test_what_the_ledger_does_not_vouch_for_needs_a_flag(run, tmp_path, change, sentence):
  change(run)
  with pytest.raises(LedgerError, match=sentence):
    tpa.export_model(run, tmp_path / 'out', format='npz')
  assert not (tmp_path / 'out').exists()
  card = tpa.export_model(run, tmp_path / 'out', format='npz', anyway=True)
  assert sentence in card['warnings'][0]
  assert f'> **{card["warnings"][0]}**' in (tmp_path / 'out/MODEL_CARD.md').read_text()


def test_a_round_that_ran_again_after_a_crash_can_be_exported(run, tmp_path):
  """The charge of the attempt that was cut off stays open, and counts at its worst."""
  with process_with().open_ledger(run / 'ledger.jsonl') as ledger:
    before = ledger.epsilon('server')
    ledger.charge(4, planned_survivors=SIZE, cohort=IDS[:SIZE])
    worse = ledger.epsilon('server')
  assert worse > before
  card = tpa.export_model(run, tmp_path / 'out', format='npz')
  (warning,) = card['warnings']
  assert warning.startswith('An attempt at round 4 has no recorded end')
  assert f'> **{warning}**' in (tmp_path / 'out/MODEL_CARD.md').read_text()
  stated = float(re.search(r'epsilon ([\d.]+)', card['promises'][0])[1])
  assert worse <= stated <= worse + 1e-3 * worse


def larger():
  return tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[3]), tf.keras.layers.Dense(1)]
  )


@pytest.mark.parametrize(
  ('changed', 'sentence'),
  [
    ({'format': 'onnx'}, '`format` must be one of'),
    ({'format': 'keras', 'model': None}, 'needs the model that was trained'),
    ({'model': larger}, r'shapes \[\(2, 1\), \(1,\)\]; the model has \[\(3, 1\), \(1,\)\]'),
  ],
)
def test_exports_that_cannot_be_are_refused(trained, tmp_path, changed, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    tpa.export_model(trained[0], tmp_path / 'out', **{'model': model_fn, **changed})
  assert not (tmp_path / 'out').exists()
  with pytest.raises(ConfigurationError, match='has no checkpoint of a training'):
    tpa.export_model(tmp_path, tmp_path / 'out')


MODULE = 'from test_training import model_fn as model\n'


def test_the_command_exports_a_served_run_with_the_users_model(run, tmp_path, monkeypatch, capsys):
  """The config of a server names a process; the model is asked for."""
  config = {'task': 'mine', 'clients': None, 'process': 'mine_exported:process'}
  (run / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'mine_exported.py').write_text(MODULE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.delitem(sys.modules, 'mine_exported', raising=False)
  assert cli.main(['export', str(run)]) == 2
  assert 'needs the model that was trained' in capsys.readouterr().err
  assert cli.main(['export', str(run), '--model', 'mine_exported:model']) == 0
  said = capsys.readouterr().out
  assert 'MODEL_CARD.md, privacy_card.json' in said
  assert 'epsilon' in said
  assert tf.keras.models.load_model(run / 'export/model').predict(X, verbose=0).shape == (2, 1)
  assert cli.main(['export', str(run), '--model', 'mine_exported:model']) == 2
  assert 'an export makes a new directory' in capsys.readouterr().err


def test_the_command_exports_its_own_training(tmp_path, capsys):
  small = ['--population', '20', '--clients-per-round', '10', '--rounds', '1']
  assert cli.main(['train', '--run-dir', str(tmp_path / 'run'), *small]) == 0
  capsys.readouterr()
  assert cli.main(['export', str(tmp_path / 'run'), '--format', 'keras', '--json']) == 0
  card = json.loads(capsys.readouterr().out)
  assert {'loss', 'accuracy'} == {*card['model']['metrics']}
  keras = tf.keras.models.load_model(tmp_path / 'run/export/model.keras')
  assert keras.predict(np.zeros([1, 64], np.float32), verbose=0).shape == (1, 10)

"""What users copy: the folder for their own data, and a program of TFF's."""

import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tff_privacy_agg import cli
from tff_privacy_agg.ledger import LedgerRecord

pytestmark = pytest.mark.integration
EXAMPLES = pathlib.Path(__file__).parents[2] / 'examples'


@pytest.fixture
def folder(tmp_path, monkeypatch):
  shutil.copytree(EXAMPLES / 'own_data', tmp_path / 'mine')
  monkeypatch.chdir(tmp_path / 'mine')
  yield tmp_path / 'mine'
  sys.modules.pop('orders', None)


def test_the_example_trains_exports_and_verifies(folder, capsys):
  assert cli.main(['train', '--config', 'run.toml', '--rounds', '3']) == 0
  summary = json.loads((folder / 'run/summary.json').read_text())
  assert summary['rounds'] == 3
  assert summary['epsilon'] <= 8.0
  assert {*summary['metrics']} == {'accuracy', 'auc', 'loss'}
  assert 'auc' in capsys.readouterr().out
  assert cli.main(['verify', 'run/ledger.jsonl']) == 0
  assert cli.main(['export', 'run', '--format', 'keras']) == 0
  model = tf.keras.models.load_model(folder / 'run/export/model.keras')
  assert model(np.zeros([1, 3], np.float32)).shape == (1, 1)


def test_the_orders_are_those_that_the_script_makes(folder):
  before = (folder / 'orders.csv').read_bytes()
  made = {'__name__': '__main__', '__file__': str(folder / 'make_orders.py')}
  exec((folder / 'make_orders.py').read_text(), made)
  assert (folder / 'orders.csv').read_bytes() == before


def test_tffs_program_trains_and_goes_on_where_it_was(tmp_path):
  for _ in range(2):
    ended = subprocess.run(
      [sys.executable, EXAMPLES / 'train_model_program.py', tmp_path],
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=300,
      check=False,
    )
    assert ended.stdout.startswith('3 rounds: epsilon '), ended.stderr
  record = LedgerRecord.read(tmp_path / 'ledger.jsonl')
  assert record.state.rounds == 3
  assert not record.state.open

"""The statement in TensorBoard, and rounds, ledger and statement in an MLflow run."""

import asyncio
import math
import pathlib
import re
import sys
import textwrap

import numpy as np
import pytest
import tensorflow as tf

import tff_privacy_agg as tpa
from tff_privacy_agg import cli
from tff_privacy_agg.learning import MLflowReleaseManager, StatementReleaseManager
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger, verify

pytestmark = pytest.mark.integration

SMALL = ['--population', '20', '--clients-per-round', '10', '--noise-multiplier', '2']
METRICS = {
  'accuracy': np.float32(0.5),
  'aggregator': {'privacy': {'epsilon': math.inf, 'accepted': True}},
  'nothing': math.nan,
  'word': 'text',
  'vector': np.zeros(3),
}


def events(folder, tag):
  """Values of a tag by step."""
  found = {}
  for file in folder.glob('events*'):
    for event in tf.compat.v1.train.summary_iterator(str(file)):
      for value in event.summary.value:
        if value.tag == tag:
          found[event.step] = tf.make_ndarray(value.tensor)
  return found


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  path = tmp_path_factory.mktemp('runs') / 'run'
  assert cli.main(['train', '--run-dir', str(path), *SMALL, '--rounds', '2']) == 0
  return path


def test_a_training_shows_its_statement_beside_its_numbers(trained):
  shown = events(trained / 'tensorboard/privacy', 'privacy/statement')
  assert sorted(shown) == [1, 2]
  ledger = LedgerRecord.read(trained / 'ledger.jsonl')
  text = shown[2].item().decode()
  assert text == textwrap.indent(ledger.statement(), '    ')
  assert shown[1] != shown[2]
  assert f'epsilon {ledger.epsilon("server"):.3g}'[:-1] in text
  numbers = events(trained / 'tensorboard', 'ledger/epsilon')
  assert numbers[2] == pytest.approx(ledger.epsilon('server'))


def test_the_statement_is_the_ledgers_and_not_the_metrics(trained, tmp_path):
  with PrivacyLedger(trained / 'ledger.jsonl') as ledger:
    manager = StatementReleaseManager(tmp_path, ledger)
    asyncio.run(manager.release({'ledger/epsilon': 0.0}, np.int64(7)))
    assert (
      ledger.statement().splitlines()[0] in events(tmp_path, 'privacy/statement')[7].item().decode()
    )


def test_without_mlflow_the_error_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'mlflow', None)
  with pytest.raises(tpa.RuntimeUnavailableError, match='make env-mlflow'):
    MLflowReleaseManager('run')


@pytest.fixture
def mlflow_run(tmp_path, monkeypatch):
  pytest.importorskip('mlflow', reason='the extra mlflow is not installed: `make test-mlflow`')
  import mlflow

  monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')  # later versions ask for a database
  uri = (tmp_path / 'mlruns').as_uri()
  client = mlflow.MlflowClient(uri)
  run = client.create_run(client.create_experiment('test'))
  return client, run.info.run_id, uri


def test_mlflow_has_numbers_ledger_and_statement(mlflow_run, trained, tmp_path):
  client, run_id, uri = mlflow_run
  with PrivacyLedger(trained / 'ledger.jsonl') as ledger:
    manager = MLflowReleaseManager(run_id, ledger=ledger, tracking_uri=uri)
    for number in (1, 2):
      asyncio.run(manager.release({**METRICS, 'accuracy': number / 4}, number))
    statement = ledger.statement()
  found = client.get_run(run_id).data.metrics
  assert found == {
    'accuracy': 0.5,
    'aggregator/privacy/epsilon': math.inf,
    'aggregator/privacy/accepted': 1.0,
  }
  history = client.get_metric_history(run_id, 'accuracy')
  assert [(one.step, one.value) for one in history] == [(1, 0.25), (2, 0.5)]
  kept = {one.path for one in client.list_artifacts(run_id, 'privacy')}
  assert kept == {'privacy/ledger.jsonl', 'privacy/statement.txt'}
  there = client.download_artifacts(run_id, 'privacy', str(tmp_path))
  assert pathlib.Path(there, 'statement.txt').read_text(encoding='utf-8') == statement
  assert verify(f'{there}/ledger.jsonl').ok


def test_the_code_in_the_documents_runs(mlflow_run, simulation, tmp_path, monkeypatch):
  import mlflow

  client, _, uri = mlflow_run
  page = (pathlib.Path(__file__).parents[2] / 'docs/report.md').read_text(encoding='utf-8')
  (code,) = re.findall(r'```python not run: [^\n]*test-mlflow[^\n]*\n(.*?)```', page, re.DOTALL)
  task = TrainingTask(population=20, clients_per_round=10, noise_multiplier=2.0)
  examples = task.load()
  names = {
    'tpa': tpa,
    'process': task.process(),
    'client_data': examples.train.preprocess(task.preprocess),
    'cohorts': task.cohorts(examples),
  }
  monkeypatch.chdir(tmp_path)
  pathlib.Path('runs/mine').mkdir(parents=True)
  mlflow.set_tracking_uri(uri)
  exec(compile(code.replace('50', '2'), 'report.md', 'exec'), names)
  found = client.get_metric_history(names['run'].info.run_id, 'ledger/epsilon')
  ledger = LedgerRecord.read('runs/mine/ledger.jsonl')
  assert [one.step for one in found] == [1, 2]
  assert found[-1].value == pytest.approx(ledger.epsilon('server'))


def test_a_run_that_mlflow_does_not_know_is_refused(mlflow_run):
  with pytest.raises(tpa.ConfigurationError, match='Start a run'):
    MLflowReleaseManager('0' * 32, tracking_uri=mlflow_run[2])

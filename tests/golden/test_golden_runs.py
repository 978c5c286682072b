"""Runs that version 0.1 left on disk are read as they were, or refused in a sentence."""

import csv
import dataclasses
import json
import pathlib
import shutil

import pytest

from tff_privacy_agg import deployment
from tff_privacy_agg.cli import main
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import RunDirectory
from tff_privacy_agg.ledger import LedgerRecord, verify

HERE = pathlib.Path(__file__).parent
# Epsilons that version 0.1 stated: (server, release).
STATED = {
  'trained': (1.6892463595326288, 1.6892463595326288),
  'central': (float('inf'), 1.6892464507315772),
  'served': (2.287584686142747, 2.287584686142747),
}


@pytest.fixture(params=STATED)
def run(request, tmp_path):
  shutil.copytree(HERE / request.param, tmp_path / request.param)
  return tmp_path / request.param


def test_the_ledger_verifies_and_states_what_it_did(run):
  ledger = run / 'ledger.jsonl'
  assert verify(ledger).problems == ()
  record = LedgerRecord.read(ledger)
  found = tuple(record.epsilon(view) for view in ('server', 'release'))
  assert found == pytest.approx(STATED[run.name], rel=1e-9)
  assert record.state.rounds == 3
  with (run / 'metrics.csv').open(newline='') as lines:
    assert float(list(csv.DictReader(lines))[-1]['ledger/epsilon']) == pytest.approx(found[0])


def test_the_report_shows_the_run(run, tmp_path, capsys):
  assert main(['report', str(run), '--output', str(tmp_path / 'report.html')]) == 0
  text = (tmp_path / 'report.html').read_text()
  assert ('2.28' if run.name == 'served' else '1.6') in text


def test_a_training_whose_rounds_were_priced_otherwise_is_refused_in_a_sentence(
  tmp_path, capsys, monkeypatch
):
  shutil.copytree(HERE / 'trained', tmp_path / 'trained')
  monkeypatch.chdir(tmp_path)
  before = (tmp_path / 'trained' / 'ledger.jsonl').read_bytes()
  config = json.loads((tmp_path / 'trained' / 'config.json').read_text())
  same = [f'--{name.replace("_", "-")}={config[name]}' for name in ('rounds', 'population')]
  same += ['--clients-per-round=10', '--local-epochs=1', '--seed=3', '--run-dir=trained']
  same[0] = '--rounds=4'
  assert main(['train', *same]) == 2
  said = capsys.readouterr().err
  assert 'schema 2, written by tff_privacy_agg 0.1.0, which priced rounds otherwise' in said
  assert 'Traceback' not in said
  assert (tmp_path / 'trained' / 'ledger.jsonl').read_bytes() == before


def trained_again(tmp_path, *more):
  config = json.loads((tmp_path / 'trained' / 'config.json').read_text())
  same = [f'--population={config["population"]}', '--clients-per-round=10', '--local-epochs=1']
  return main(['train', *same, '--seed=3', '--run-dir', str(tmp_path / 'trained'), *more])


def test_a_finished_training_takes_no_rounds_that_are_priced_otherwise(tmp_path, capsys):
  shutil.copytree(HERE / 'trained', tmp_path / 'trained')
  ledger = tmp_path / 'trained' / 'ledger.jsonl'
  before = ledger.read_bytes()
  assert trained_again(tmp_path, '--rounds=4') == 2
  (sentence,) = capsys.readouterr().err.splitlines()[-1:]
  assert 'is of schema 2' in sentence
  assert 'start' in sentence
  assert ledger.read_bytes() == before


def test_another_training_is_refused_before_a_charge(tmp_path, capsys):
  shutil.copytree(HERE / 'trained', tmp_path / 'trained')
  before = (tmp_path / 'trained' / 'ledger.jsonl').read_bytes()
  assert trained_again(tmp_path, '--rounds=4', '--client-learning-rate=0.5') == 2
  (sentence,) = capsys.readouterr().err.splitlines()[-1:]
  assert 'these differ: client_learning_rate' in sentence
  assert (tmp_path / 'trained' / 'ledger.jsonl').read_bytes() == before


def test_a_served_run_goes_on_with_its_session_and_no_other(tmp_path):
  """The directory of version 0.1 wrote 0 and '' for unset, and did not name its process."""
  shutil.copytree(HERE / 'served', tmp_path / 'served')
  session = {'task': 'breast-cancer', 'clients': None, **dataclasses.asdict(deployment.Session())}
  config = {**session, 'process': 'hospitals:process'}
  for other in ({'minimum_clients': 4}, {'task': 'another'}, {'clients': 3}, {'verify': 'mac'}):
    with pytest.raises(ConfigurationError, match=f'these differ: {next(iter(other))}'):
      RunDirectory(tmp_path / 'served', {**config, **other})
  directory = RunDirectory(tmp_path / 'served', config)
  assert directory.last_metrics()['ledger/epsilon'] == pytest.approx(STATED['served'][0])
  with pytest.raises(ConfigurationError, match='these differ: process'):
    RunDirectory(tmp_path / 'served', {**config, 'process': 'elsewhere:process'})


def test_the_configuration_of_a_served_run_is_refused_with_the_new_keys(tmp_path, capsys):
  (tmp_path / 'server.toml').write_text((HERE / 'served' / 'server.toml').read_text())
  assert main(['serve', '--config', str(tmp_path / 'server.toml')]) == 2
  (sentence,) = capsys.readouterr().err.splitlines()
  assert "'[run] process' is now `[process] source`" in sentence

"""Run directories and configurations that were damaged or edited at random, in `export`, resume and `train`.

Each ends as it should, or in a sentence; and what a ledger has charged stays charged.
"""

import dataclasses
import functools
import random
import shutil

import pytest
from damaged_files import answer, answer_of_process, edit, edit_one, mutations, restored
from test_training import process_with, train

import tff_privacy_agg as tpa
from tff_privacy_agg.cli import train as train_command
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError
from tff_privacy_agg.learning import RunDirectory
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord, verify

ROUNDS = 4
TOML = """
[run]
rounds = 3
seed = 4
[data]
source = "digits"
population = 20
[cohort]
clients_per_round = 10
[privacy]
noise_multiplier = 2.75
mechanism = "discrete_gaussian"
bits = 16
delta = 0.004
metrics = "none"
[training]
algorithm = "fed_avg"
client_learning_rate = 1.0
local_epochs = 1
batch_size = 10
[session]
mode = "simulated"
"""
VALUES = ['""', '"x"', '-1', '0', '1e400', 'nan', 'inf', 'true', '[]', '[1]', '{ a = 1 }', '0.5']
VALUES += ['99999999999999999999', '1979-05-27', '"é"', "'''", '= =', '1e-320', '3', '"private"']


@pytest.fixture(scope='module')
def process(simulation_worker):
  with tpa.runtime.use(simulation_worker):
    return process_with()


@pytest.fixture(scope='module')
def whole(simulation_worker, process, tmp_path_factory):
  path = tmp_path_factory.mktemp('trained') / 'run'
  with tpa.runtime.use(simulation_worker):
    train(process, ROUNDS, path)
  (path / 'summary.json').write_text('{"rounds": 4, "loss": 0.5, "accuracy": null}')
  shutil.rmtree(path / 'tensorboard')
  return path


@pytest.fixture
def run(whole, tmp_path):
  return functools.partial(restored, whole, tmp_path / 'run')


@mutations(8)
def test_export_never_raises_over_edited_files(run, tmp_path, mutations):
  chance = random.Random(mutations)
  for _ in range(mutations):
    edit_one(run(), chance)
    shutil.rmtree(tmp_path / 'out', ignore_errors=True)
    found, _ = answer(['export', run.args[1], '--format', 'npz', '--output', tmp_path / 'out'])
    assert found != 1
    assert (found == 0) == (tmp_path / 'out' / 'privacy_card.json').exists()


@mutations(8)
def test_resuming_never_raises_and_takes_back_no_charge(run, process, mutations, simulation_worker):
  chance = random.Random(mutations)
  with tpa.runtime.use(simulation_worker):
    for _ in range(mutations):
      path = run()
      edit_one(path, chance)
      ledger = path / 'ledger.jsonl'
      sound = ledger.exists() and verify(ledger).ok
      before = LedgerRecord.read(ledger) if sound else None
      try:
        result, _ = train(process, ROUNDS, path)
      except PrivacyAggError as error:
        str(error).encode('utf-8')
        continue
      assert result.rounds_done == ROUNDS
      after = LedgerRecord.read(ledger)
      assert after.state.rounds >= ROUNDS
      if before:
        assert after.state.rounds >= before.state.rounds
        assert after.epsilon('server') >= before.epsilon('server')


def edited_toml(file, chance):
  file.write_text(TOML)
  if chance.random() < 0.3:
    edit(file, chance)
    return
  lines = TOML.splitlines()
  at = chance.choice([number for number, line in enumerate(lines) if line])
  key, _, _ = lines[at].partition(' = ')
  lines[at] = f'{key} = {chance.choice(VALUES)}' if chance.random() < 0.8 else ''
  file.write_text('\n'.join(lines), encoding='utf-8')


@pytest.fixture
def _stops_before_it_trains(monkeypatch):
  def stop(task):
    raise ConfigurationError('The configuration was read.')

  monkeypatch.setattr(train_command, '_context', stop)


@pytest.mark.usefixtures('_stops_before_it_trains')
@mutations(60)
def test_train_never_raises_for_a_configuration(tmp_path, monkeypatch, mutations):
  monkeypatch.chdir(tmp_path)
  chance = random.Random(mutations)
  for _ in range(mutations):
    edited_toml(tmp_path / 'run.toml', chance)
    found, _ = answer(['train', '--config', tmp_path / 'run.toml'])
    assert found == 2


@pytest.mark.usefixtures('_stops_before_it_trains')
@mutations(20)
def test_train_never_raises_for_what_a_directory_says_of_itself(tmp_path, mutations):
  options = ['--population', '20', '--clients-per-round', '10', '--target-epsilon', '5']
  task = TrainingTask(population=20, clients_per_round=10, target_epsilon=5.0)
  RunDirectory(tmp_path / 'whole', {**dataclasses.asdict(task), 'planned_rounds': 30})
  chance = random.Random(mutations)
  for _ in range(mutations):
    edit(restored(tmp_path / 'whole', tmp_path / 'run') / 'config.json', chance)
    if (tmp_path / 'run' / 'config.json').exists():  # else the noise is planned, which takes long
      found, _ = answer(['train', *options, '--run-dir', tmp_path / 'run'])
      assert found == 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_command_raises_over_edited_files(run, tmp_path):
  chance = random.Random(20)
  for number in range(20):
    edit_one(run(), chance)
    out = tmp_path / f'out{number}'
    answer_of_process(['export', run.args[1], '--format', 'npz', '--output', out])
    edited_toml(tmp_path / 'run.toml', chance)
    limits = ['--rounds', '1', '--run-dir', tmp_path / f'run{number}']
    answer_of_process(['train', '--config', tmp_path / 'run.toml', *limits])

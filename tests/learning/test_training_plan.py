"""Plans of whole trainings: numbers, stack, account and configuration belong together."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow_federated as tff
from test_training import model_fn

import tff_privacy_agg as tpa
from tff_privacy_agg import cli
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError
from tff_privacy_agg.learning.preparation.target_noise import noise_for_target
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger

pytestmark = pytest.mark.integration

SMALL = {'rounds': 12, 'clients_per_round': 40, 'population': 200}
VECTOR = tff.TensorType(np.float32, [650])


def rounds_admitted(path, facts, budget, cohort, most=20):
  """Rounds that a ledger admits, each with all its clients, and the epsilon of them."""
  with PrivacyLedger(path, facts, budget=budget) as ledger:
    for number in range(1, most + 1):
      try:
        charge = ledger.charge(number, planned_survivors=cohort)
      except BudgetExceededError:
        return number - 1, ledger.epsilon(budget.view)
      ledger.settle(charge, survivors=cohort, counted_by='runtime')
  return most, ledger.epsilon(budget.view)


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
@pytest.mark.parametrize('dropout', [0.0, 0.1])
def test_a_plans_stack_and_account_admit_exactly_its_rounds(tmp_path, mechanism, dropout):
  planned = tpa.plan(
    target_epsilon=8.0, parameters=650, mechanism=mechanism, dropout=dropout, **SMALL
  )
  account = planned.accounting(task='a test')
  facts = account.facts(planned.stack().bind(VECTOR).facts(), randomness='chacha20')
  fewest = planned.minimum_clients
  rounds, epsilon = rounds_admitted(tmp_path / 'l.jsonl', facts, account.budget, fewest)
  assert rounds == 12
  assert 7.9 <= epsilon <= 8.0
  assert planned.cohort == planned.stack().cohort


def test_the_parameters_of_a_model_are_counted():
  planned = tpa.plan(target_epsilon=8.0, parameters=model_fn, **SMALL)
  assert planned.parameters == 3


@pytest.mark.parametrize(
  ('changed', 'sentence'),
  [
    ({'parameters': 0}, '`parameters` must be at least 1'),
    (
      {'parameters': 'large'},
      '`parameters` must be the number of trainable parameters, or a model',
    ),
    ({'parameters': 650.0}, '`parameters` must be the number'),
    ({'parameters': lambda: 3}, 'refuses the model or an option'),
    ({'target_epsilon': -1.0}, '`target_epsilon` must be finite and positive'),
    ({'bits': 6}, r'6 bits .* an epsilon of 8 needs over 12 rounds, .* Set `bits` to 8 or more'),
  ],
)
def test_plans_that_cannot_be_are_refused(changed, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    tpa.plan(**{'target_epsilon': 8.0, 'parameters': 650, **SMALL, **changed})


def test_a_vacuous_target_and_an_absurd_size_are_said_to_be_so():
  with pytest.warns(UserWarning, match='epsilon of 100000 promises next to nothing') as caught:
    vacuous = tpa.plan(target_epsilon=1e5, parameters=650, bits=14, **SMALL)
  assert str(caught[0].message) in vacuous.numbers.reasons
  with pytest.warns(UserWarning, match=r'would send 19\.4 GB a round for 7e\+09 parameters'):
    tpa.plan(target_epsilon=8.0, parameters=7_000_000_000, bits=22, **SMALL)


def test_what_a_plan_cannot_hand_on_is_refused():
  planned = tpa.plan(target_epsilon=8.0, parameters=650, dropout=0.1, **SMALL)
  with pytest.raises(ConfigurationError, match='`train` runs on one machine'):
    planned.toml()
  sampled = tpa.plan(target_epsilon=8.0, parameters=650, bits=16, sampling='poisson', **SMALL)
  with pytest.raises(ConfigurationError, match="Plan with 'none' or 'without_replacement'"):
    sampled.accounting()


TASKS = {
  'plain': {},
  'skellam': {'mechanism': 'skellam'},
  'private metrics': {'metrics': 'private'},
  'mime': {'algorithm': 'mime_lite'},
  'central': {'mechanism': 'gaussian'},
}


@pytest.mark.parametrize('changed', TASKS.values(), ids=TASKS.keys())
def test_the_noise_for_a_target_admits_exactly_the_rounds(tmp_path, changed):
  asked = TrainingTask(target_epsilon=8.0, **SMALL, **changed)
  task = dataclasses.replace(asked, noise_multiplier=noise_for_target(asked))
  process = task.process()
  rounds, epsilon = rounds_admitted(tmp_path / 'l.jsonl', process.facts, process.budget, 40)
  assert rounds == 12
  assert 7.9 <= epsilon <= 8.0


def test_bits_that_cannot_carry_the_noise_say_how_many_can():
  with pytest.raises(ConfigurationError, match=r'5 bits .* Set `bits` to 8 or more'):
    noise_for_target(TrainingTask(target_epsilon=8.0, bits=5, **SMALL))


ARGUMENTS = ['--population', '20', '--clients-per-round', '10']


def test_train_makes_the_noise_for_the_target_once(tmp_path, capsys):
  run = ['train', '--run-dir', str(tmp_path / 'run'), *ARGUMENTS, '--target-epsilon', '8']
  assert cli.main([*run, '--rounds', '2']) == 0
  said = capsys.readouterr().out
  config = json.loads((tmp_path / 'run/config.json').read_text())
  noise = config['noise_multiplier']
  assert f'noise multiplier {noise:g}, planned for epsilon 8 over 2 rounds' in said
  assert config['planned_rounds'] == 2
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  assert record.spent('server').rounds == 2
  assert 7.9 <= record.epsilon('server') <= 8.0
  # More rounds than planned end at the budget, with the noise of the first start.
  assert cli.main([*run, '--rounds', '4']) == 0
  said = capsys.readouterr().out
  assert f'noise multiplier {noise:g}, planned for epsilon 8 over 2 rounds' in said
  assert 'stopped after 2 of 4 rounds: the privacy budget is spent' in said
  assert json.loads((tmp_path / 'run/config.json').read_text())['noise_multiplier'] == noise


def test_a_plan_is_a_file_that_train_takes(tmp_path, capsys):
  file = tmp_path / 'run.toml'
  plan = ['plan', '--target-epsilon', '8', '--rounds', '1', '--parameters', '650', *ARGUMENTS]
  assert cli.main([*plan, '--write', str(file)]) == 0
  assert cli.main([*plan, '--write', str(file)]) == 2
  assert 'exists; --write makes a new file' in capsys.readouterr().err
  assert cli.main(['train', '--config', str(file), '--run-dir', str(tmp_path / 'run')]) == 0
  assert LedgerRecord.read(tmp_path / 'run/ledger.jsonl').epsilon('server') <= 8.0
  assert 'stopped' not in capsys.readouterr().out

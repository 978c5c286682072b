"""One loop: what is refused before a charge, tried again, ended by the budget, resumed."""

import dataclasses
import json

import pytest
import tensorflow as tf
import tensorflow_federated as tff
from test_training import IDS, SIZE, cohorts, examples_of, model_fn, process_with, train

import tff_privacy_agg as tpa
from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.rounds.source import LocalRounds
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.runtime import RandomDrops, SecAggContext, use

pytestmark = pytest.mark.integration


@pytest.fixture(scope='module')
def process():
  return process_with()


class FailIn(RandomDrops):
  """All clients drop out of these sessions, after their keys are known."""

  sessions = ()

  def plan(self, session, clients):
    return dict.fromkeys(range(clients), 2) if session in self.sessions else {}


def secure(sessions=(), **changed):
  drops = FailIn(rate=0.5)
  object.__setattr__(drops, 'sessions', sessions)
  arguments = {'minimum_clients': SIZE, 'dropout_fraction': 0.0, 'colluding_fraction': 0.0}
  return SecAggContext(drops=drops, **{**arguments, **changed})


def charges(path):
  lines = [json.loads(line) for line in (path / 'ledger.jsonl').read_text().splitlines()]
  return [line['round'] for line in lines if line['event'] == 'charge']


@pytest.mark.parametrize(
  ('mode', 'open_rounds', 'taken_back'), [('semi_honest', 0, 4), ('authenticated', 4, 0)]
)
def test_a_round_without_a_sum_runs_again_and_each_attempt_is_charged(
  process, tmp_path, mode, open_rounds, taken_back
):
  context, run = secure({2, 4, 5, 6}, mode=mode), tmp_path / 'run'
  lines = []
  with use(context), pytest.raises(secagg.SecAggError):
    train(process, 3, run, report=lines.append)
  failed = [line for line in lines if 'has no sum' in line]
  assert [line.split(':')[0] for line in failed] == [
    'round 2 has no sum, attempt 1 of 3',
    *(f'round 3 has no sum, attempt {attempt} of 3' for attempt in (1, 2, 3)),
  ]
  assert charges(run) == [1, 2, 2, 3, 3, 3]
  state = LedgerRecord.read(run / 'ledger.jsonl').state
  # Their clients left before anybody was asked for a share; of an honest server that is known.
  assert (state.rounds, state.unsettled, state.unopened) == (
    2 + open_rounds,
    open_rounds,
    taken_back,
  )
  said = 'it showed nothing, and costs nothing' if taken_back else 'it stays charged: epsilon'
  assert all(said in line for line in failed)
  # The same call goes on, in further sessions.
  with use(context):
    result, lines = train(process, 3, run)
  context.close()
  assert (result.rounds_run, result.rounds_done) == (1, 3)
  assert result.metrics['survivors'] == SIZE


@pytest.mark.parametrize(
  ('changed', 'sentence'),
  [
    (
      {'minimum_clients': 3},
      r'at least 4 clients .*; a session opens sums of 3',
    ),
    ({'colluding_fraction': 0.25}, '1 of 4 clients collude, .* sum of 4 .* counts 4 honest'),
  ],
  ids=['threshold', 'colluders'],
)
def test_what_the_sums_do_not_keep_is_refused_before_a_charge(process, tmp_path, changed, sentence):
  context = secure(**changed)
  with use(context), pytest.raises(ConfigurationError, match=sentence):
    train(process, 1, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    with use(context), pytest.raises(ConfigurationError, match=sentence):
      train(process, 1, ledger=ledger)
    assert ledger.state.rounds == 0
  context.close()


def test_a_cohort_that_the_ledger_cannot_settle_is_refused_before_its_charge(
  simulation, process, tmp_path
):
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    large = tpa.UniformCohorts(client_ids=IDS, size=process.facts.maximum + 1)
    with pytest.raises(ConfigurationError, match=r'6 clients a round; .* admits at most 5'):
      train(process, 1, ledger=ledger, cohorts=large)
    assert ledger.state.rounds == 0


def test_a_process_that_has_spent_its_budget_asks_no_client(simulation, monkeypatch):
  asked = []
  run = LocalRounds.run

  def counted(self, state, cohort):
    asked.append(cohort)
    return run(self, state, cohort)

  monkeypatch.setattr(LocalRounds, 'run', counted)
  process = process_with(budget=tpa.Budget(epsilon=3.0, delta=1e-3))
  result, _ = train(process, 50)
  assert result.stopped == 'budget'
  assert len(asked) == result.rounds_run


def history(path):
  return [json.loads(line) for line in (path / 'history.jsonl').read_text().splitlines()]


def test_more_rounds_go_on_and_the_history_says_so(simulation, process, tmp_path):
  run = tmp_path / 'run'
  train(process, 1, run)
  result, lines = train(process, 2, run)
  assert result.rounds_done == 2
  assert '2 rounds in all, 1 before' in lines
  assert [(line['rounds'], line['after']) for line in history(run)] == [(1, 0), (2, 1)]


def rebuilt(rate=0.1, model=model_fn, **account):
  return tpa.build_private_learning_process(
    'fed_avg',
    model,
    aggregator=tpa.ddp_secure_aggregator(3.0, SIZE),
    accounting=tpa.Accounting(population=len(IDS), minimum_clients=SIZE, **account),
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(rate),
    server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
  )


def test_other_learning_rates_or_clients_are_refused_on_resume(simulation, process, tmp_path):
  run = tmp_path / 'run'
  train(process, 1, run)
  with pytest.raises(ConfigurationError, match='these differ: hyperparameters'):
    train(rebuilt(rate=0.2), 2, run)
  others = tff.simulation.datasets.TestClientData(
    {one.replace('client', 'other'): examples_of(one) for one in IDS}
  )
  with pytest.raises(ConfigurationError, match='these differ: clients'):
    tpa.train(
      process,
      others,
      2,
      cohorts=dataclasses.replace(cohorts(), client_ids=others.client_ids),
      preprocess=lambda dataset: dataset.batch(2),
      run_directory=run,
      report=lambda line: None,
    )
  assert charges(run) == [1]


def test_another_loss_is_recorded_on_resume(simulation, process, tmp_path):
  def absolute():
    keras = tf.keras.Sequential(
      [tf.keras.layers.InputLayer(input_shape=[2]), tf.keras.layers.Dense(1)]
    )
    return tff.learning.models.from_keras_model(
      keras,
      loss=tf.keras.losses.MeanAbsoluteError(),
      input_spec=model_fn().input_spec,
    )

  run = tmp_path / 'run'
  train(process, 1, run)
  # The same code, built again, is the same.
  _, lines = train(rebuilt(), 1, run)
  assert not [line for line in lines if 'something else' in line]
  _, lines = train(rebuilt(model=absolute), 1, run)
  assert [line for line in lines if 'computes something else than before' in line]
  digests = [line['identity']['computation'] for line in history(run)]
  assert digests[0] == digests[1] != digests[2]

"""`tpa.train` and TFF's own program: charged before, settled after, stopped in time."""

import asyncio
import dataclasses
import functools
import types
from collections import OrderedDict

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import accounting
from tff_privacy_agg._tff import compat
from tff_privacy_agg.learning import training_loop as training
from tff_privacy_agg.learning.data_source import CohortIterator
from tff_privacy_agg.learning.ledger_release import settle
from tff_privacy_agg.ledger import LedgerRecord, verify
from tff_privacy_agg.reports.run_files import RunFiles

pytestmark = pytest.mark.integration

IDS = [f'client {i}' for i in range(12)]
SIZE = 4


def examples_of(client):
  x = np.random.default_rng(IDS.index(client)).normal(size=[4, 2]).astype(np.float32)
  return OrderedDict(x=x, y=x @ np.array([[1.0], [2.0]], np.float32))


DATA = tff.simulation.datasets.TestClientData({client: examples_of(client) for client in IDS})


def preprocess(dataset):
  return dataset.batch(2)


def model_fn():
  model = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[2]), tf.keras.layers.Dense(1)]
  )
  spec = OrderedDict(x=tf.TensorSpec([None, 2]), y=tf.TensorSpec([None, 1]))
  return tff.learning.models.from_keras_model(
    model, loss=tf.keras.losses.MeanSquaredError(), input_spec=spec
  )


def process_with(metrics='none', **account):
  sgd = tff.learning.optimizers.build_sgdm
  return tpa.build_private_learning_process(
    'fed_avg',
    model_fn,
    aggregator=tpa.ddp_secure_aggregator(3.0, SIZE),
    accounting=tpa.Accounting(population=len(IDS), minimum_clients=SIZE, **account),
    metrics=metrics,
    client_optimizer_fn=sgd(0.1),
    server_optimizer_fn=sgd(1.0),
  )


@pytest.fixture(scope='module')
def plain_process():
  return process_with()


def cohorts(seed=0):
  return tpa.UniformCohorts(client_ids=IDS, size=SIZE, seed=seed)


@pytest.fixture(autouse=True)
def _runs_in_simulation(simulation):
  """Every test here runs its computations."""


def train(process, rounds, where=None, **kwargs):
  lines = []
  kwargs = {'cohorts': cohorts(), 'report': lines.append, **kwargs}
  result = tpa.train(process, DATA, rounds, preprocess=preprocess, run_directory=where, **kwargs)
  return result, lines


def test_a_private_process_keeps_its_ledger_by_itself(plain_process, tmp_path):
  result, lines = train(plain_process, 3, tmp_path / 'run')
  assert result.rounds_run == 3
  assert result.stopped is None
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  assert record.spent('server').rounds == 3
  assert record.epsilon('server') == pytest.approx(result.metrics['ledger/epsilon'])
  assert record.epsilon('server') == pytest.approx(result.metrics['privacy/epsilon'], rel=1e-9)
  assert verify(tmp_path / 'run/ledger.jsonl').ok
  assert len([line for line in lines if line.startswith('round ')]) == 3
  again, lines = train(plain_process, 4, tmp_path / 'run')
  assert again.rounds_run == 1
  assert 'resuming after round 3' in ''.join(lines)


def test_a_training_runs_without_files(plain_process):
  result, _ = train(plain_process, 2, evaluate=lambda weights: {'accuracy': 0.5})
  assert result.metrics['accuracy'] == 0.5
  assert result.metrics['privacy/rounds'] == 2


def test_a_long_first_round_is_told_while_it_runs_and_once(plain_process, monkeypatch):
  quick = functools.partial(training.announced, every=0.001)
  monkeypatch.setattr(training, 'announced', quick)
  _, lines = train(plain_process, 2)
  waits = [line for line in lines if line.startswith('the first round: ')]
  assert waits
  assert all(line.endswith(' s so far') for line in waits)
  # None after it: its own line says how long it took.
  first = next(at for at, line in enumerate(lines) if line.startswith('round 1/2'))
  assert [line.split()[0] for line in lines[first:]] == ['round', 'round']


def test_it_stops_at_the_budget_of_ledger_and_process_and_stays_stopped(tmp_path):
  process = process_with(budget=tpa.Budget(epsilon=4.0, delta=1e-3))
  result, lines = train(process, 50, tmp_path / 'run')
  assert result.stopped == 'budget'
  assert 1 <= result.rounds_run < 50
  assert 'stopped before round' in lines[-1]
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  assert record.epsilon('server', 1e-3) <= 4.0
  assert record.spent('server').rounds == result.rounds_run
  again, _ = train(process, 50, tmp_path / 'run')
  assert (again.rounds_run, again.stopped) == (0, 'budget')
  # Without a ledger the process halts itself.
  alone, lines = train(process, 50)
  assert alone.stopped == 'budget'
  assert alone.rounds_run == result.rounds_run
  assert 'spent its budget' in lines[-1]


def epsilon_of_a_round(process, honest):
  price, account = process.facts.price, accounting.GaussianAccount()
  return account.epsilon(account.row(price, honest), process.facts.delta, price.distance(honest))[0]


def test_the_participation_cap_steers_the_cohorts(tmp_path):
  process = process_with(participation_cap=1)
  result, _ = train(process, 3, tmp_path / 'run')  # 12 clients, 4 a round, once each
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  one = epsilon_of_a_round(process, SIZE)
  assert record.epsilon('server') == pytest.approx(one, rel=1e-9)
  assert result.metrics['privacy/epsilon'] > 1.5 * one  # the state knows no participants
  with pytest.raises(tpa.ConfigurationError, match='train for at most 3 rounds'):
    train(process, 4, tmp_path / 'run')
  assert LedgerRecord.read(tmp_path / 'run/ledger.jsonl').spent('server').rounds == 3


def test_a_path_needs_a_process_that_says_what_it_is(tmp_path):
  bare = tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn, tff.learning.optimizers.build_sgdm(0.1)
  )
  with pytest.raises(tpa.ConfigurationError, match='build_private_learning_process'):
    train(bare, 1, tmp_path / 'run')


def test_a_training_that_keeps_no_ledger_has_a_report(tmp_path):
  bare = tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn, tff.learning.optimizers.build_sgdm(0.1)
  )
  train(bare, 1, tpa.learning.RunDirectory(tmp_path / 'run', {}))
  assert RunFiles.read(tmp_path / 'run').ledger is None


def run_program(simulation, process, rounds, where, ledger, discard=None):
  program = tff.learning.programs.train_model(
    train_process=process,
    train_data_source=tpa.CohortDataSource(DATA, cohorts(), preprocess=preprocess, ledger=ledger),
    train_per_round_clients=SIZE,
    train_total_rounds=rounds,
    should_discard_round=discard,
    program_state_manager=tff.program.FileProgramStateManager(str(where / 'states')),
    model_output_manager=tff.program.MemoryReleaseManager(),
    train_metrics_manager=tpa.PrivacyLedgerReleaseManager(ledger),
    evaluation_manager=None,
    evaluation_periodicity=1,
  )
  with tff.framework.get_context_stack().install(simulation.program_context()):
    asyncio.run(program)


def test_tffs_program_charges_settles_and_resumes(simulation, plain_process, tmp_path):
  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    run_program(simulation, plain_process, 2, tmp_path, ledger)
  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    run_program(simulation, plain_process, 3, tmp_path, ledger)
    assert not ledger.state.open
    assert [settled.survivors for settled in ledger.state.settled] == [SIZE] * 3
    assert ledger.state.rounds == 3


def test_a_round_that_tffs_program_discards_stays_charged(simulation, plain_process, tmp_path):
  seen = []

  def discard_the_second(output):
    seen.append(output)
    return len(seen) == 2

  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    run_program(simulation, plain_process, 3, tmp_path, ledger, discard_the_second)
    assert list(ledger.state.open.values()) == [2]
    assert len(ledger.state.settled) == 3
    assert ledger.spent('server').rounds == 4


def test_a_round_that_was_not_charged_is_not_settled(plain_process, tmp_path):
  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    manager = tpa.PrivacyLedgerReleaseManager(ledger)
    noise = ledger.state.costs.noise_multiplier(4)
    facts = {'survivors': 4, 'honest': 4, 'accepted': True, 'noise_multiplier': noise}
    metrics = {'aggregator': {'privacy': facts}}
    with pytest.raises(tpa.LedgerError, match='not charged before it ran'):
      asyncio.run(manager.release(metrics, 1))
    ledger.charge(1)
    with pytest.raises(tpa.LedgerError, match='have no'):
      asyncio.run(manager.release({'aggregator': ()}, 1))
    asyncio.run(manager.release(metrics, 1))
    assert not ledger.state.open


def test_an_iterator_survives_serialization_with_its_source():
  source = tpa.CohortDataSource(DATA, cohorts(), preprocess=preprocess)
  iterator = source.iterator()
  iterator.select()
  restored = CohortIterator.from_bytes(iterator.to_bytes())
  assert restored == iterator
  iterator.select(SIZE)
  restored.select(SIZE)
  assert restored.cohort == iterator.cohort == cohorts().cohort(2)
  with pytest.raises(tpa.ConfigurationError, match='the cohort sampler chose 4'):
    iterator.select(5)
  lost = iterator.to_bytes().replace(source.key.encode(), b'0')
  with pytest.raises(tpa.ConfigurationError, match='Make the `CohortDataSource`'):
    CohortIterator.from_bytes(lost)


def central_process(**account):
  return tpa.build_private_learning_process(
    'fed_avg',
    model_fn,
    aggregator=tpa.dp_aggregator(3.0, SIZE, maximum_clients=len(IDS)),
    accounting=tpa.Accounting(population=len(IDS), **account),
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
  )


def test_secret_cohorts_of_fixed_size_are_accounted_in_the_release_view_alone(tmp_path):
  secret = tpa.UniformCohorts(client_ids=IDS, size=SIZE, seed=None)
  process = central_process(sampling=secret.sampling)
  result, _ = train(process, 3, tmp_path / 'run', cohorts=secret)
  spent = LedgerRecord.read(tmp_path / 'run/ledger.jsonl').spent('release')
  assert spent.adjacency == 'replace_one'
  assert spent.epsilon == pytest.approx(result.metrics['ledger/release_epsilon'])
  costs = process.facts.costs()
  plain = costs.curve(1, adjacency='replace_one').scaled(3)
  assert 0 < spent.epsilon < accounting.epsilon(plain, process.facts.delta)[0]
  assert result.metrics['ledger/epsilon'] == float('inf')
  assert verify(tmp_path / 'run/ledger.jsonl').ok


def test_a_claim_that_practice_does_not_meet_is_refused(tmp_path):
  claimed = tpa.UniformCohorts(client_ids=IDS, size=SIZE, seed=None).sampling
  process = central_process(sampling=claimed)
  with pytest.raises(tpa.LedgerError, match='The sampler of round 1 says'):
    train(process, 1, tmp_path / 'run', cohorts=cohorts(seed=5))
  other = tpa.UniformCohorts(client_ids=IDS, size=SIZE - 1, seed=None)
  with pytest.raises(tpa.LedgerError, match='The sampler of round 1 says'):
    train(process, 1, tmp_path / 'run', cohorts=other)


def test_poisson_cohorts_claim_nothing_where_their_size_is_public():
  """The count of survivors tells whether one more client was drawn."""
  claimed = tpa.PoissonCohorts(client_ids=IDS, probability=0.7).sampling
  with pytest.raises(tpa.ConfigurationError, match='the proof needs it unknown'):
    central_process(sampling=claimed)


def test_a_ledger_of_another_process_is_refused(plain_process, tmp_path):
  quiet = process_with(participation_cap=5)
  with quiet.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    with pytest.raises(tpa.LedgerError, match='these differ: participation_cap'):
      train(plain_process, 1, ledger=ledger)
    assert ledger.state.rounds == 0


def test_noise_that_is_not_the_ledgers_is_not_settled(plain_process, tmp_path):
  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    ledger.charge(1)
    worst = ledger.epsilon('server')
    facts = {'survivors': 4, 'honest': 4, 'accepted': True, 'noise_multiplier': 0.5}
    with pytest.raises(tpa.LedgerError, match=r'round 1 had 0\.5'):
      asyncio.run(
        tpa.PrivacyLedgerReleaseManager(ledger).release({'aggregator': {'privacy': facts}}, 1)
      )
    assert ledger.epsilon('server') == worst


def test_clear_metrics_are_named_beside_the_epsilon(tmp_path):
  process = process_with(metrics='clear')
  result, lines = train(process, 1, tmp_path / 'run')
  assert result.metrics['ledger/complete'] is False
  assert 'NOT ALL IS COVERED' in lines[-1]


def test_a_round_with_facts_of_its_own_is_not_settled_for_one_of_the_training(
  plain_process, tmp_path
):
  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    noise = ledger.state.costs.noise_multiplier(4)
    facts = {'survivors': 4, 'honest': 4, 'accepted': True, 'noise_multiplier': noise}
    ledger.charge(1)
    # A question to the same clients, of the same number, that got no answer.
    question = ledger.charge(1, facts=dataclasses.replace(ledger.facts, task='a question'))
    settle(ledger, 1, {'aggregator': {'privacy': facts}}, counted=SIZE)
    assert list(ledger.state.open) == [question]


def test_a_client_that_counts_itself_twice_makes_no_noise(plain_process, tmp_path):
  """The count is a sum, too; what can be in it is known where the cohort is."""
  with plain_process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    noise = ledger.state.costs.noise_multiplier(5)
    facts = {'survivors': 5, 'honest': 5, 'accepted': True, 'noise_multiplier': noise}
    ledger.charge(1)
    settle(ledger, 1, {'aggregator': {'privacy': facts}}, counted=SIZE)
    assert ledger.state.settled[-1].survivors == SIZE


def released(process, path, counted, *, planned=None, protocol=False):
  """A ledger's epsilon after TFF's program released a round whose clients counted themselves."""
  with process.open_ledger(path) as ledger:
    ledger.charge(1, planned_survivors=planned)
    charged = ledger.epsilon('server')
    noise = ledger.state.costs.noise_multiplier(counted)
    facts = {'survivors': counted, 'honest': counted, 'accepted': True, 'noise_multiplier': noise}
    context = types.SimpleNamespace(**({'last_round': None} if protocol else {}))
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(compat, 'running_context', lambda: context)
      manager = tpa.PrivacyLedgerReleaseManager(ledger)
      asyncio.run(manager.release({'aggregator': {'privacy': facts}}, 1))
    assert not ledger.state.open
    return charged, ledger.epsilon('server'), ledger.state.settled[-1]


def test_a_client_that_counts_itself_ninety_times_lowers_no_epsilon_of_tffs_program(tmp_path):
  process = tpa.build_private_learning_process(
    'fed_avg',
    model_fn,
    aggregator=tpa.ddp_secure_aggregator(1.0, 10, maximum_clients=100),
    accounting=tpa.Accounting(population=1000, minimum_clients=10),
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
  )
  honest = epsilon_of_a_round(process, 10)
  for name, known in {
    'cohort': {'planned': 10},
    'nothing': {},
    'protocol': {'planned': 10, 'protocol': True},
  }.items():
    charged, spent, settled = released(process, tmp_path / f'{name}.jsonl', 100, **known)
    assert spent == pytest.approx(charged, rel=1e-12)
    assert spent >= honest * (1 - 1e-12)
    assert settled.counted_by == ('runtime' if name == 'cohort' else 'clients')
  # A count that hides survivors raises it.
  charged, spent, settled = released(process, tmp_path / 'full.jsonl', 12, planned=12)
  assert honest / 2 < spent < charged
  with pytest.raises(tpa.LedgerError, match='assumes at least 10'):
    released(process, tmp_path / 'few.jsonl', 9, planned=12)

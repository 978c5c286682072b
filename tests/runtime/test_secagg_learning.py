"""Learning processes of TFF, and ours, over real secure aggregation."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow_federated as tff
from recording import recording_context

import tff_privacy_agg as tpa
from tff_privacy_agg import secagg
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.runtime import InProcessContext, SecAggContext, use

pytestmark = pytest.mark.integration

_PATH = pathlib.Path(__file__).parents[1] / 'aggregation' / 'process' / 'cases.py'
_SPEC = importlib.util.spec_from_file_location('process_cases', _PATH)
cases = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(cases)

CLIENTS = 12


@pytest.fixture(scope='module')
def context():
  made = recording_context({3: 2, 5: 1, 7: 4})
  yield made
  made.close()


def survivors(data):
  return [one for client, one in enumerate(data) if client not in (3, 5)]


def weights_of(process, state):
  return [np.asarray(part) for part in process.get_model_weights(state).trainable]


@pytest.fixture(scope='module')
def data():
  return [cases.client_dataset(client) for client in range(CLIENTS)]


def test_tffs_secure_aggregator_gives_the_same_model(context, data):
  process = cases.fed_avg(tff.learning.secure_aggregator(weighted=False))
  # Plain sums over the same arithmetic: a TFF worker is another build of TensorFlow.
  plain = InProcessContext()
  with use(plain):
    want = process.next(process.initialize(), survivors(data))
  with use(context):
    got = process.next(process.initialize(), data)
    again = process.next(got.state, data)
  assert isinstance(got, tff.learning.templates.LearningProcessOutput)
  assert isinstance(got.state, tff.learning.templates.LearningAlgorithmState)
  with use(plain):
    for one, other in zip(
      weights_of(process, got.state), weights_of(process, want.state), strict=True
    ):
      np.testing.assert_array_equal(one, other)
    want = process.next(want.state, survivors(data))
    np.testing.assert_array_equal(
      weights_of(process, again.state)[0], weights_of(process, want.state)[0]
    )
  assert list(got.metrics) == list(want.metrics)


def test_our_stack_without_noise_gives_the_model_up_to_rounding(context, simulation, data):
  aggregator = cases.exact(tpa.Mean(), maximum=CLIENTS)
  process = cases.fed_avg(aggregator)
  want = process.next(process.initialize(), survivors(data))
  with use(context):
    got = process.next(process.initialize(), data)
  step = cases.quantization_step(aggregator, tff.to_type([(np.float32, [2, 1]), (np.float32, [1])]))
  for one, other in zip(
    weights_of(process, got.state), weights_of(process, want.state), strict=True
  ):
    np.testing.assert_allclose(one, other, atol=2 * step + 1e-6)


def test_the_private_stack_accounts_the_survivors_of_the_protocol(context, data):
  cohort = tpa.Cohort(expected=CLIENTS, minimum=CLIENTS - 2)
  same = [data[0]] * CLIENTS
  with use(context):
    process = cases.fed_avg(cases.noised(cohort, first=[tpa.Mean()]))
    output = process.next(process.initialize(), same)
  private = output.metrics['aggregator']['privacy']
  assert private['survivors'] == len(context.last_round.survivors) == CLIENTS - 2
  assert private['accepted']
  # Same data, yet no two vectors are equal: each client's work reads its own random key.
  name = next(leaf for leaf in context._executor.results[0] if 'vector' in leaf)
  vectors = {one[name].tobytes() for one in context._executor.results.values()}
  assert len(vectors) == len(context._executor.results) == CLIENTS - 2


def test_the_clear_part_of_federated_averaging_is_refused_and_named(context, data):
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    cases.model_fn,
    cases.sgd(0.1),
    cases.sgd(1.0),
    model_aggregator=cases.exact(tpa.Mean(), maximum=CLIENTS),
  )
  with use(context):
    state = process.initialize()
    with pytest.raises(secagg.ClearAggregandError, match='num_examples') as caught:
      process.next(state, data)
  assert "'0/loss/0'" in str(caught.value)
  assert 'no_metrics' in str(caught.value)


def test_the_clear_part_runs_where_it_is_allowed(data, simulation):
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    cases.model_fn,
    cases.sgd(0.1),
    cases.sgd(1.0),
    model_aggregator=cases.exact(tpa.Mean(), maximum=CLIENTS),
  )
  want = process.next(process.initialize(), data)
  context = SecAggContext(allow_clear=['0'])
  with use(context):
    got = process.next(process.initialize(), data)
  context.close()
  want, got = (one.metrics['client_work']['train'] for one in (want, got))
  assert want['num_examples'] == got['num_examples'] == 4 * CLIENTS
  np.testing.assert_allclose(want['loss'], got['loss'], rtol=1e-6)


def test_an_aggregation_process_with_weights_runs_too(context):
  values = [
    {'w': np.full([2, 3], client, np.float32), 'b': np.ones([4], np.float32)}
    for client in range(CLIENTS)
  ]
  with use(context):
    process = tpa.secure_aggregator().create(cases.WEIGHTS, cases.WEIGHT)
    output = process.next(process.initialize(), values, [1.0] * CLIENTS)
  assert isinstance(output, tff.templates.MeasuredProcessOutput)
  assert list(output.result) == ['w', 'b']
  assert output.result['w'].shape == (2, 3)


def test_a_training_runs_with_its_ledger(tmp_path):
  task = TrainingTask(population=20, clients_per_round=10, noise_multiplier=2.0, rounds=2)
  examples = task.load()
  context = SecAggContext(minimum_clients=10, dropout_fraction=0.0)
  lines = []
  with use(context):
    result = tpa.train(
      task.process(),
      examples.train,
      2,
      cohorts=task.cohorts(examples),
      preprocess=task.preprocess,
      run_directory=tmp_path / 'run',
      report=lines.append,
    )
  context.close()
  assert result.rounds_run == 2
  record = tpa.ledger.LedgerRecord.read(tmp_path / 'run' / 'ledger.jsonl')
  spent = record.spent('server')
  assert (spent.rounds, spent.unsettled) == (2, 0)
  assert result.metrics['ledger/epsilon'] == pytest.approx(spent.epsilon)
  assert len(context.last_round.survivors) == 10

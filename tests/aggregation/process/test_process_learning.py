"""`build_private_learning_process` and `private_metrics`: every release in one account."""

from collections import OrderedDict

import cases
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import accounting
from tff_privacy_agg.learning.metrics_factory import unfinalized_type
from tff_privacy_agg.ledger import verify

pytestmark = pytest.mark.integration

COHORT = tpa.Cohort(expected=4, minimum=3)
ACCOUNT = tpa.Accounting(population=100, delta=1e-3, minimum_clients=3)
SGD = {'client_optimizer_fn': cases.sgd(0.1), 'server_optimizer_fn': cases.sgd(1.0)}
OPTIONS = {
  'fed_avg': SGD,
  'fed_prox': {**SGD, 'proximal_strength': 0.1},
  'fed_sgd': {'server_optimizer_fn': cases.sgd(0.1)},
  'mime_lite': {'base_optimizer': cases.sgd(0.1)},
}
QUICK = (('fed_avg', True), ('mime_lite', False))
each_algorithm = pytest.mark.parametrize('algorithm', OPTIONS)


def build(algorithm='fed_avg', *, z=3.0, weighted=False, account=ACCOUNT, **kwargs):
  first = [tpa.WeightedMean(maximum=10.0)] if weighted else [tpa.Mean()]
  layers = [
    *first,
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5)),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=z),
    tpa.SecureModularSum(bits=24),
  ]
  aggregator = (tpa.compose_weighted if weighted else tpa.compose)(layers, cohort=COHORT)
  return tpa.build_private_learning_process(
    algorithm,
    cases.model_fn,
    aggregator=aggregator,
    accounting=account,
    **{**OPTIONS[algorithm], **kwargs},
  )


DATA = [cases.client_dataset(client) for client in range(4)]


def epsilon_of_four(process):
  """Of one round with four survivors; below what its Renyi curve proves."""
  price, account = process.facts.price, accounting.GaussianAccount()
  found, _ = account.epsilon(account.row(price, 4), ACCOUNT.delta, price.distance(4))
  assert 0.8 < found / accounting.epsilon(price.curve(4), ACCOUNT.delta)[0] < 0.95
  return found


@pytest.mark.parametrize(
  ('algorithm', 'weighted'),
  [
    pytest.param(name, weighted, marks=[] if (name, weighted) in QUICK else pytest.mark.slow)
    for name in OPTIONS
    for weighted in (False, True)
  ],
)
def test_every_algorithm_runs_with_nothing_in_the_clear(algorithm, weighted):
  process = build(algorithm, weighted=weighted)
  assert isinstance(process, tff.learning.templates.LearningProcess)
  tff.test.assert_not_contains_unsecure_aggregation(process.next)
  state = process.initialize()
  output = process.next(state, DATA)
  privacy = output.metrics['aggregator']['privacy']
  assert privacy['survivors'] == 4
  assert privacy['accepted']
  assert privacy['epsilon'] == pytest.approx(epsilon_of_four(process), rel=1e-9)
  before, after = (process.get_model_weights(s).trainable[0] for s in (state, output.state))
  assert np.any(before != after)


def test_mime_pays_for_updates_and_gradients():
  """TFF drops what the gradients' aggregator measures; the account has it all the same."""
  one, both = build('fed_avg'), build('mime_lite')
  assert len(both.facts.stack['beside']) == 1
  two, one = (np.array(process.facts.costs().row(3), float) for process in (both, one))
  np.testing.assert_allclose(two, 2 * one, rtol=1e-12)
  assert both.facts.costs().noise_multiplier(3) == pytest.approx(3.0 / np.sqrt(2), rel=1e-3)


@each_algorithm
def test_private_metrics_are_in_the_account_and_clear_ones_make_it_incomplete(algorithm):
  none, private = build(algorithm), build(algorithm, metrics='private')
  extra = private.facts.costs().row(3)[0] / none.facts.costs().row(3)[0]  # of mu squared
  assert 1.02 < extra < 1.06
  tff.test.assert_not_contains_unsecure_aggregation(private.next)
  output = private.next(private.initialize(), DATA)
  found = output.metrics['aggregator']['privacy']['epsilon']
  assert found == pytest.approx(epsilon_of_four(private), rel=1e-9)
  assert set(output.metrics['client_work']['train']) == {'loss', 'num_examples', 'num_batches'}

  clear = build(algorithm, metrics='clear')
  assert clear.facts.unaccounted == ('training metrics, summed in the clear',)
  with pytest.raises(AssertionError, match='unsecure'):
    tff.test.assert_not_contains_unsecure_aggregation(clear.next)


def test_budget_halts_model_metrics_momentum_and_training():
  account = tpa.Accounting(
    population=100, delta=1e-3, budget=tpa.Budget(epsilon=2.5, delta=1e-3), minimum_clients=3
  )
  momentum = tff.learning.optimizers.build_sgdm(1.0, momentum=0.9)
  process = build(account=account, metrics='clear', server_optimizer_fn=momentum)
  state, halted = process.initialize(), []
  for _ in range(12):
    output = process.next(state, DATA)
    privacy = output.metrics['aggregator']['privacy']
    assert privacy['epsilon'] <= 2.5
    halted.append(bool(privacy['halted']))
    # What is counted in the clear shows that no example is looked at any more.
    examples = output.metrics['client_work']['train']['num_examples']
    assert examples == (0 if halted[-1] else 16)
    if halted[-1]:
      for name in ('global_model_weights', 'finalizer', 'client_work', 'distributor'):
        tf.nest.map_structure(
          np.testing.assert_array_equal, getattr(output.state, name), getattr(state, name)
        )
    state = output.state
  assert halted == sorted(halted)
  assert 0 < sum(halted) < 12


def test_a_halted_client_looks_at_no_example():
  """The state alone says so: not even a model that learns from nothing can tell of the data."""
  account = tpa.Accounting(
    population=100, delta=1e-3, budget=tpa.Budget(epsilon=2.5, delta=1e-3), minimum_clients=3
  )
  process = build(account=account, metrics='clear')
  state = process.initialize()
  for halted, looked_at in ((False, 16), (True, 0)):
    state.aggregator['privacy']['halted'] = np.bool_(halted)
    work = process.next(state, DATA).metrics['client_work']['train']
    assert work['num_examples'] == looked_at


def test_a_round_with_too_few_clients_moves_no_momentum():
  momentum = tff.learning.optimizers.build_sgdm(1.0, momentum=0.9)
  process = build(server_optimizer_fn=momentum)
  first = process.next(process.initialize(), DATA).state
  few = process.next(first, DATA[:2])
  assert not few.metrics['aggregator']['privacy']['accepted']
  for name in ('global_model_weights', 'finalizer'):
    tf.nest.map_structure(
      np.testing.assert_array_equal, getattr(few.state, name), getattr(first, name)
    )
  assert few.state.aggregator['privacy']['rounds'] == 2


def test_hyperparameters_and_weights_go_through():
  process = build()
  state = process.initialize()
  weights = process.get_model_weights(state)
  new = tff.learning.models.ModelWeights(
    tuple(np.ones_like(w) for w in weights.trainable), weights.non_trainable
  )
  changed = process.get_model_weights(process.set_model_weights(state, new))
  assert all(np.all(np.asarray(w) == 1) for w in changed.trainable)
  assert process.get_hparams(state)['finalizer']['learning_rate'] == 1.0


def test_ledger_agrees_with_the_metrics(tmp_path):
  process = build(metrics='private')
  with process.open_ledger(tmp_path / 'ledger.jsonl') as ledger:
    state = process.initialize()
    for round_number, clients in ((1, 4), (2, 3)):
      charge = ledger.charge(round_number)
      output = process.next(state, DATA[:clients])
      state, privacy = output.state, output.metrics['aggregator']['privacy']
      ledger.settle(
        charge, survivors=int(privacy['survivors']), counted_by='runtime', accepted=True
      )
    assert ledger.epsilon('server') == pytest.approx(float(privacy['epsilon']), rel=1e-9)
    assert ledger.complete
  assert verify(tmp_path / 'ledger.jsonl').ok


FINALIZERS = OrderedDict(
  accuracy=lambda parts: tf.math.divide_no_nan(parts[0], parts[1]), examples=lambda n: n
)
METRICS = OrderedDict(accuracy=[np.float32(0), np.float32(0)], examples=np.int64(0))
METRICS_TYPE = tff.to_type(
  OrderedDict(
    accuracy=[tff.TensorType(np.float32), tff.TensorType(np.float32)],
    examples=tff.TensorType(np.int64),
  )
)


def client_metrics(correct, count):
  return OrderedDict(accuracy=[np.float32(correct), np.float32(count)], examples=np.int64(count))


@pytest.mark.parametrize('typed', [False, True], ids=['polymorphic', 'typed'])
def test_metrics_are_ratios_of_noised_and_clipped_sums(typed):
  cohort = tpa.Cohort(expected=4)
  aggregator = tpa.private_metrics(1e-3, cohort, maximum={'accuracy': 10.0, 'examples': 20.0})
  computation = aggregator(FINALIZERS, METRICS_TYPE if typed else None)
  aggregate = tff.federated_computation(
    lambda values: computation(values), tff.FederatedType(METRICS_TYPE, tff.CLIENTS)
  )
  tff.test.assert_not_contains_unsecure_aggregation(aggregate)
  found = aggregate([client_metrics(3, 10), client_metrics(5, 10), client_metrics(10, 10)] * 1)
  assert found['examples'] == 0  # three of four: not accepted
  found = aggregate(
    [client_metrics(3, 10), client_metrics(5, 10), client_metrics(10, 10)] * 1
    + [client_metrics(1e6, 10**6)]
  )
  assert found['accuracy'] == pytest.approx((3 + 5 + 10 + 10) / 40, abs=0.01)
  assert found['examples'] == pytest.approx(30 + 20, abs=1)


def test_noise_of_the_metrics_has_the_promised_size():
  """400 values of a Gaussian: its standard deviation to 14 %, wrong alarms below 1e-4."""
  cohort = tpa.Cohort(expected=4)
  aggregator = tpa.private_metrics(2.0, cohort, maximum=50.0)
  types = tff.to_type(OrderedDict(sums=tff.TensorType(np.float32, [400])))
  finalizers = OrderedDict(sums=lambda value: value)
  computation = aggregator(finalizers, types)
  # In the middle of what is positive: negative sums are cut off.
  found = computation([OrderedDict(sums=np.full([400], 50.0, np.float32))] * 4)['sums']
  stddev = 2.0 * 50.0 * np.sqrt(400)
  below = np.mean(found <= 200.0)
  assert abs(below - 0.5) < 4 * 0.5 / np.sqrt(400)
  above = found[found > 200.0] - 200.0
  assert np.sqrt(np.mean(above**2)) == pytest.approx(stddev, rel=0.2)


def test_only_named_metrics_are_released():
  aggregator = tpa.private_metrics(1.0, tpa.Cohort(expected=1), maximum={'examples': 20.0})
  found = aggregator(FINALIZERS, METRICS_TYPE)([client_metrics(1, 2)])
  assert list(found) == ['examples']
  assert aggregator.bind(METRICS_TYPE).design.dimension == 1


def test_the_metrics_of_a_model_are_typed_without_running_it():
  assert str(unfinalized_type(cases.model_fn)) == (
    '<loss=<float32,float32>,num_examples=<int64>,num_batches=<int64>>'
  )


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    ({'algorithm': 'fed_magic'}, 'algorithm'),
    ({'metrics': 'secret'}, 'metrics'),
    ({'gradient_aggregator': tpa.ddp_secure_aggregator(1.0, 4)}, 'is for mime_lite'),
    ({'nonsense': 1}, 'takes .*client_optimizer_fn.*; got nonsense'),
    ({'model_aggregator': None}, 'Aggregators are set by `aggregator`'),
    ({'accounting': None}, 'accounting'),
    ({'aggregator': tff.aggregators.MeanFactory()}, 'must be a stack of this package'),
    ({'aggregator': tpa.secure_aggregator(weighted=False)}, 'this one has none'),
    (
      {'aggregator': tpa.dp_aggregator(1.0, 4), 'metrics': 'private'},
      "noise is the server's",
    ),
  ],
  ids=lambda value: '-'.join(value) if isinstance(value, dict) else 'sentence',
)
def test_bad_arguments_are_refused_before_tracing(change, sentence):
  given = {
    'algorithm': 'fed_avg',
    'aggregator': tpa.ddp_secure_aggregator(3.0, 4),
    'accounting': ACCOUNT,
    **SGD,
    **change,
  }
  with pytest.raises(tpa.ConfigurationError, match=sentence):
    tpa.build_private_learning_process(given.pop('algorithm'), cases.model_fn, **given)


@pytest.mark.parametrize(
  ('change', 'sentence'),
  [
    ({'maximum': {}}, 'it names none'),
    ({'maximum': 0.0}, 'maximum'),
    ({'maximum': {'loss': [1.0, -1.0]}}, r'maximum\['),
    ({'noise_multiplier': 0.0}, 'noise_multiplier'),
    ({'mechanism': 'gaussian'}, 'mechanism'),
    ({'cohort': 4}, 'cohort'),
  ],
  ids=['none', 'zero', 'negative', 'noise', 'mechanism', 'cohort'],
)
def test_bad_metrics_are_refused(change, sentence):
  with pytest.raises(tpa.ConfigurationError, match=sentence):
    tpa.private_metrics(**{'noise_multiplier': 1.0, 'cohort': COHORT, **change})


@pytest.mark.parametrize(
  ('maximum', 'sentence'),
  [({'accuracy': [1.0] * 3}, 'gives 3 bounds; the metric sums 2'), ({'auc': 1.0}, 'metrics auc;')],
  ids=['number', 'name'],
)
def test_bounds_that_do_not_fit_the_metrics_are_refused(maximum, sentence):
  with pytest.raises(tpa.ConfigurationError, match=sentence):
    tpa.private_metrics(1.0, COHORT, maximum=maximum)(FINALIZERS, METRICS_TYPE)


def test_noise_of_the_metrics_is_fresh_in_every_round():
  """Its state is the same each time; the key is not."""
  types = tff.to_type(OrderedDict(sums=tff.TensorType(np.float32, [20])))
  finalizers = OrderedDict(sums=lambda value: value)
  aggregate = tpa.private_metrics(1.0, tpa.Cohort(expected=2), maximum=1.0)(finalizers, types)
  values = [OrderedDict(sums=np.ones([20], np.float32))] * 2
  found = [aggregate(values)['sums'] for _ in range(3)]
  for one, other in ((0, 1), (0, 2), (1, 2)):
    positive = (found[one] > 0) & (found[other] > 0)
    assert np.all(found[one][positive] != found[other][positive])

"""Canary clients in TFF's processes: what they send, what they change, what they show."""

import collections
import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import audit
from tff_privacy_agg.audit.canaries import flat_weights
from tff_privacy_agg.errors import ConfigurationError

DIM, CLIENTS = 600, 16
pytestmark = [pytest.mark.integration, pytest.mark.usefixtures('simulation')]


def model_fn():
  model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[DIM // 3 - 1]),
      tf.keras.layers.Dense(3, kernel_initializer='zeros'),
    ]
  )
  spec = collections.OrderedDict(
    x=tf.TensorSpec([None, DIM // 3 - 1]), y=tf.TensorSpec([None], tf.int32)
  )
  return tff.learning.models.from_keras_model(
    model, loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True), input_spec=spec
  )


audited = audit.with_canaries(model_fn)


@functools.cache
def spec():
  return audited().input_spec


def people(count=CLIENTS):
  """Clients with data of their own: two batches each."""
  rng = np.random.default_rng(0)
  found = []
  for _ in range(count):
    x = rng.normal(size=(6, DIM // 3 - 1)).astype(np.float32)
    y = rng.integers(0, 3, 6).astype(np.int32)
    examples = tf.data.Dataset.from_tensor_slices(collections.OrderedDict(x=x, y=y))
    found.append(examples.batch(4))
  return found


def marked(datasets):
  return [audit.mark_ordinary(one, spec()) for one in datasets]


def sgd(rate=1.0):
  return tff.learning.optimizers.build_sgdm(rate)


def fed_avg(model, aggregator=None):
  return tff.learning.algorithms.build_unweighted_fed_avg(
    model,
    client_optimizer_fn=sgd(),
    server_optimizer_fn=sgd(),
    model_aggregator=aggregator,
    metrics_aggregator=tpa.no_metrics,
  )


def stack(z=1.0, cohort=CLIENTS):
  noise = [tpa.DiscreteGaussianNoise(noise_multiplier=z)] if z else []
  front = [tpa.Mean(), tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5))]
  back = [tpa.HadamardRotation(), tpa.Quantization(), *noise, tpa.SecureModularSum(bits=20)]
  return tpa.compose(front + back, cohort=tpa.Cohort(expected=cohort), delta=1e-5)


def moved(process, datasets):
  state = process.initialize()
  output = process.next(state, datasets)
  before, after = (process.get_model_weights(s) for s in (state, output.state))
  return flat_weights(after) - flat_weights(before), output.metrics


ALGORITHMS = {
  'fed_avg': lambda: fed_avg(audited),
  'fed_prox': lambda: tff.learning.algorithms.build_unweighted_fed_prox(
    audited, proximal_strength=0.1, client_optimizer_fn=sgd(), server_optimizer_fn=sgd()
  ),
  'fed_sgd': lambda: tff.learning.algorithms.build_fed_sgd(audited, server_optimizer_fn=sgd()),
  'mime_lite': lambda: tff.learning.algorithms.build_unweighted_mime_lite(
    audited, base_optimizer=sgd(), server_optimizer=sgd()
  ),
}


@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_canaries_send_their_directions_under_every_algorithm(algorithm):
  canaries = audit.Canaries(count=8, norm=3.0, seed=1)
  assert 0 < canaries.included.sum() < 8
  sent, _ = moved(ALGORITHMS[algorithm](), [canaries.dataset(one, spec()) for one in canaries.ids])
  expected = 3.0 * canaries.directions(DIM)[canaries.included].sum(axis=0) / 8
  np.testing.assert_allclose(sent, expected, atol=1e-5)


def test_ordinary_clients_send_what_they_sent_before():
  plain, _ = moved(fed_avg(model_fn), people())
  beside, _ = moved(fed_avg(audited), marked(people()))
  np.testing.assert_allclose(beside, plain, atol=1e-7)
  assert np.linalg.norm(plain) > 0.1


def test_directions_are_unit_vectors_that_follow_the_seed():
  canaries = audit.Canaries(count=50, norm=1.0, seed=3)
  directions = canaries.directions(2000)
  np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1, rtol=1e-5)
  others = (directions @ directions.T)[np.triu_indices(50, 1)] * np.sqrt(2000)
  assert abs(others.std() - 1) < 4 / np.sqrt(2 * len(others))
  np.testing.assert_array_equal(
    directions, audit.Canaries(count=50, norm=9.0, seed=3).directions(2000)
  )
  assert np.any(directions != audit.Canaries(count=50, norm=1.0, seed=4).directions(2000))
  coins = np.concatenate([audit.Canaries(count=100, norm=1.0, seed=s).included for s in range(40)])
  assert abs(coins.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_the_account_is_the_same_with_canaries_and_without():
  canaries = audit.Canaries(count=4, norm=3.0)
  with_them = marked(people(CLIENTS - 4)) + [canaries.dataset(c, spec()) for c in canaries.ids]
  privacy = []
  for model, datasets in ((model_fn, people()), (audited, with_them)):
    process = fed_avg(model, stack())
    metrics = moved(process, datasets)[1]['aggregator']['privacy']
    privacy.append({name: float(value) for name, value in metrics.items()})
  assert privacy[0] == privacy[1]
  assert 1 < privacy[0]['epsilon'] < 10
  bound = stack().bind(tff.learning.models.weights_type_from_model(model_fn).trainable)
  again = stack().bind(tff.learning.models.weights_type_from_model(audited).trainable)
  assert bound.facts() == again.facts()
  built = [
    tpa.build_private_learning_process(
      'fed_avg',
      model,
      aggregator=stack(),
      accounting=tpa.Accounting(population=1000, delta=1e-5),
      client_optimizer_fn=sgd(),
      server_optimizer_fn=sgd(),
    )
    for model in (model_fn, audited)
  ]
  assert built[0].facts == built[1].facts


def run(z, canaries, rounds=2):
  data = dict(zip([f'client_{i}' for i in range(CLIENTS)], marked(people()), strict=True))
  data |= {one: canaries.dataset(one, spec()) for one in canaries.ids}
  ids = list(data)
  cohorts = tpa.learning.UniformCohorts(client_ids=ids, size=len(ids))
  seen = []
  found = audit.run_with_canaries(
    fed_avg(audited, stack(z, len(ids))),
    canaries,
    dataset_of=data.__getitem__,
    cohort_of=cohorts.cohort,
    rounds=rounds,
    observe_round=lambda number, metrics: seen.append(metrics['aggregator']['privacy']['epsilon']),
  )
  return found, float(seen[-1])


@pytest.mark.slow
def test_without_noise_the_leak_is_seen_and_with_noise_it_is_within_the_claim():
  """Sixty canaries; the noise has no seed, so the confidence is 0.9999, and so is the test's."""
  canaries = audit.Canaries(count=60, norm=5.0, seed=2)
  loud, epsilon = run(0.0, canaries)
  assert epsilon == float('inf')
  shown = loud.result(delta=1e-5, confidence=0.9999)
  quiet, claimed = run(2.0, canaries)
  hidden = quiet.result(delta=1e-5, confidence=0.9999)
  assert shown.lower > 2 * claimed
  assert shown.exceeds(claimed)
  assert not hidden.exceeds(claimed)
  assert hidden.all_iterates.epsilon < shown.all_iterates.epsilon / 2
  assert hidden.rounds == 2
  assert hidden.appearances == 2
  # Directions that were not there: 1 up to 4 standard errors of about 30 scores.
  assert abs(hidden.absent_stddev - 1) < 4 / np.sqrt(2 * 20)


def test_what_cannot_be_audited_is_refused():
  canaries = audit.Canaries(count=4, norm=1.0)
  with pytest.raises(ConfigurationError, match='`model_fn` makes a int'):
    audit.with_canaries(lambda: 3)()
  found = audit.CanaryAudit(canaries, audited_weights())
  with pytest.raises(ConfigurationError, match='no observed round to score'):
    found.result(delta=1e-5)
  found.observe(['client_0'], audited_weights())
  with pytest.raises(ConfigurationError, match='4 canaries were added; in 1 rounds 0 that'):
    found.result(delta=1e-5)
  found.observe(canaries.ids, audited_weights())
  with pytest.raises(ConfigurationError, match='Add canaries or rounds'):
    found.result(delta=1e-5)
  for bad in ({'count': 1, 'norm': 1.0}, {'count': 4, 'norm': 0.0}):
    with pytest.raises(ConfigurationError):
      audit.Canaries(**bad)


def audited_weights():
  return tff.learning.models.ModelWeights.from_model(model_fn())

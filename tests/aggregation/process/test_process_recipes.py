"""Recipes stand in for TFF's functions of the same names."""

import functools

import cases
import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

DDP_CALLS = {
  'two': (1.0, 10),
  'three': (1.0, 10, 18),
  'four': (1.0, 10, 18, False),
  'five': (1.0, 10, 18, True, 'dft'),
}


def client_values(count, scale=0.1):
  rng = np.random.default_rng(11)
  return [scale * rng.normal(size=[4]).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize('name', DDP_CALLS)
def test_ddp_takes_upstream_arguments_by_position(name):
  process = tpa.ddp_secure_aggregator(*DDP_CALLS[name]).create(cases.VECTOR)
  output = process.next(process.initialize(), client_values(10))
  assert output.result.shape == (4,)
  privacy = output.measurements['privacy']
  assert 0.999 < privacy['noise_multiplier'] < 1.01
  assert 0 < privacy['epsilon'] < 10
  assert privacy['accepted']


def test_ddp_is_the_clipped_mean_plus_the_promised_noise():
  clip, clients, dim = 0.1, 40, 1000
  process = tpa.ddp_secure_aggregator(0.5, clients).create(tff.TensorType(np.float32, [dim]))
  value = np.full([dim], 0.01, np.float32)  # of norm 0.32: clipped
  output = process.next(process.initialize(), [value] * clients)
  # The vector's noise is over 0.5 * clip / clients a coordinate, for the bits take a part;
  # next to it, what rounding adds. A mean of 1,000 of them is 30 times sharper.
  stddev = 0.5 * clip / clients
  assert abs(output.result.mean() - clip / np.sqrt(dim)) < 5 * stddev / np.sqrt(dim)
  assert stddev * 0.9 < output.result.std() < stddev * 1.3


def test_dp_aggregator_is_the_mean_plus_the_promised_noise():
  clients, dim = 20, 1000
  process = tpa.dp_aggregator(0.5, clients, False).create(tff.TensorType(np.float32, [dim]))
  value = np.full([dim], 0.001, np.float32)  # of norm 0.032: not clipped
  output = process.next(process.initialize(), [value] * clients)
  stddev = 0.5 * 0.1 / clients
  assert abs(output.result.mean() - 0.001) < 5 * stddev / np.sqrt(dim)
  assert stddev * 0.9 < output.result.std() < stddev * 1.2
  privacy = output.measurements['privacy']
  assert privacy['epsilon'] == np.inf
  assert 0 < privacy['release_epsilon'] < 100


@pytest.mark.parametrize('weighted', [True, False])
def test_robust_aggregator_gives_what_tffs_gives(weighted):
  ours = tpa.robust_aggregator(weighted=weighted)
  upstream = tff.learning.robust_aggregator(weighted=weighted)
  arguments = [client_values(6)]
  types = [cases.VECTOR]
  if weighted:
    arguments.append([np.float32(weight) for weight in (1, 2, 3, 4, 5, 0.5)])
    types.append(cases.WEIGHT)
  ours, upstream = ours.create(*types), upstream.create(*types)
  our_state, state = ours.initialize(), upstream.initialize()
  # The norm to clip at falls round by round, from 1 to 0.8; the values have norms near 0.2.
  for _ in range(3):
    our_output, output = ours.next(our_state, *arguments), upstream.next(state, *arguments)
    np.testing.assert_allclose(our_output.result, output.result, rtol=1e-5)
    our_state, state = our_output.state, output.state
  np.testing.assert_allclose(our_state['clipping']['norm'], np.exp(-3 * 0.2 * (1 - 0.8)), rtol=1e-5)


def test_robust_aggregator_clips_and_zeroes_as_upstream():
  values = [*client_values(6, scale=2.0), np.array([1e3, 0, 0, 0], np.float32)]
  ours = tpa.robust_aggregator(weighted=False).create(cases.VECTOR)
  upstream = tff.learning.robust_aggregator(weighted=False).create(cases.VECTOR)
  our_output = ours.next(ours.initialize(), values)
  output = upstream.next(upstream.initialize(), values)
  np.testing.assert_allclose(our_output.result, output.result, rtol=1e-5)


@pytest.mark.parametrize('clients', [1, 7])
def test_secure_aggregator_is_the_mean(clients):
  factory = tpa.secure_aggregator(weighted=False)
  process = factory.create(cases.VECTOR)
  values = client_values(clients)
  output = process.next(process.initialize(), values)
  step = 1.0 / factory.bind(cases.VECTOR).design.scaled_norm
  np.testing.assert_allclose(output.result, np.mean(values, axis=0), rtol=1e-6, atol=step)


def test_secure_aggregator_takes_few_bits():
  factory = tpa.secure_aggregator(weighted=False, bits=16, maximum_clients=10)
  process = factory.create(cases.VECTOR)
  values = client_values(5)
  output = process.next(process.initialize(), values)
  step = 1.0 / factory.bind(cases.VECTOR).design.scaled_norm
  assert 1e-5 < step < 1e-2
  np.testing.assert_allclose(output.result, np.mean(values, axis=0), atol=step)


@pytest.mark.parametrize(
  'recipe',
  [
    functools.partial(tpa.ddp_secure_aggregator, 1.0, 10),
    tpa.secure_aggregator,
    tpa.robust_aggregator,
  ],
  ids=['ddp', 'secure', 'robust'],
)
def test_a_debug_function_of_none_is_taken_and_no_other(recipe):
  assert recipe(debug_measurements_fn=None).layers == recipe().layers
  with pytest.raises(
    tpa.ConfigurationError, match=r'`debug_measurements_fn` must be None, got <func'
  ):
    recipe(debug_measurements_fn=tff.learning.add_debug_measurements)

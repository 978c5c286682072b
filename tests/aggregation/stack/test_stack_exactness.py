"""Without noise: what is decoded is the sum, within the error of rounding, for any stack."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings, strategies as st
from stack_runs import added, messages, run, stack_of, stream

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  Clipping,
  DFTRotation,
  HadamardRotation,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  WeightedMean,
  Zeroing,
)

# Few bits, so that rounding shows: a stack says how much it loses.
pytestmark = pytest.mark.filterwarnings('default:.* bits round .* coordinates:UserWarning')
MAXIMUM_WEIGHT = 8.0


def limit_of(threshold):
  if isinstance(threshold, AdaptiveQuantile):
    return threshold.initial * threshold.multiplier + threshold.increment
  return threshold


def exact_result(layers, values, weights):
  """The layers in NumPy's float64."""
  total, divisor = np.zeros(values.shape[1]), 1.0
  for value, weight in zip(values.astype(np.float64), weights, strict=True):
    for layer in layers:
      length = np.linalg.norm(value)
      if isinstance(layer, Zeroing) and length > limit_of(layer.threshold):
        value = np.zeros_like(value)
      elif isinstance(layer, Clipping):
        value = value / max(1.0, length / limit_of(layer.norm))
      elif isinstance(layer, WeightedMean):
        value = value * (weight / MAXIMUM_WEIGHT)
    total += value
  if any(isinstance(layer, Mean) for layer in layers):
    divisor = len(values)
  if any(isinstance(layer, WeightedMean) for layer in layers):
    divisor = max(np.sum(weights) / MAXIMUM_WEIGHT, 1e-12)
  return total / divisor, divisor


@st.composite
def stacks(draw):
  """Layers in any order that is allowed."""
  norm = draw(st.sampled_from([0.5, 2.0, 2.0**-10]))
  clipping = draw(
    st.sampled_from(
      [Clipping(norm=norm), Clipping(norm=AdaptiveQuantile(initial=norm, target=0.5))]
    )
  )
  threshold = draw(
    st.sampled_from([None, 3.0, AdaptiveQuantile(initial=1.0, target=0.9, multiplier=2.0)])
  )
  before = [
    draw(st.sampled_from([None, Mean(), WeightedMean(maximum=MAXIMUM_WEIGHT)])),
    draw(st.sampled_from([None, HadamardRotation(), DFTRotation()])),
  ]
  real = draw(st.permutations([layer for layer in before if layer] + [clipping]))
  if threshold is not None:
    place = draw(st.integers(0, real.index(clipping)))
    real.insert(place, Zeroing(threshold=threshold))
  bits = draw(st.integers(8, 62))
  return [*real, Quantization(modclip_prob=1e-8), SecureModularSum(bits=bits)]


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(stacks(), st.integers(1, 300), st.integers(1, 5), st.integers(0, 2**20))
def test_decoded_sum_is_exact_within_the_error_of_rounding(layers, dim, clients, seed):
  """Rounding errors of n clients are sub-Gaussian of variance n/4 in integer units each.

  So the square of their norm exceeds n/4 (D + 2 sqrt(16 D) + 32) with probability below
  e^-16 (Hsu, Kakade, Zhang 2012): 1e-5 for all examples together.
  """
  rng = np.random.default_rng(seed)
  values = rng.normal(size=[clients, dim]) * np.exp(rng.normal(size=[clients, 1]))
  values = (values / math.sqrt(dim)).astype(np.float32)
  weights = rng.integers(0, 8, clients) + 0.5
  stack = stack_of(layers, dim, Cohort(expected=5, minimum=1))
  _, decoded, measurements = run(stack, values, weights=weights, seed=seed)
  expected, divisor = exact_result(layers, values, weights)

  design = stack.binding.design
  padded = design.dimension
  unit = limit_of(next(la.norm for la in layers if isinstance(la, Clipping))) / design.scaled_norm
  rounding = unit * math.sqrt(clients / 4 * (padded + 8 * math.sqrt(padded) + 32))
  # float64 wherever the scale is finer than float32 resolves.
  double = stack.binding.dtype == tf.float64
  arithmetic = (1e-11 if double else 3e-6) * clients * unit * design.scaled_norm
  assert np.linalg.norm(decoded - expected) <= (rounding + arithmetic) / divisor
  assert measurements['privacy']['survivors'] == clients


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64], ids=['f32', 'f64'])
@pytest.mark.parametrize('mean', [None, Mean(), WeightedMean(maximum=MAXIMUM_WEIGHT)], ids=str)
def test_plain_sum_is_the_sum(dtype, mean):
  layers = [la for la in (mean, Zeroing(threshold=5.0), Clipping(norm=1.0), PlainSum()) if la]
  values = np.random.default_rng(0).normal(size=[6, 9])
  weights = np.arange(1.0, 7.0)
  _, decoded, _ = run(stack_of(layers, 9, dtype=dtype), values, weights=weights)
  expected, _ = exact_result(layers, values, weights)
  np.testing.assert_allclose(decoded, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('bits', [40, 62])
def test_many_rounds_of_a_rotated_stack_stay_exact(bits):
  """State moves (seed, norm, estimate), and decoding follows it."""
  quantile = AdaptiveQuantile(initial=1.0, target=0.5)
  layers = [
    Mean(),
    Zeroing(threshold=AdaptiveQuantile(initial=50.0, target=0.9)),
    Clipping(norm=quantile),
    HadamardRotation(),
    Quantization(),
    SecureModularSum(bits=bits),
  ]
  stack = stack_of(layers, 50)
  values = np.random.default_rng(1).normal(size=[4, 50])
  state, norms = stack.init(), []
  for seed in range(5):
    norms.append(float(state['clipping']['norm']))
    state, decoded, measurements = run(stack, values, state, seed=seed)
    expected = np.mean(
      [x / max(1, np.linalg.norm(x) / norms[-1]) for x in values.astype(np.float32)], axis=0
    )
    np.testing.assert_allclose(decoded, expected, rtol=1e-4, atol=1e-6)
    assert measurements['clipping']['norm'] == np.float32(norms[-1])
  # All four clients are above: the norm grows by exp(0.2 * 0.5) each round.
  np.testing.assert_allclose(norms, np.exp(0.1 * np.arange(5)), rtol=1e-5)


def integer_sum(stack, values, seed):
  """The sum before any modulus: layers up to the last one, by hand."""
  params, total = stack.prepare(stack.init()), 0
  for i, value in enumerate(values):
    current = tf.constant(value, stack.binding.dtype)
    for layer in stack.binding.layers[:-1]:
      own = {**params.get(layer.name, {}), 'randomness': stream(seed, i)}
      current, _ = layer.encode(stack.binding.slots[layer.name], own, current)
    total = total + current.numpy().astype(np.int64)
  return total


@pytest.mark.parametrize('rotation', [HadamardRotation(), DFTRotation()], ids=['hd', 'dft'])
def test_the_sum_wraps_at_the_stated_rate(rotation):
  """A full cohort of equal vectors at the clip: the worst case that the modulus is sized for.

  10 of 100,000 coordinates are expected to wrap at 1e-4. More than 35 of them, or none, come by
  chance in 5e-5 of the runs; with one bit less some 5 % would.
  """
  dim, clients = 100_000, 6
  layers = [Clipping(norm=1.0), rotation, Quantization(), SecureModularSum(bits=12)]
  stack = stack_of(layers, dim, Cohort(expected=clients))
  value = np.random.default_rng(5).normal(size=dim)
  total = integer_sum(stack, [value / np.linalg.norm(value)] * clients, seed=3)
  assert 0 < np.sum(np.abs(total) > 2**11) <= 35
  assert np.mean(np.abs(total) > 2**10) > 0.03


def test_messages_are_residues_and_the_result_depends_on_them_modulo_only():
  layers = [
    Clipping(norm=AdaptiveQuantile(initial=1.0, target=0.5)),
    Quantization(),
    SecureModularSum(bits=14),
  ]
  stack = stack_of(layers, 20)
  state = stack.init()
  sent = messages(stack, state, np.random.default_rng(0).normal(size=[7, 20]))
  for one in sent:
    assert np.all((one['vector'] >= 0) & (one['vector'] < 2**14))
    assert np.all((one['channels'] >= 0) & (one['channels'] < 2**stack.binding.channel_bits))
  sums = added(sent)
  expected = stack.server(state, sums, None)
  reduced = {
    'vector': sums['vector'] % 2**14 + 3 * 2**14,
    'channels': sums['channels'] % 2**stack.binding.channel_bits,
  }
  found = stack.server(state, reduced, None)
  tf.nest.map_structure(np.testing.assert_array_equal, expected, found)

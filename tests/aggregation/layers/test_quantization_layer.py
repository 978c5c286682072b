"""Quantization: the norm bound holds exactly, rounding is unbiased, scale is undone."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import BETA, COHORT, HOSTILE, slot_for, stream

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.layers import DiscreteGaussianNoise, Quantization, Slot
from tff_privacy_agg.numerics import randomness, rounding

DIM = 60


def design_of(bits=16, dim=DIM, z=1.0, beta=BETA):
  return accounting.solve(
    noise_multiplier=z,
    cohort_maximum=COHORT.maximum,
    minimum_honest=COHORT.minimum,
    bits=bits,
    dimension=dim,
    beta=beta,
    mechanism='discrete_gaussian' if z else None,
  )


def slot_of(design, dtype=tf.float32):
  return Slot(dim=design.dimension, cohort=COHORT, design=design, dtype=dtype)


def rounded(slot, vector, trials, seed=0):
  """`[trials, d]`: the layer's result with a new key each time."""
  layer = Quantization(beta=slot.design.beta)
  keys = np.random.default_rng(seed).integers(-(2**31), 2**31, [trials, 8]).astype(np.int32)

  @functools.partial(tf.function, autograph=False)
  def run(value, keys):
    def once(key):
      params = {'randomness': randomness.RandomStream(kind='philox', key=key)}
      return layer.encode(slot, params, value)[0]

    dtype = tf.int32 if slot.design.bits <= 30 else tf.int64
    return tf.map_fn(once, keys, fn_output_signature=dtype)

  return run(tf.constant(vector, slot.dtype), keys).numpy().astype(np.int64)


def squared_norms(integers):
  """Exact: Python integers where int64 might overflow."""
  assert np.abs(integers).max() < 2**28
  return np.sum(integers**2, axis=-1)


def at_the_clip(dim, scaled_norm):
  """Vectors of norm 1, up to float error, whose rounding is as long as it gets."""
  rng = np.random.default_rng(1)
  step = 1 / scaled_norm
  halves = np.full(dim, 0.5 * step)  # every coordinate half-way between integers
  halves[0] = math.sqrt(1 - np.sum(halves[1:] ** 2))
  spike = np.zeros(dim)
  spike[3] = 1
  gaussian = rng.normal(size=dim)
  tiny = np.full(dim, 1e-40)  # subnormal in float32
  tiny[0] = 1
  rows = {
    'spike': spike,
    'constant': np.ones(dim),
    'halves': halves,
    'gaussian': gaussian,
    'negative': -np.abs(gaussian),
    'subnormal': tiny,
  }
  return {name: row / np.linalg.norm(row) for name, row in rows.items()}


CASES = sorted(at_the_clip(DIM, 100))


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('overshoot', [1.0, 1.00001], ids=['at', 'above'])
def test_integer_norm_is_at_most_the_bound_exactly(name, overshoot):
  """Nothing is statistical here: 24,000 trials in all, each within the bound."""
  design = design_of(bits=12)
  vector = at_the_clip(DIM, design.scaled_norm)[name] * overshoot
  found = squared_norms(rounded(slot_of(design), vector, 2000))
  assert np.all(found <= math.floor(design.l2_bound**2))


def test_of_the_test_unconditional_rounding_exceeds_the_bound():
  design = design_of(bits=12)
  vectors = at_the_clip(DIM, design.scaled_norm)
  exceeded = []
  for vector in vectors.values():
    x = vector * design.scaled_norm
    coins = np.random.default_rng(0).random([8000, DIM])
    exceeded.append(np.mean(squared_norms(np.floor(x + coins)) > design.l2_bound**2))
  assert max(exceeded) > 0.01


@pytest.mark.parametrize('name', HOSTILE)
@pytest.mark.parametrize('dtype', [tf.float32, tf.float64], ids=['f32', 'f64'])
@pytest.mark.parametrize('everywhere', [False, True], ids=['one', 'all'])
def test_bound_holds_for_what_no_clipping_has_seen(name, dtype, everywhere):
  """A layer before it that breaks its word, or a float accident, costs no privacy."""
  design = design_of()
  vector = np.full(DIM, HOSTILE[name] if everywhere else 0.01)
  vector[0] = HOSTILE[name]
  found = squared_norms(rounded(slot_of(design, dtype), vector, 20))
  assert np.all(found <= math.floor(design.l2_bound**2))


@pytest.mark.parametrize('factor', [1.5, 10.0, 1e6])
def test_too_long_a_vector_is_sent_as_zeros(factor):
  design = design_of()
  vector = at_the_clip(DIM, design.scaled_norm)['gaussian'] * factor
  assert not rounded(slot_of(design), vector, 20).any()


def test_a_squared_norm_that_is_one_too_large_is_not_sent():
  """Integers are rounded to themselves: (3, 1) has 10, one more than the bound allows."""
  vector, seed = tf.constant([3.0, 1.0]), tf.constant([1, 2], tf.int64)
  for bound, by_coins, to_the_nearest in (
    (math.sqrt(10.0), [3, 1], [3, 1]),
    (3.0, [0, 0], [2, 0]),
  ):
    sent = rounding.conditional_round(vector, bound, seed, tf.int64)
    assert list(sent.numpy()) == by_coins
    assert list(rounding.nearest_round(vector, bound, tf.int64).numpy()) == to_the_nearest


@pytest.mark.parametrize('bits', [14, 20, 26])
def test_unconditional_rounding_is_unbiased(bits):
  """60 means of 20,000 trials within 5 standard errors (4e-5); a bias of 0.05 is far outside."""
  design = design_of(bits=bits, beta=0.0)
  x = np.linspace(-0.02, 0.02, DIM)
  scaled = np.float64(np.float32(x)) * design.scaled_norm
  trials = rounded(slot_of(design, tf.float64), np.float32(x), 20_000)
  floor = np.floor(scaled)
  assert np.all((trials == floor) | (trials == floor + 1))
  part = scaled - floor
  error = np.sqrt(np.maximum(part * (1 - part), 1e-4) / len(trials))
  z = (trials.mean(axis=0) - scaled) / error
  assert np.abs(z).max() < 5
  assert np.abs(z + 0.05 / error).min() > 5


def test_rounding_errors_of_coordinates_are_independent():
  """The variance of the sum of all errors is the sum of theirs, to 5 deviations (6e-7)."""
  design = design_of(beta=0.0)
  x = np.full(DIM, 0.5 / design.scaled_norm)
  trials = rounded(slot_of(design, tf.float64), x, 20_000)
  ratio = np.var(trials.sum(axis=1)) / (DIM / 4)
  assert abs(ratio - 1) < 5 * math.sqrt(2 / len(trials))


def test_integers_come_back_from_decode():
  design = design_of(z=0.0, bits=40)
  assert design.scaled_norm > 2**16
  slot = slot_of(design, tf.float64)
  integers = np.random.default_rng(0).integers(-(2**20), 2**20, DIM)
  sent = rounded(slot, integers / design.scaled_norm, 1)[0]
  assert np.abs(sent - integers).max() <= 1
  decoded = Quantization().decode(slot, {}, tf.constant(integers), {})
  np.testing.assert_allclose(decoded * design.scaled_norm, integers, rtol=1e-15)


def test_without_noise_there_is_no_bound_to_keep():
  """Then the norm is no secret's measure, and conditioning would only cost accuracy."""
  design = design_of(z=0.0)
  vector = at_the_clip(DIM, design.scaled_norm)['gaussian'] * 1.5
  sent = rounded(slot_of(design), vector, 10)
  assert np.abs(sent - vector * design.scaled_norm).max() < 1.001


def test_coins_differ_between_keys_and_not_between_calls():
  slot = slot_for(DiscreteGaussianNoise(noise_multiplier=1.0))
  layer, value = Quantization(), tf.fill([slot.dim], 0.3)
  runs = [layer.encode(slot, {'randomness': stream(n)}, value)[0].numpy() for n in (1, 1, 2, 3, 4)]
  np.testing.assert_array_equal(runs[0], runs[1])
  assert len({tuple(run) for run in runs[1:]}) > 1

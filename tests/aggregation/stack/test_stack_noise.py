"""With noise: the decoded sum has the mean and the variance that the design says."""

import math

import numpy as np
import pytest
import tensorflow as tf
from stack_runs import run, stack_of

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  CentralDiscreteGaussianNoise,
  Clipping,
  DFTRotation,
  DiscreteGaussianNoise,
  HadamardRotation,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
)
from tff_privacy_agg.numerics.randomness import RandomStream

DIM = 40_000
NORM = 0.25
COHORT = Cohort(expected=8, minimum=6, maximum=10)


def noise_of(layers, survivors, divisor=1.0, dtype=tf.float32):
  """Error of one round's decoded sum, and the unit vector of the true sum."""
  stack = stack_of(layers, DIM, COHORT, dtype)
  value = np.random.default_rng(2).normal(size=DIM)
  value *= 0.5 * NORM / np.linalg.norm(value)
  _, decoded, measurements = run(stack, [value] * survivors, seed=11)
  return stack, decoded * divisor - survivors * value, value / np.linalg.norm(value), measurements


def assert_noise(error, direction, stddev):
  """4 standard errors each (2e-4 in all); a deviation 5 % off is far outside."""
  score = math.sqrt(DIM / 2)
  assert abs(np.mean(error**2) / stddev**2 - 1) * score < 4
  assert abs(np.mean(error**2) / (0.95 * stddev) ** 2 - 1) * score > 4
  assert abs(np.mean(error**2) / (1.05 * stddev) ** 2 - 1) * score > 4
  assert abs(np.sum(error)) < 4 * stddev * math.sqrt(DIM)
  assert abs(np.dot(error, direction)) < 4 * stddev  # the sum itself is not scaled


@pytest.mark.parametrize('rotation', [HadamardRotation(), DFTRotation()], ids=['hd', 'dft'])
@pytest.mark.parametrize(
  'noise',
  [DiscreteGaussianNoise(noise_multiplier=2.0), SkellamNoise(noise_multiplier=2.0)],
  ids=['gauss', 'skellam'],
)
@pytest.mark.parametrize('survivors', [6, 10])
def test_distributed_noise_has_the_variance_of_the_design(rotation, noise, survivors):
  """The shares of those who survived: h v, and rounding, in units of the clip over K."""
  layers = [Clipping(norm=NORM), rotation, Quantization(), noise, SecureModularSum(bits=18)]
  stack, error, direction, measurements = noise_of(layers, survivors)
  design = stack.binding.design
  # The fraction that is rounded is uniform where K / sqrt(D) is large: variance 1/6.
  variance = survivors * (design.local_variance + 1 / 6)
  assert_noise(error, direction, math.sqrt(variance) * NORM / design.scaled_norm)
  # At the minimum it is the noise multiplier that was asked for, times clip and more.
  assert math.sqrt(6 * design.local_variance) >= 2.0 * design.scaled_norm
  assert measurements['privacy']['noise_multiplier'] == pytest.approx(design.z_eff(survivors))


@pytest.mark.parametrize('mean', [False, True])
@pytest.mark.parametrize('dtype', [tf.float32, tf.float64], ids=['f32', 'f64'])
def test_central_noise_is_the_noise_multiplier_times_the_clip(mean, dtype):
  layers = [Clipping(norm=NORM), CentralDiscreteGaussianNoise(noise_multiplier=2.0), PlainSum()]
  survivors = 7
  if mean:
    layers.insert(0, Mean())
  _, error, direction, measurements = noise_of(layers, survivors, survivors if mean else 1.0, dtype)
  assert_noise(error, direction, 2.0 * NORM)
  assert 2.0 <= measurements['privacy']['noise_multiplier'] <= 2.0 * (1 + 1e-5)


@pytest.mark.parametrize('law', [DiscreteGaussianNoise, SkellamNoise], ids=['gauss', 'skellam'])
def test_channel_noise_has_the_planned_variance(law):
  """2,000 rounds' clip bits: mean and deviation of the count, 4 standard errors each."""
  quantile = AdaptiveQuantile(initial=1.0, target=0.5, count_stddev=3.0)
  layers = [
    Clipping(norm=quantile),
    Quantization(),
    law(noise_multiplier=0.5),
    SecureModularSum(bits=16),
  ]
  stack = stack_of(layers, 1, COHORT)
  (plan,) = stack.binding.channels
  params = stack.prepare(stack.init())
  keys = np.random.default_rng(0).integers(-(2**31), 2**31, [2000 * 8, 8]).astype(np.int32)

  def one(key):
    source = RandomStream(kind='philox', key=key)
    return stack.client(params, tf.constant([0.5]), source)['channels']

  sent = tf.function(lambda k: tf.map_fn(one, k, fn_output_signature=tf.int32), autograph=False)(
    keys
  )
  modulus = 2**stack.binding.channel_bits
  sums = tf.reduce_sum(tf.reshape(sent, [2000, 8, 2]), axis=1).numpy() % modulus
  assert set(sums[:, 0]) == {8}
  bits = (sums[:, 1] + modulus // 2) % modulus - modulus // 2
  counts = (bits / plan.resolution + 8) / 2
  assert abs(np.mean(counts) - 8) < 4 * 3.0 / math.sqrt(2000)
  score = math.sqrt(2000 / 2)
  assert abs(np.var(counts) / 3.0**2 - 1) * score < 4
  assert abs(np.var(counts) / 3.9**2 - 1) * score > 4
  assert abs(np.var(counts) / 2.3**2 - 1) * score > 4

"""Noise layers: the stated law on every coordinate, and curves of what is sent."""

import math

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import COHORT, slot_for, stream

from tff_privacy_agg.aggregation.layers import (
  DiscreteGaussianNoise,
  GaussianNoise,
  SkellamNoise,
  Slot,
)

DIM = 200_000
distributed = pytest.mark.parametrize(
  'layer',
  [DiscreteGaussianNoise(noise_multiplier=1.0), SkellamNoise(noise_multiplier=1.0)],
  ids=lambda layer: layer.name,
)


def shares(layer, slot, *seeds, kind='philox'):
  value = tf.zeros([slot.dim], tf.int32)
  return [
    layer.encode(slot, {'randomness': stream(seed, kind=kind)}, value)[0].numpy() for seed in seeds
  ]


def standard_score(x, variance):
  """Of the mean square: standard normal if right (the laws' kurtosis is 3 to a part in v)."""
  return (np.mean(np.square(x, dtype=np.float64)) / variance - 1) / math.sqrt(2 / x.size)


@distributed
@pytest.mark.parametrize('kind', ['philox', 'chacha20'])
def test_share_has_the_variance_of_the_design(layer, kind):
  """Mean, variance and parity within 4 deviations (2e-4 in all); 5 % more or less is outside."""
  slot = slot_for(layer, dim=DIM)
  (noise,) = shares(layer, slot, 5, kind=kind)
  v = slot.design.local_variance
  assert abs(np.mean(noise)) < 4 * math.sqrt(v / DIM)
  assert abs(standard_score(noise, v)) < 4
  assert abs(standard_score(noise, 0.95**2 * v)) > 4
  assert abs(standard_score(noise, 1.05**2 * v)) > 4
  assert abs(np.mean(noise % 2) - 0.5) < 4 * 0.5 / math.sqrt(DIM)


@distributed
def test_shares_of_different_keys_are_independent(layer):
  slot = slot_for(layer, dim=DIM)
  first, second, again = shares(layer, slot, 1, 2, 1)
  np.testing.assert_array_equal(first, again)
  correlation = np.mean(first.astype(np.float64) * second) / slot.design.local_variance
  assert abs(correlation) < 5 / math.sqrt(DIM)  # false alarm 6e-7


@distributed
def test_noise_is_added_to_the_value(layer):
  slot = slot_for(layer, dim=100)
  value = tf.range(-50, 50)
  (noise,) = shares(layer, slot, 3)
  sent, _ = layer.encode(slot, {'randomness': stream(3)}, value)
  np.testing.assert_array_equal(sent, value + noise)


@distributed
@pytest.mark.parametrize('honest', [1, 8, 12])
def test_curve_is_that_of_the_honest_shares(layer, honest):
  slot = slot_for(layer, dim=100)
  design = slot.design
  orders = [2.0, 8.0, 32.0]
  found = layer.curve(slot, honest).rdp(orders)
  gaussian = np.array(orders) * design.l2_bound**2 / (2 * honest * design.local_variance)
  assert np.all(found >= gaussian * (1 - 1e-12))  # never less than Gaussian noise of equal variance
  assert np.all(found <= 1.02 * gaussian)


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64], ids=['f32', 'f64'])
def test_central_noise_has_the_stated_deviation(dtype):
  """4 deviations, 6e-5 each; 5 % off is outside."""
  layer = GaussianNoise(noise_multiplier=3.0)
  slot = Slot(dim=DIM, cohort=COHORT, dtype=dtype, vector_noise_multiplier=2.5)
  total = tf.fill([DIM], tf.constant(7.0, dtype))
  noise = layer.decode(slot, {'randomness': stream(1)}, total, {}).numpy() - 7.0
  assert abs(np.mean(noise)) < 4 * 2.5 / math.sqrt(DIM)
  assert abs(standard_score(noise, 2.5**2)) < 4
  assert abs(standard_score(noise, (0.95 * 2.5) ** 2)) > 4
  assert abs(standard_score(noise, (1.05 * 2.5) ** 2)) > 4


def test_central_noise_is_not_the_clients():
  layer = GaussianNoise(noise_multiplier=3.0)
  assert not layer.distributed
  value = tf.constant([0.1, 0.2])
  slot = Slot(dim=2, cohort=COHORT, vector_noise_multiplier=2.5)
  np.testing.assert_array_equal(layer.encode(slot, {}, value)[0], value)
  np.testing.assert_allclose(layer.curve(slot, 1).rdp([4.0]), [4 / (2 * 2.5**2)], rtol=1e-12)

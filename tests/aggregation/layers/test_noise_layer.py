"""Noise layers: the stated law on every coordinate, and curves of what is sent."""

import math

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import slot_for, stream

from tff_privacy_agg.aggregation.layers import (
  CentralDiscreteGaussianNoise,
  DiscreteGaussianNoise,
  SkellamNoise,
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


def test_central_noise_has_the_variance_of_the_design():
  """4 deviations, 6e-5 each; 5 % off is outside."""
  layer = CentralDiscreteGaussianNoise(noise_multiplier=1.0)
  slot = slot_for(layer, dim=DIM, dtype=tf.float64)
  total = tf.fill([DIM], tf.constant(7, tf.int64))
  noised = layer.decode(slot, {'randomness': stream(1)}, total, {}).numpy()
  noise = noised * slot.design.scaled_norm - 7
  v = slot.design.local_variance
  np.testing.assert_allclose(noise, np.rint(noise), atol=1e-6)
  assert abs(np.mean(noise)) < 4 * math.sqrt(v / DIM)
  assert abs(standard_score(noise, v)) < 4
  assert abs(standard_score(noise, 0.95**2 * v)) > 4
  assert abs(standard_score(noise, 1.05**2 * v)) > 4
  assert abs(np.mean(np.rint(noise) % 2) - 0.5) < 4 * 0.5 / math.sqrt(DIM)


def test_central_noise_is_not_the_clients():
  layer = CentralDiscreteGaussianNoise(noise_multiplier=1.0)
  assert not layer.distributed
  slot = slot_for(layer, dim=2, dtype=tf.float64)
  value = tf.constant([0.1, 0.2], tf.float64)
  norm, z = slot.design.scaled_norm, slot.design.z_eff(1)
  np.testing.assert_array_equal(layer.encode(slot, {}, value)[0], np.rint(value * norm))
  for honest in (1, 9):
    np.testing.assert_allclose(layer.curve(slot, honest).rdp([4.0]), [4 / (2 * z**2)], rtol=1e-12)

"""Means: what is divided by what."""

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import COHORT

from tff_privacy_agg.aggregation.layers import Mean, Slot, WeightedMean

SLOT = Slot(dim=2, cohort=COHORT)


@pytest.mark.parametrize(('survivors', 'expected'), [(4, [2.0, -1.0]), (0, [8.0, -4.0])])
def test_mean_divides_by_the_survivors(survivors, expected):
  total = tf.constant([8.0, -4.0])
  decoded = Mean().decode(SLOT, {}, total, {'survivors': tf.constant(survivors, tf.float64)})
  np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
  ('weight', 'share'),
  [(0, 0), (2.5, 0.25), (10, 1), (11, 1), (-1, 0), (np.nan, 0), (np.inf, 0), (-np.inf, 0)],
)
def test_weight_is_clipped_to_its_maximum(weight, share):
  x = tf.constant([4.0, -8.0])
  params = {'client_weight': tf.constant(weight, tf.float32)}
  value, contributions = WeightedMean(maximum=10.0).encode(SLOT, params, x)
  np.testing.assert_array_equal(value, np.multiply(x, share))
  assert contributions['weight'] == share


@pytest.mark.parametrize('dtype', [tf.int32, tf.int64, tf.float64, tf.float32], ids=str)
def test_weights_of_every_number_type_serve(dtype):
  params = {'client_weight': tf.constant(5, dtype)}
  _, contributions = WeightedMean(maximum=10.0).encode(SLOT, params, tf.constant([1.0, 2.0]))
  assert contributions['weight'] == 0.5


def test_weighted_mean_is_exact():
  layer = WeightedMean(maximum=8.0)
  x = np.random.default_rng(3).normal(size=(5, 2)).astype(np.float32)
  weights = np.array([1, 2, 0, 8, 5], np.float32)
  encoded = [
    layer.encode(SLOT, {'client_weight': tf.constant(w)}, tf.constant(row))
    for w, row in zip(weights, x, strict=True)
  ]
  total = tf.add_n([value for value, _ in encoded])
  sums = {'weight': tf.add_n([numbers['weight'] for _, numbers in encoded])}
  expected = np.average(x, axis=0, weights=weights)
  np.testing.assert_allclose(layer.decode(SLOT, {}, total, sums), expected, rtol=1e-5)
  np.testing.assert_allclose(layer.update(SLOT, {}, {}, sums)[1]['weight'], 16.0, rtol=1e-6)


@pytest.mark.parametrize(('z', 'expected'), [(1.0, 3.0), (0.0, 6.0)])
def test_noise_near_zero_cannot_blow_up_the_mean(z, expected):
  """With noise a sum of weights below one full weight counts as one; without, it is exact."""
  slot = Slot(dim=1, cohort=COHORT, vector_noise_multiplier=z)
  sums = {'weight': tf.constant(0.5, tf.float64)}
  decoded = WeightedMean(maximum=1.0).decode(slot, {}, tf.constant([3.0]), sums)
  np.testing.assert_allclose(decoded, [expected], rtol=1e-6)


def test_all_weights_zero_give_zeros():
  sums = {'weight': tf.constant(0.0, tf.float64)}
  decoded = WeightedMean(maximum=1.0).decode(SLOT, {}, tf.zeros([2]), sums)
  np.testing.assert_array_equal(decoded, np.zeros(2))

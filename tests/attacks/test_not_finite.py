"""One client with NaN or infinity must not spoil the sum, or go unclipped."""

import numpy as np
import pytest
import tensorflow as tf
from attack_runs import plain_layers, run, stack_of

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

DIM = 12
GOOD = np.random.default_rng(0).normal(size=[3, DIM]).astype(np.float32)
POISON = {'nan': np.nan, 'inf': np.inf, 'minus_inf': -np.inf, 'overflowing': 3e38}
QUANTILE = AdaptiveQuantile(initial=2.0, target=0.5)
poisons = pytest.mark.parametrize('poison', POISON.values(), ids=POISON.keys())


def with_poison(poison):
  bad = np.ones([2, DIM])
  bad[0, 3] = poison
  bad[1, :] = poison
  return np.concatenate([GOOD[:1], bad, GOOD[1:]])


STACKS = {
  'clipped': [Clipping(norm=1.0)],
  'adaptive': [Clipping(norm=QUANTILE)],
  'zeroed': [Zeroing(threshold=QUANTILE), Clipping(norm=1.0)],
  'rotated_first': [HadamardRotation(), Zeroing(threshold=20.0), Clipping(norm=1.0)],
  'rotated_dft': [DFTRotation(), Clipping(norm=1.0)],
  'weighted': [WeightedMean(maximum=2.0), Clipping(norm=1.0)],
  'weighted_last': [Clipping(norm=1.0), WeightedMean(maximum=2.0)],
}


@poisons
@pytest.mark.parametrize('real', STACKS.values(), ids=STACKS.keys())
@pytest.mark.parametrize('secure', [False, True], ids=['plain', 'secure'])
def test_the_sum_is_the_sum_without_them(poison, real, secure):
  end = [Quantization(), SecureModularSum(bits=50)] if secure else [PlainSum()]
  stack = stack_of([*real, *end], DIM)
  if stack.binding.dtype == tf.float64 and np.isfinite(poison):
    poison = 1e300  # what overflows there
  state = stack.init()
  values = with_poison(poison)
  _, found, _ = run(stack, values, state, weights=[1.0] * 5)
  _, expected, _ = run(stack, GOOD, state, weights=[1.0] * 3)
  if any(isinstance(layer, WeightedMean) for layer in real):
    expected = expected * (3 / 5)  # their weights count, their values are zero
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@poisons
def test_a_plain_sum_alone_is_spared_too(poison):
  stack = stack_of([Mean(), PlainSum()], DIM)
  _, found, measurements = run(stack, with_poison(poison))
  np.testing.assert_allclose(found, GOOD.sum(axis=0) / 5, rtol=1e-5)
  assert measurements['privacy']['survivors'] == 5


@poisons
def test_a_private_sum_moves_by_no_more_than_one_client_may_move_it(poison):
  """The same keys with and without the poison: the difference is within twice the bound."""
  stack = stack_of([Zeroing(threshold=QUANTILE), *plain_layers(z=1.0)], DIM)
  state = stack.init()
  _, found, measurements = run(stack, with_poison(poison), state)
  harmless = with_poison(poison)
  harmless[1:3] = 0
  _, expected, _ = run(stack, harmless, state)
  np.testing.assert_array_equal(found, expected)
  assert np.all(np.isfinite([float(v) for v in measurements['zeroing'].values()]))


@poisons
@pytest.mark.parametrize('everywhere', [False, True])
def test_a_poisoned_weight_counts_as_none(poison, everywhere):
  stack = stack_of([Clipping(norm=100.0), WeightedMean(maximum=2.0), PlainSum()], DIM)
  weights = np.array([1.0, poison, 1.0])
  _, found, _ = run(stack, GOOD, weights=weights)
  if np.isfinite(poison):  # 3e38 is a weight, clipped to 2
    expected = np.average(GOOD, axis=0, weights=[1, 2, 1])
  else:
    expected = np.average(GOOD, axis=0, weights=[1, 0, 1])
  np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize('poison', [np.nan, np.inf])
def test_of_the_test_clipping_by_norm_alone_is_spoilt(poison):
  clipped = [tf.clip_by_norm(x, 1.0).numpy() for x in with_poison(poison)]
  assert np.all(np.isnan(np.sum(clipped, axis=0)))
  # And as integers it is whatever the processor says of NaN, far outside of any bound.
  assert np.abs(tf.cast(tf.constant([np.nan]), tf.int32)[0].numpy().astype(np.int64)) > 2**30


def test_noise_is_there_even_if_all_clients_are_poisoned():
  stack = stack_of(plain_layers(z=4.0), DIM)
  _, found, _ = run(stack, np.full([10, DIM], np.nan))
  assert np.all(np.isfinite(found))
  assert np.all(found != 0)

"""Correlated noise: the integers of each round, their room, and what the layer refuses."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from layer_cases import STRATEGY, slot_for, stream

import tff_privacy_agg as tpa
from tff_privacy_agg.accounting.correlated.column import ONE
from tff_privacy_agg.aggregation.domains import RealVectors
from tff_privacy_agg.aggregation.layers import CentralDiscreteGaussianNoise, CorrelatedNoise
from tff_privacy_agg.errors import CompositionError, ConfigurationError

LAYER = CorrelatedNoise(noise_multiplier=1.0, strategy=STRATEGY)
DIM = 50


def rounds_of(layer, slot, totals):
  """What each round releases, in steps, and the history that it leaves."""
  state = layer.init(slot)
  for number, total in enumerate(totals):
    params = {'randomness': stream(number)}
    noised, state = layer.decode_keeping(slot, params, total, state)
    yield np.rint(noised.numpy() * slot.design.scaled_norm).astype(int), state['history'].numpy()


def test_the_noise_of_a_round_is_a_draw_less_what_is_carried_over_in_exact_arithmetic():
  slot = slot_for(LAYER, dim=DIM, dtype=tf.float64)
  independent = CentralDiscreteGaussianNoise(noise_multiplier=1.0)
  totals = [tf.fill([DIM], tf.constant(1000 * number, tf.int64)) for number in range(8)]
  before = []
  for number, (released, history) in enumerate(rounds_of(LAYER, slot, totals)):
    drawn = independent.decode(
      slot, {'randomness': stream(number)}, tf.zeros([DIM], tf.int64), {}
    ).numpy()
    fresh = [round(x) for x in drawn * slot.design.scaled_norm]
    expected = []
    for coordinate in range(DIM):
      carried = sum(
        c * past[coordinate] for c, past in zip(STRATEGY.column.steps[1:], before, strict=False)
      )
      expected.append(fresh[coordinate] - (carried + ONE // 2) // ONE)
    np.testing.assert_array_equal(released - totals[number].numpy(), expected)
    before = [expected, *before][:2]
    np.testing.assert_array_equal(history[: len(before)], before)
    assert history.shape == (2, DIM)
    assert history.dtype == np.int64


def test_the_history_is_never_broadcast():
  slot = slot_for(LAYER, dim=DIM)
  assert not LAYER.prepare(slot, LAYER.init(slot))


def test_a_column_of_one_keeps_nothing_and_is_independent_noise():
  one = CorrelatedNoise(
    noise_multiplier=1.0, strategy=tpa.BandedToeplitz.from_floats([1.0], separation=1)
  )
  assert not one.keeps_noise
  assert not one.init(slot_for(one))
  slot, total = slot_for(one, dim=3, dtype=tf.float64), tf.zeros([3], tf.int64)
  independent = CentralDiscreteGaussianNoise(noise_multiplier=1.0)
  params = {'randomness': stream(1)}
  np.testing.assert_array_equal(
    one.decode(slot, params, total, {}), independent.decode(slot, params, total, {})
  )


def test_a_norm_that_adapts_in_all_rounds_is_refused():
  assert LAYER.output_domain(RealVectors(l2_bounded=True)).central
  norm = tpa.AdaptiveQuantile(initial=1.0, target=0.5)
  cohort = tpa.Cohort(expected=3)
  with pytest.raises(CompositionError, match='noise in other units would not cancel'):
    tpa.compose([tpa.Clipping(norm=norm), LAYER, tpa.PlainSum()], cohort=cohort)
  frozen = tpa.Clipping(norm=dataclasses.replace(norm, frozen_after=5))
  assert tpa.compose([frozen, LAYER, tpa.PlainSum()], cohort=cohort).layers[0] == frozen
  with pytest.raises(CompositionError, match='Use `PlainSum`'):
    tpa.compose(
      [tpa.Clipping(norm=1.0), LAYER, tpa.SecureModularSum()], cohort=tpa.Cohort(expected=3)
    )


@pytest.mark.parametrize(
  ('coefficients', 'message'),
  [
    ([1.0, 1.5], 'grows from round to round'),
    ([1.0, 0.9999], 'there is room for'),
    ([1.0, *([0.0] * 2), 2.0**-2, *([-(2.0**-2)] * 3)], None),
  ],
)
def test_noise_that_the_integers_have_no_room_for_is_refused_when_bound(coefficients, message):
  strategy = tpa.BandedToeplitz.from_floats(coefficients, separation=9)
  layers = [tpa.Clipping(norm=1.0), CorrelatedNoise(noise_multiplier=1.0, strategy=strategy)]
  stack = tpa.compose([*layers, tpa.PlainSum()], cohort=tpa.Cohort(expected=3))
  value_type = tpa._tff.compat.TensorType(np.float32, [3])
  if message is None:
    assert stack.bind(value_type).strategy == strategy
    return
  with pytest.raises(ConfigurationError, match=message):
    stack.bind(value_type)


def test_the_recipe_takes_a_norm_with_a_strategy():
  strategy = tpa.BandedToeplitz.from_floats([1.0, 0.5], separation=2)
  with pytest.raises(ConfigurationError, match='Pass `clipping_norm`'):
    tpa.dp_aggregator(1.0, 10, correlated=strategy)
  frozen = tpa.AdaptiveQuantile(initial=0.1, target=0.5, frozen_after=10)
  for norm in (0.5, frozen):
    layers = tpa.dp_aggregator(1.0, 10, correlated=strategy, clipping_norm=norm).layers
    assert layers[-3] == tpa.Clipping(norm=norm)
    assert layers[-2] == CorrelatedNoise(noise_multiplier=1.0, strategy=strategy)


def test_a_strategy_is_asked_for():
  with pytest.raises(ConfigurationError, match='`strategy`'):
    CorrelatedNoise(noise_multiplier=1.0, strategy=[1.0, 0.5])
  with pytest.raises(ConfigurationError, match='at least 2 rounds apart'):
    tpa.BandedToeplitz.from_floats([1.0, 0.5], separation=1)

"""Clipping, zeroing and their adaptive thresholds."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from layer_cases import COHORT, HOSTILE

from tff_privacy_agg.aggregation.domains import Channel
from tff_privacy_agg.aggregation.layers import AdaptiveQuantile, Clipping, Slot, Zeroing
from tff_privacy_agg.errors import ConfigurationError

# TensorFlow may flush subnormal numbers to zero, so hypothesis draws none; `HOSTILE` has some.
finite = hnp.arrays(
  np.float32,
  st.integers(1, 20),
  elements=st.floats(-(2.0**20), 2.0**20, width=32, allow_subnormal=False),
)
norms = st.floats(1e-12, 1e12)
QUANTILE = AdaptiveQuantile(initial=2.0, target=0.75, learning_rate=0.5)


def slot_of(dim, dtype=tf.float32):
  return Slot(dim=dim, cohort=COHORT, dtype=dtype)


def encode(layer, x, params=None):
  value = tf.convert_to_tensor(x)
  slot = slot_of(value.shape[0], value.dtype)
  prepared = layer.prepare(slot, layer.init(slot)) if params is None else params
  encoded, contributions = layer.encode(slot, prepared, value)
  return encoded.numpy(), contributions


def norm_of(x):
  return np.linalg.norm(np.asarray(x, np.float64))


@settings(max_examples=150, deadline=None)
@given(finite, norms)
def test_clipping_bounds_the_norm_and_keeps_the_direction(x, norm):
  y, _ = encode(Clipping(norm=norm), x)
  assert norm_of(y) <= 1 + 1e-5
  expected = x.astype(np.float64) / max(norm_of(x), norm)
  np.testing.assert_allclose(y, expected, rtol=2e-5, atol=1e-30)


@pytest.mark.parametrize('magnitude', [1e-45, 1e-40, 1e-30, 1e-20, 1e-12, 1.0, 1e12, 1e18])
@pytest.mark.parametrize('norm', [1e-12, 1.0, 1e12])
@pytest.mark.parametrize('dim', [1, 4096])
def test_clipping_bounds_every_magnitude(magnitude, norm, dim):
  y, _ = encode(Clipping(norm=norm), np.full(dim, magnitude, np.float32))
  assert norm_of(y) <= 1 + 1e-5


def test_clipping_decodes_to_the_unit_of_the_values():
  layer, slot = Clipping(norm=0.25), slot_of(2)
  x = np.array([3.0, 4.0], np.float32)
  y, _ = encode(layer, x)
  decoded = layer.decode(slot, {}, tf.constant(y), {})
  np.testing.assert_allclose(decoded, [0.15, 0.2], rtol=1e-6)


@pytest.mark.parametrize('poison', [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_clipping_sends_zeros_for_what_has_no_norm(poison):
  """An overflowing norm says nothing of the direction either."""
  y, contributions = encode(Clipping(norm=QUANTILE), np.array([1, poison, 2], np.float32))
  np.testing.assert_array_equal(y, np.zeros(3))
  assert contributions['below'] == -1


@pytest.mark.parametrize('kind', [Clipping, Zeroing])
@pytest.mark.parametrize('bad', [1e-13, 1e13, 1e-40, 1e39])
def test_norms_that_float32_cannot_square_are_refused(kind, bad):
  field = 'norm' if kind is Clipping else 'threshold'
  with pytest.raises(ConfigurationError, match=f'`{field}` must lie between 1e-12 and 1e\\+12'):
    kind(**{field: bad})
  with pytest.raises(ConfigurationError, match='`initial` must lie between'):
    AdaptiveQuantile(initial=bad, target=0.5)


@settings(max_examples=100, deadline=None)
@given(finite, norms)
def test_zeroing_keeps_or_zeroes_whole_vectors(x, threshold):
  y, _ = encode(Zeroing(threshold=threshold), x)
  if norm_of(x) <= threshold * (1 - 1e-5):
    np.testing.assert_array_equal(y, x)
  elif norm_of(x) > threshold * (1 + 1e-5):
    np.testing.assert_array_equal(y, np.zeros_like(x))
  else:
    assert np.array_equal(y, x) or not y.any()


@pytest.mark.parametrize('poison', [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_zeroing_takes_what_has_no_norm_as_above(poison):
  y, contributions = encode(Zeroing(threshold=QUANTILE), np.array([poison, 1], np.float32))
  np.testing.assert_array_equal(y, np.zeros(2))
  assert contributions['above'] == 1


@pytest.mark.parametrize('name', HOSTILE)
def test_zeroing_then_clipping_is_finite_and_bounded(name):
  x = np.array([HOSTILE[name], 0.5, -HOSTILE[name]], np.float32)
  y, _ = encode(Zeroing(threshold=10.0), x)
  y, _ = encode(Clipping(norm=0.1), y)
  assert norm_of(y) <= 1 + 1e-5


def test_indicators_are_of_the_estimate_and_the_limit():
  """Clipping's bit is about the radius itself; zeroing's about the quantile, not 2 q + 1."""
  wide = AdaptiveQuantile(initial=2.0, target=0.75, multiplier=2.0, increment=1.0)
  for length, above in ((1.9, -1), (2.1, 1), (4.9, 1), (5.1, 1)):
    x = np.array([length], np.float32)
    y, contributions = encode(Zeroing(threshold=wide), x)
    assert contributions['above'] == above
    assert y[0] == (x[0] if length < 5 else 0)
  for length, below in ((2.0, 1), (2.1, -1)):
    _, contributions = encode(Clipping(norm=QUANTILE), np.array([length], np.float32))
    assert contributions['below'] == below


@pytest.mark.parametrize(
  ('layer', 'channel', 'sign', 'key'),
  [
    (Clipping(norm=QUANTILE), 'below', 1, 'norm'),
    (Zeroing(threshold=QUANTILE), 'above', -1, 'estimate'),
  ],
  ids=['clipping', 'zeroing'],
)
@pytest.mark.parametrize('at_or_below', [0, 3, 8])
def test_update_moves_the_estimate_by_the_fraction(layer, channel, sign, key, at_or_below):
  slot, k = slot_of(3), 8
  bits = sign * (2.0 * at_or_below - k)
  sums = {'survivors': tf.constant(float(k), tf.float64), channel: tf.constant(bits, tf.float64)}
  state = layer.init(slot)
  new, measured = layer.update(slot, state, layer.prepare(slot, state), sums)
  expected = 2.0 * math.exp(-0.5 * (at_or_below / k - 0.75))
  np.testing.assert_allclose(new[key], expected, rtol=1e-6)
  reported = at_or_below / k if sign == 1 else 1 - at_or_below / k
  np.testing.assert_allclose(measured[channel], reported, rtol=1e-6)


@pytest.mark.parametrize('noisy_sum', [-1e6, 1e6])
def test_noise_cannot_push_the_fraction_out_of_range(noisy_sum):
  layer, slot = Clipping(norm=QUANTILE), slot_of(3)
  state = layer.init(slot)
  sums = {'survivors': tf.constant(8.0, tf.float64), 'below': tf.constant(noisy_sum, tf.float64)}
  new, measured = layer.update(slot, state, layer.prepare(slot, state), sums)
  fraction = float(noisy_sum > 0)
  assert measured['below'] == fraction
  np.testing.assert_allclose(new['norm'], 2 * math.exp(-0.5 * (fraction - 0.75)), rtol=1e-6)


def test_estimate_settles_at_the_quantile():
  """1,000 norms 0.01 to 10: the 75 % quantile is 7.5."""
  layer, slot = Clipping(norm=QUANTILE), slot_of(1)
  lengths = np.arange(1, 1001) / 100
  state = layer.init(slot)
  for _ in range(60):
    bits = 2.0 * np.sum(lengths <= float(state['norm'])) - 1000
    sums = {'survivors': tf.constant(1000.0), 'below': tf.constant(bits)}
    state, _ = layer.update(slot, state, layer.prepare(slot, state), sums)
  assert 7.4 < state['norm'] < 7.6


def test_channels_exist_only_where_thresholds_adapt():
  assert Clipping(norm=1.0).channels == {}
  assert Zeroing(threshold=1.0).channels == {}
  stated = AdaptiveQuantile(initial=1.0, target=0.5, count_stddev=3.0)
  # A count's deviation of 3 clients is one of 6 in the sum of +1 and -1.
  assert Clipping(norm=stated).channels == {'below': Channel(stddev=6.0)}
  assert Zeroing(threshold=QUANTILE).channels == {'above': Channel(stddev=None)}


@pytest.mark.parametrize(
  ('kind', 'key', 'channel'), [(Clipping, 'norm', 'below'), (Zeroing, 'estimate', 'above')]
)
def test_a_frozen_threshold_follows_as_many_rounds_as_it_says(kind, key, channel):
  field = 'norm' if kind is Clipping else 'threshold'
  followed = kind(**{field: QUANTILE})
  frozen = kind(**{field: dataclasses.replace(QUANTILE, frozen_after=3)})
  assert frozen.channels == followed.channels
  slot = slot_of(3)
  sums = {'survivors': tf.constant(8.0, tf.float64), channel: tf.constant(8.0, tf.float64)}
  states = {layer: layer.init(slot) for layer in (followed, frozen)}
  for number in range(6):
    before = float(states[frozen][key])
    for layer, state in states.items():
      params = layer.prepare(slot, state)
      assert list(params) == [key]
      states[layer], _ = layer.update(slot, state, params, sums)
    if number < 3:
      assert states[frozen][key] == states[followed][key] != before
    else:
      assert states[frozen][key] == before != states[followed][key]


@pytest.mark.parametrize('bad', [0, -1, 1.5, True, '3'])
def test_a_number_of_rounds_that_is_none_is_refused(bad):
  with pytest.raises(ConfigurationError, match='`frozen_after` must be'):
    dataclasses.replace(QUANTILE, frozen_after=bad)


def test_a_threshold_that_never_settles_is_written_as_in_ledgers_of_before():
  assert repr(AdaptiveQuantile(initial=10.0, target=0.98)) == (
    'AdaptiveQuantile(initial=10.0, target=0.98, learning_rate=0.2, multiplier=1.0, increment=0.0, '
    'count_stddev=None)'
  )
  assert repr(dataclasses.replace(QUANTILE, frozen_after=3)).endswith('frozen_after=3)')

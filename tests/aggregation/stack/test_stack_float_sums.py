"""The central model: one client moves the computed sum by no more than the noise covers."""

import fractions
import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from stack_runs import added, messages, stack_of

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import float_sum_sensitivity
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  Clipping,
  DFTRotation,
  GaussianNoise,
  HadamardRotation,
  PlainSum,
)

CENTRAL = [Clipping(norm=1.0), GaussianNoise(noise_multiplier=1.0), PlainSum()]
# Ordered so that the sum passes 4096, where float32 steps are twice as wide, or just does not.
OTHERS = [1.0] * 4095 + [2**-12 * (1 + 2**-20)] * 4000


@functools.cache
def central_stack(dtype=tf.float32, clients=8096, dim=1):
  return stack_of(CENTRAL, dim, Cohort(expected=clients, minimum=1, maximum=clients), dtype)


def in_turn(stack, values):
  """The sum as a server adds it: one client after the other, in the dtype of the messages."""
  sent = {value: messages(stack, stack.init(), [[value]])[0]['vector'] for value in {*values}}
  column = np.stack([sent[value].numpy()[0] for value in values])
  return float(np.add.accumulate(column)[-1])


def test_zeroing_one_of_8096_clients_moves_the_sum_by_its_bound():
  """In float32 it moved by 1.977: at noise multiplier 1 the true epsilon was twice the stated."""
  stack = central_stack()
  with_client, without = in_turn(stack, [1.0, *OTHERS]), in_turn(stack, [0.0, *OTHERS])
  assert abs(with_client - without) <= float_sum_sensitivity(8096, 1)
  column = np.array([1.0, *OTHERS], np.float32)  # what it must not be
  moved = np.add.accumulate(column)[-1] - np.add.accumulate(np.array([0.0, *OTHERS], 'f4'))[-1]
  assert moved > 1.97
  assert accounting.gaussian_epsilon(float(moved), 1e-5) > 2 * accounting.gaussian_epsilon(1, 1e-5)


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
def test_messages_of_the_central_model_are_float64(dtype):
  sent = messages(central_stack(dtype), central_stack(dtype).init(), [[3.0]])[0]
  assert sent['vector'].dtype == tf.float64


@settings(max_examples=80, deadline=None)
@given(hnp.arrays(np.float64, 16, elements=st.floats(-(2.0**40), 2.0**40)), st.booleans())
def test_the_exact_norm_of_a_message_is_within_its_bound(vector, rotated):
  layers = CENTRAL if not rotated else [CENTRAL[0], DFTRotation(), *CENTRAL[1:]]
  stack = stack_of(layers, 16, Cohort(expected=4, minimum=1), tf.float64)
  (sent,) = messages(stack, stack.init(), [vector])
  square = sum(fractions.Fraction(float(x)) ** 2 for x in sent['vector'].numpy())
  bound = 1 + fractions.Fraction(16 + 16, 2**53)
  assert square <= bound**2


@settings(max_examples=60, deadline=None)
@given(
  hnp.arrays(np.float64, (20, 3), elements=st.floats(-1.0, 1.0)),
  st.integers(0, 19),
  st.sampled_from([HadamardRotation, None]),
)
def test_any_client_of_any_sum_moves_it_by_no_more(values, zeroed, rotation):
  layers = [CENTRAL[0], *([rotation()] if rotation else []), *CENTRAL[1:]]
  stack = stack_of(layers, 3, Cohort(expected=20, minimum=1), tf.float64)
  sent = messages(stack, stack.init(), values)
  state = stack.init()
  other = values.copy()
  other[zeroed] = 0
  neighbour = messages(stack, state, other)
  if rotation:  # one seed for both
    sent = messages(stack, state, values)
  moved = added(sent)['vector'].numpy() - added(neighbour)['vector'].numpy()
  assert np.linalg.norm(moved) <= float_sum_sensitivity(20, 3) * (1 + 1e-15)


def test_the_noise_is_scaled_by_what_roundings_add(monkeypatch):
  stack = central_stack()
  zeros = tf.zeros([1], tf.float64)
  layer, slot = CENTRAL[1], stack.binding.slots['gaussian_noise']

  class Stream:
    def seed(self, number):
      return tf.constant([1, number], tf.int64)

  def draw():
    return layer.decode(slot, {'randomness': Stream()}, zeros, {}).numpy()[0]

  drawn = draw()
  monkeypatch.setattr(accounting, 'float_sum_sensitivity', lambda clients, dimension: 3.0)
  assert draw() / drawn == pytest.approx(3.0 / float_sum_sensitivity(8096, 1))


def test_the_bound_is_close_to_one_for_cohorts_that_there_are():
  assert 1 < float_sum_sensitivity(1, 1) < 1 + 1e-14
  assert float_sum_sensitivity(10_000, 10**8) < 1 + 1e-7
  assert float_sum_sensitivity(10**6, 10**6) < 1.001
  assert math.isfinite(float_sum_sensitivity(2**31 - 1, 10**9))

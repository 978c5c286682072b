"""Correlated noise in whole rounds: its covariance, its account round by round, its restart."""

import functools
import math

import numpy as np
import pytest
import tensorflow as tf
from stack_runs import DELTA, run, stack_of

import tff_privacy_agg as tpa
from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  Clipping,
  CorrelatedNoise,
  PlainSum,
  Zeroing,
)
from tff_privacy_agg.aggregation.noise_history import holds_noise
from tff_privacy_agg.aggregation.stack import Stack

COLUMN = [1.0, 0.55, 0.45, 0.4]
ROUNDS, DIM = 20, 5000


def layers_of(column=COLUMN, *, separation=4, participations=None, z=2.0, norm=1.0, zeroing=()):
  strategy = tpa.BandedToeplitz.from_floats(
    column, separation=separation, participations=participations
  )
  noise = CorrelatedNoise(noise_multiplier=z, strategy=strategy)
  return [*zeroing, Clipping(norm=norm), noise, PlainSum()]


def integers(stack, vector):
  return np.rint(vector * stack.binding.design.scaled_norm)


@functools.cache
def noise_of_rounds():
  """`[rounds, d]`: releases less the exact sums, which are of zeros, and the design's variance."""
  stack, state, noise = stack_of(layers_of(), DIM), None, []
  for number in range(ROUNDS):
    state, vector, _ = run(stack, np.zeros([2, DIM]), state, seed=number)
    noise.append(integers(stack, vector))
  return np.array(noise), stack.binding.design.local_variance


def scores(column):
  """Standard scores of the products at lags 0 to 5 of what a column makes of the noise.

  With the right column that is the fresh draws, which are independent. Each score is then normal.
  """
  noise, variance = noise_of_rounds()
  fresh = np.array(
    [sum(c * noise[t - j] for j, c in enumerate(column) if j <= t) for t in range(ROUNDS)]
  )
  found = []
  for lag in range(6):
    products = fresh[lag:] * fresh[: ROUNDS - lag] / variance
    spread = math.sqrt(2) if lag == 0 else 1.0
    found.append(float((products - (lag == 0)).sum() / spread / math.sqrt(products.size)))
  return np.array(found)


def test_the_covariance_over_rounds_is_that_of_the_strategy():
  """Six scores, each beyond 4.5 with probability 7e-6: a false alarm in 24,000 runs."""
  assert np.all(np.abs(scores(COLUMN)) < 4.5)


@pytest.mark.parametrize(
  'near_miss',
  [
    [1.0, 0.55 * 0.95, 0.45, 0.4],
    [1.0, 0.55, 0.45 * 1.05, 0.4],
    [1.0, 0.55, 0.45],
    [1.0, 0.55, 0.4, 0.45],
    [1.0, -0.55, -0.45, -0.4],
    [1.0, 0.0, 0.55, 0.45, 0.4],
    [1.02, 0.55, 0.45, 0.4],
    [1.0],
  ],
  ids=['first', 'second', 'short', 'swapped', 'sign', 'lag', 'variance', 'independent'],
)
def test_near_misses_are_told_from_it(near_miss):
  """Each is at least 7 deviations off in one score: missed with probability below 0.7 %."""
  assert np.any(np.abs(scores(near_miss)) > 4.5)


def test_accumulated_noise_is_smaller_than_that_of_independent_rounds():
  noise, variance = noise_of_rounds()
  of_strategy = np.var(noise.cumsum(axis=0), axis=1).mean()
  independent = variance * (ROUNDS + 1) / 2 / np.sum(np.square(COLUMN))  # at equal cost
  assert of_strategy < 0.7 * independent


@pytest.mark.parametrize('participations', [None, 2])
def test_a_client_pays_for_as_many_participations_as_the_rounds_leave(participations):
  stack = stack_of(layers_of(separation=5, participations=participations), 3)
  strategy, state = stack.binding.strategy, None
  for number in range(1, 14):
    state, _, measured = run(stack, np.zeros([2, 3]), state, seed=number)
    p = strategy.most_participations(number)
    cost = p * np.array(stack.binding.price.gaussian(1), dtype=object)
    account = accounting.GaussianAccount()
    distance = p * stack.binding.price.distance(1)
    expected, _ = account.epsilon(cost, DELTA, distance)
    assert measured['privacy']['release_epsilon'] == pytest.approx(expected, rel=1e-6)
    assert measured['privacy']['release_epsilon'] >= expected
    assert measured['privacy']['epsilon'] == math.inf
    assert measured['privacy']['rounds'] == number


def test_channels_are_paid_once_a_participation():
  threshold = AdaptiveQuantile(initial=10.0, target=0.98)
  stack = stack_of(layers_of(zeroing=[Zeroing(threshold=threshold)]), 3)
  update, above = stack.binding.price.vectors
  assert update.steps
  assert not above.steps
  assert stack.binding.noise_multiplier(1) == pytest.approx(2.0, rel=1e-4)
  _, _, measured = run(stack, np.zeros([4, 3]))
  assert measured['privacy']['noise_multiplier'] == pytest.approx(2.0, rel=1e-4)


def test_a_norm_that_is_frozen_after_some_rounds_changes_the_units_and_not_the_noise():
  """Rounds without enough survivors do not count towards the freeze."""
  cohort = tpa.Cohort(expected=4, minimum=2)
  norm = AdaptiveQuantile(initial=1.0, target=0.5, learning_rate=1.0, frozen_after=2)
  adapted = stack_of(layers_of(norm=norm), 3, cohort)
  fixed = stack_of(layers_of(), 3, cohort)
  assert adapted.binding.price.separation == fixed.binding.price.separation
  norms, state, before = [], None, 1.0
  for number in range(6):
    clients = 1 if number == 1 else 4
    state, vector, measured = run(adapted, np.zeros([clients, 3]), state, seed=number)
    newest = state['correlated_noise']['history'].numpy()[0]
    # Zeros are all that was sent: what is released is the noise in units of the round's norm.
    steps = vector / before * adapted.binding.design.scaled_norm
    np.testing.assert_allclose(steps, newest * measured['privacy']['accepted'], atol=0.01)
    before = float(state['clipping']['norm'])
    norms.append(before)
  assert norms[0] == norms[1] != 1.0
  assert len(set(norms[2:])) == 1
  assert norms[2] != norms[1]


def test_a_round_that_is_not_accepted_moves_the_noise_and_releases_nothing():
  stack = stack_of(layers_of(), 3, tpa.Cohort(expected=4, minimum=2))
  state, _, _ = run(stack, np.zeros([3, 3]))
  history = state['correlated_noise']['history'].numpy()
  state, vector, measured = run(stack, np.zeros([1, 3]), state, seed=1)
  assert not measured['privacy']['accepted']
  assert not vector.any()
  after = state['correlated_noise']['history'].numpy()
  np.testing.assert_array_equal(after[1:], history[:-1])
  assert after[0].any()


def test_the_budget_halts_before_the_participation_that_passes_it():
  layers = layers_of(separation=4)
  binding = stack_of(layers, 3).binding
  two = 2 * np.array(binding.price.gaussian(1), dtype=object)
  epsilon, _ = accounting.GaussianAccount().epsilon(two, DELTA, 0.0)
  budget = tpa.Budget(epsilon=epsilon * 1.001, delta=DELTA, view='release')
  stack = Stack(binding=binding, delta=DELTA, limit=binding.limit(budget))
  state, halted = None, []
  for number in range(10):
    state, _, measured = run(stack, np.zeros([2, 3]), state, seed=number)
    halted.append(bool(measured['privacy']['halted']))
  assert halted == [False] * 8 + [True] * 2
  # A restart after two rounds leaves room for one participation more, which begins at once.
  state = None
  for number in range(2):
    state, _, _ = run(stack, np.zeros([2, 3]), state, seed=number)
  anew = stack.restarted(state, 1)
  assert not anew['privacy']['halted']
  assert stack.restarted(stack.restarted(anew, 1), 1)['privacy']['halted']


@pytest.mark.parametrize('before', range(6))
@pytest.mark.parametrize('lost', range(4))
@pytest.mark.parametrize('cap', [None, 2])
def test_a_restart_counts_what_a_client_may_have_taken_part_in(before, lost, cap):
  stack = stack_of(layers_of(separation=4, participations=cap), 2)
  state = stack.init()
  for number in range(before):
    state, _, _ = run(stack, np.zeros([2, 2]), state, seed=number)
  anew = stack.restarted(state, lost)
  segments = [before + 1, *[1] * (lost - 1)] if lost else [before]
  most = sum(-(-rounds // 4) for rounds in segments)
  assert anew['privacy']['shares'] == (most if cap is None else min(most, cap))
  assert anew['privacy']['rounds'] == before + lost
  assert not np.any(anew['correlated_noise']['history'])
  state, _, _ = run(stack, np.zeros([2, 2]), anew, seed=77)
  history = state['correlated_noise']['history'].numpy()
  assert history[0].any()
  assert not history[1:].any()
  after = most + 1
  assert state['privacy']['shares'] == (after if cap is None else min(after, cap))
  cost = int(state['privacy']['shares']) * np.array(stack.binding.price.gaussian(1))
  np.testing.assert_array_equal(state['privacy']['cost'], cost)


def test_states_tell_whether_they_hold_noise():
  stack = stack_of(layers_of(), 2)
  assert holds_noise({'a': [(stack.init(), 1)]})
  assert not holds_noise(stack_of([Clipping(norm=1.0), PlainSum()], 2).init())


def test_a_release_and_its_measurements_show_neither_noise_nor_sum():
  stack, state = stack_of(layers_of(), 40), None
  values = np.random.default_rng(0).normal(size=[3, 40]) / 50
  shown = []
  for number in range(4):
    params = stack.prepare(stack.init() if state is None else state)
    state, vector, measured = run(stack, values, state, seed=number)
    shown += [vector, *map(np.asarray, tf.nest.flatten([params, measured]))]
    noise = state['correlated_noise']['history'].numpy()[0]
    exact = integers(stack, vector) - noise
    scale = stack.binding.design.scaled_norm
    for secret in (noise, exact, noise / scale, exact / scale):
      assert not any(
        one.size == 40 and np.allclose(one, secret, rtol=1e-3, atol=1e-9) for one in shown
      )
    assert np.abs(exact / scale - values.sum(axis=0)).max() < 1e-3  # it is the exact sum

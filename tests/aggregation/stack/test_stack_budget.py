"""A budget inside the computation, and releases next to the stack."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from stack_runs import messages, run, serve, silent_sums, stream

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  CentralDiscreteGaussianNoise,
  Clipping,
  CoordinateClipping,
  DiscreteGaussianNoise,
  HadamardRotation,
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
  WeightedMean,
)
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import LedgerFacts

DIM, DELTA = 6, 1e-5
COHORT = Cohort(expected=8, minimum=6)
QUANTILE = AdaptiveQuantile(initial=1.0, target=0.5)
laws = pytest.mark.parametrize('law', [DiscreteGaussianNoise, SkellamNoise], ids=['gauss', 'skel'])


def layers_of(law=DiscreteGaussianNoise, z=3.0, first=(), bits=20):
  rest = [Clipping(norm=QUANTILE), HadamardRotation(), Quantization()]
  return [*first, *rest, law(noise_multiplier=z), SecureModularSum(bits=bits)]


def limited(epsilon, law=DiscreteGaussianNoise, beside=(), first=()):
  bound = binding.bind(layers_of(law, first=first), COHORT, DIM, tf.float32, beside)
  limit = bound.limit(Budget(epsilon=epsilon, delta=DELTA))
  return Stack(binding=bound, delta=DELTA, limit=limit)


def rounds_until_halted(stack, survivors, most=200):
  """Rounds that were run, and the last state and measurements before the halt."""
  state, last = stack.init(), None
  for done in range(most):
    new_state, _, measurements = serve(stack, state, silent_sums(stack, survivors(done)))
    if measurements['privacy']['halted']:
      return done, state, last
    state, last = new_state, measurements
  raise AssertionError('it never halted')


@laws
@pytest.mark.parametrize('epsilon', [1.5, 4.0, 12.0])
def test_it_halts_before_the_budget_is_passed_and_not_long_before(law, epsilon):
  stack = limited(epsilon, law)
  done, state, last = rounds_until_halted(stack, lambda _: 6)
  assert float(last['privacy']['epsilon']) <= epsilon
  # Of Skellam noise the order is fixed beforehand; the best one afterwards admits a little more.
  account, cost = stack.binding.account, stack.binding.costs[6].astype(object)
  best = max(n for n in range(1, 2000) if account.epsilon(n * cost, DELTA, 0.0)[0] <= epsilon)
  least = best if law is DiscreteGaussianNoise else 0.9 * best - 1
  assert least <= done <= best
  assert state['privacy']['rounds'] == done


def test_rounds_with_more_survivors_cost_less_and_admit_more():
  stack = limited(3.0)
  assert rounds_until_halted(stack, lambda _: 8)[0] > rounds_until_halted(stack, lambda _: 6)[0]


def test_a_dear_round_ends_it_earlier_and_for_good():
  stack = limited(3.0)
  cheap, _, _ = rounds_until_halted(stack, lambda _: 8)
  dear, state, _ = rounds_until_halted(stack, lambda done: 1 if done == 0 else 8)
  assert dear < cheap
  for _ in range(3):
    new_state, _, measurements = serve(stack, state, silent_sums(stack, 8))
    assert measurements['privacy']['halted']
    tf.nest.map_structure(np.testing.assert_array_equal, new_state, state)


def halted_state(stack):
  state = stack.init()
  cost = state['privacy']['cost'] + tf.cast(1e4 * accounting.UNIT, tf.int64)
  state['privacy'] = dict(state['privacy'], cost=cost, halted=tf.constant(True))
  return state


@pytest.mark.parametrize('weighted', [False, True], ids=['unweighted', 'weighted'])
def test_what_a_client_sends_after_the_halt_does_not_depend_on_its_data(weighted):
  first = [WeightedMean(maximum=5.0)] if weighted else []
  stack = limited(3.0, first=first)
  state = halted_state(stack)
  values = [np.zeros(DIM), np.full(DIM, 1e30), np.full(DIM, np.nan), np.arange(DIM)]
  for key in range(5):
    sent = [
      messages(stack, state, [value], [weight] if weighted else None, seed=key)[0]
      for value, weight in zip(values, (0.0, 1.0, 3.0, 5.0), strict=True)
    ]
    for other in sent[1:]:
      tf.nest.map_structure(np.testing.assert_array_equal, other, sent[0])
  # The same comparison does tell clients apart while the budget lasts.
  running = [messages(stack, stack.init(), [v], [1.0] if weighted else None)[0] for v in values]
  assert np.any(running[0]['vector'] != running[3]['vector'])


def test_after_the_halt_nothing_moves_and_the_noise_goes_on():
  stack = limited(3.0)
  state = halted_state(stack)
  values = np.random.default_rng(0).normal(size=[8, DIM])
  new_state, vector, measurements = run(stack, values, state)
  assert measurements['privacy']['halted']
  assert not measurements['privacy']['accepted']
  assert not vector.any()
  tf.nest.map_structure(np.testing.assert_array_equal, new_state, state)
  sent = messages(stack, state, values)
  assert any(np.any(sent[0]['vector'] != other['vector']) for other in sent[1:])


def test_what_is_infinite_stays_infinite_and_halts():
  account = limited(3.0).account
  infinite = tf.constant([accounting.INFINITE] * 3, tf.int64)
  twice = account._add(account._add(infinite, infinite), infinite)
  np.testing.assert_array_equal(twice, infinite)
  zero = tf.constant(0, tf.int64)
  assert account._state(twice, zero, zero)['halted']
  assert np.isinf(account._epsilon(twice, tf.constant(0.0, tf.float64)))


def test_without_a_budget_nothing_is_said_of_one():
  stack = dataclasses.replace(limited(3.0), limit=None)
  _, _, measurements = serve(stack, stack.init(), silent_sums(stack, 8))
  assert 'halted' not in measurements['privacy']
  assert 'halted' not in stack.prepare(stack.init())


@laws
def test_noise_that_is_not_exactly_its_law_is_kept_within_what_delta_leaves(law):
  limit = limited(3.0, law).limit
  assert limit.distance_fits(limit.most_distance)
  assert not limit.distance_fits(limit.most_distance * 1.0001)
  assert limit.most_distance * (1 + math.exp(limit.epsilon)) <= 0.0100001 * DELTA


def metrics_binding(law=DiscreteGaussianNoise, z=5.0, cohort=COHORT):
  layers = [CoordinateClipping(maximum=(100.0, 10.0)), Quantization()]
  layers += [law(noise_multiplier=z), SecureModularSum(bits=32)]
  return binding.bind(layers, cohort, 2, tf.float64)


@laws
def test_what_is_released_beside_the_stack_is_accounted_with_it(law):
  beside = metrics_binding(law)
  alone, both = limited(3.0, law).binding, limited(3.0, law, [beside]).binding
  for honest in (1, 6, 8):
    expected = alone.costs[honest] + beside.costs[honest]
    np.testing.assert_allclose(both.costs[honest], expected, rtol=1e-12)
    inverse = 1 / alone.noise_multiplier(honest) ** 2 + 1 / beside.noise_multiplier(honest) ** 2
    assert both.noise_multiplier(honest) == pytest.approx(inverse**-0.5)
  both_apart = alone.sampler_distance + beside.sampler_distance
  assert both.sampler_distance == pytest.approx(both_apart, rel=1e-12, abs=0.0)
  assert both.facts()['beside'] == [beside.facts()]
  costs = LedgerFacts(stack=both.facts(), delta=DELTA, population=10).costs()
  np.testing.assert_array_equal(costs.row(6), both.costs[6])
  assert costs.price.noise_multiplier(6) == pytest.approx(both.noise_multiplier(6))


def test_central_noise_beside_central_noise_adds_up():
  cohort = Cohort(expected=8, minimum=1)
  layers = [
    CoordinateClipping(maximum=(1.0, 1.0)),
    CentralDiscreteGaussianNoise(noise_multiplier=4.0),
    PlainSum(),
  ]
  beside = binding.bind(layers, cohort, 2, tf.float64)
  model = [Clipping(norm=1.0), CentralDiscreteGaussianNoise(noise_multiplier=3.0), PlainSum()]
  both = binding.bind(model, cohort, DIM, tf.float32, [beside])
  assert both.noise_multiplier(8) == pytest.approx((1 / 16 + 1 / 9) ** -0.5, rel=1e-5)
  assert both.noise_multiplier(8) >= (1 / 16 + 1 / 9) ** -0.5
  expected = accounting.gaussian_epsilon(1 / both.noise_multiplier(8), DELTA)
  stack = Stack(binding=both, delta=DELTA)
  _, _, measurements = serve(stack, stack.init(), silent_sums(stack, 8), stream(1))
  assert measurements['privacy']['release_epsilon'] == pytest.approx(expected, rel=1e-6)
  costs = LedgerFacts(stack=both.facts(), delta=DELTA, population=10).costs()
  np.testing.assert_array_equal(costs.row(1), both.worst_round)


@pytest.mark.parametrize(
  'beside',
  [
    lambda: metrics_binding(SkellamNoise),
    lambda: metrics_binding(cohort=Cohort(expected=8, minimum=5)),
    lambda: binding.bind([CoordinateClipping(maximum=(1.0,)), PlainSum()], COHORT, 1, tf.float32),
  ],
  ids=['other law', 'other cohort', 'no noise'],
)
def test_what_cannot_be_accounted_together_is_refused(beside):
  with pytest.raises(ConfigurationError, match='Releases with a stack'):
    limited(3.0, beside=[beside()])

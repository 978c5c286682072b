"""Channels and the limits of a round, close to the code: each test notices one way to break it."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf
from stack_runs import added, messages, serve, silent_sums, stack_of, stream

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
  ForeignSum,
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
  WeightedMean,
  Zeroing,
)
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.numerics import modular, randomness

QUANTILE = AdaptiveQuantile(initial=1.0, target=0.5)
COHORT = Cohort(expected=8, minimum=5, maximum=12)
DELTA = 1e-5
of_clients = pytest.mark.parametrize('law', [DiscreteGaussianNoise, SkellamNoise])


def layers_of(law, first=(), z=3.0):
  rest = [
    Clipping(norm=QUANTILE),
    Quantization(),
    law(noise_multiplier=z),
    SecureModularSum(bits=24),
  ]
  return [*first, *rest]


@of_clients
def test_each_of_two_channels_of_one_variance_has_noise(law):
  """40 messages of one client: a column that never changes has none (false alarm below 1e-40)."""
  stack = stack_of(layers_of(law, [Zeroing(threshold=QUANTILE)]), 1, COHORT)
  first, second = stack.binding.channels
  assert first.variance == second.variance > 0
  bits = stack.binding.channel_bits
  sent = [messages(stack, stack.init(), [[0.5]], seed=seed)[0]['channels'] for seed in range(40)]
  columns = np.stack([modular.centre(one, bits).numpy() for one in sent])
  assert set(columns[:, 0]) == {1}
  for column in columns[:, 1:].T:
    assert len({*column}) > 10
    # 4 deviations of the variance of 40 draws: a half is within it, none is not.
    assert abs(np.var(column) / first.variance - 1) < 4 * math.sqrt(2 / 40)
  assert abs(np.corrcoef(columns[:, 1:].T)[0, 1]) < 5 / math.sqrt(40)


def test_each_of_the_servers_channels_of_one_variance_has_noise():
  layers = [Zeroing(threshold=QUANTILE), Clipping(norm=QUANTILE)]
  layers += [CentralDiscreteGaussianNoise(noise_multiplier=3.0), PlainSum()]
  stack = stack_of(layers, 1, COHORT)
  first, second = stack.binding.channels
  assert first.variance == second.variance > 0
  sums = added(messages(stack, stack.init(), [[0.5]] * 8))['channels']
  found = [stack.channels.decode(sums, stream(seed))[1] for seed in range(40)]
  columns = np.array([(one['zeroing']['above'], one['clipping']['below']) for one in found])
  for column, plan in zip(columns.T, (first, second), strict=True):
    assert len({*column}) > 10
    assert abs(np.var(column) * plan.resolution**2 / plan.variance - 1) < 4 * math.sqrt(2 / 40)


@of_clients
def test_no_two_uses_of_randomness_share_a_stream(law):
  """Rounding, the vector, and the channels of each variance, with what settles their ties."""
  first = [WeightedMean(maximum=5.0), Zeroing(threshold=QUANTILE)]
  stack = stack_of(layers_of(law, first), 3, COHORT)
  of_channels = stack.channels.noise()
  assert len(of_channels) == 2
  uses = [layer.random_words(slot) for layer, slot in stack._layers()]
  uses += [sampler.random_words(start, len(where)) for start, sampler, where in of_channels]
  streams = [number for use in uses for number in use]
  assert len({*streams}) == len(streams) > 6
  starts = [start for start, _, _ in of_channels]
  assert all(start % randomness.STREAM_SPACING == 0 for start in starts)  # room for the rarest


@of_clients
def test_every_coordinate_of_the_vector_has_noise(law):
  """The first and the last as well: 30 messages of zeros, where none repeats in all of them."""
  stack = stack_of(layers_of(law), 9, COHORT)
  bits = stack.binding.layers[-1].width
  sent = [
    messages(stack, stack.init(), [np.zeros(9)], seed=seed)[0]['vector'] for seed in range(30)
  ]
  columns = np.stack([modular.centre(one, bits).numpy() for one in sent]).T
  assert columns.shape == (9, 30)
  assert all(len({*column}) > 5 for column in columns)


@of_clients
def test_the_worst_round_of_a_budget_has_the_fewest_honest_survivors(law):
  bound = binding.bind(layers_of(law), COHORT, 6, tf.float32)
  worst = bound.worst_round.astype(np.float64)
  assert np.all(worst >= bound.costs[COHORT.minimum].astype(np.float64))
  assert worst[0] > 1.3 * bound.costs[COHORT.expected][0]  # 8/5 of the divergence
  assert not bound.limit(Budget(epsilon=5.0, delta=DELTA)).admits(
    worst * 1e6 if law is SkellamNoise else (bound.worst_round * 10**6), 0.0
  )


@of_clients
def test_the_distance_of_a_round_is_that_of_the_largest_cohort(law):
  bound = binding.bind(layers_of(law), COHORT, 6, tf.float32)
  assert math.isclose(bound.sampler_distance, 12 * bound.price.distance(1))  # of about 1e-50
  assert bound.facts()['sampler_distance_per_round'] == bound.sampler_distance
  # A limit that ten shares are within, and twelve are not, halts before a round of up to twelve.
  limit = bound.limit(Budget(epsilon=50.0, delta=DELTA))
  near = dataclasses.replace(limit, most_distance=10 * bound.price.distance(1))
  zero = tf.constant(0, tf.int64)
  for found, halts in ((near, True), (limit, False)):
    account = Stack(binding=bound, delta=DELTA, limit=found).account
    assert account._state(tf.zeros_like(account._costs[0]), zero, zero)['halted'] == halts


class AnyFactory:
  """Stands for a TFF factory: the layer only looks for `create`."""

  def create(self, value_type):
    raise NotImplementedError


def test_a_stack_holds_against_the_server_only_if_all_that_is_released_with_it_does():
  layers = [CoordinateClipping(maximum=(1.0,)), Quantization()]
  layers += [DiscreteGaussianNoise(noise_multiplier=9.0)]
  open_sum = binding.bind(
    [*layers, ForeignSum(factory=AnyFactory(), modulus=2**24)], COHORT, 1, tf.float64
  )
  closed = binding.bind([*layers, SecureModularSum(bits=24)], COHORT, 1, tf.float64)
  model = layers_of(DiscreteGaussianNoise)
  for beside, holds in ((closed, True), (open_sum, False)):
    bound = binding.bind(model, COHORT, 6, tf.float32, [beside])
    assert bound.holds_against_server == holds
    assert bound.price.holds_against_server == holds
    stack = Stack(binding=bound, delta=DELTA)
    _, _, measurements = serve(stack, stack.init(), silent_sums(stack, 8))
    assert math.isfinite(measurements['privacy']['epsilon']) == holds
    assert math.isfinite(measurements['privacy']['release_epsilon'])


@of_clients
@pytest.mark.parametrize('clients', [10, 20, 25, 50, 70, 80, 100, 200, 1000, 10_000])
def test_weights_have_a_channel_at_every_cohort(law, clients):
  """Skellam shares are drawn up to a deviation of 3,500 only: the resolution follows from it."""
  layers = [WeightedMean(maximum=5.0), Clipping(norm=1.0), Quantization()]
  layers += [law(noise_multiplier=1.0), SecureModularSum(bits=40)]
  bound = binding.bind(layers, Cohort(expected=clients), 100, tf.float32)
  (plan,) = bound.channels
  assert 1.0 <= plan.local_variance <= accounting.LARGEST_SHARE[bound.mechanism.law] ** 2
  assert plan.noise_multiplier(clients) >= clients / 10
  assert bound.noise_multiplier(clients) >= 0.999
  assert plan.resolution >= 2**5

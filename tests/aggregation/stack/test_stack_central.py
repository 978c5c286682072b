"""The central model: integers from the rounding of the clients to the noise of the server."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from stack_runs import added, messages, run, serve, stack_of, stream

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  CentralDiscreteGaussianNoise,
  Clipping,
  DFTRotation,
  HadamardRotation,
  PlainSum,
  WeightedMean,
  Zeroing,
)
from tff_privacy_agg.numerics import randomness, samplers

CENTRAL = [Clipping(norm=1.0), CentralDiscreteGaussianNoise(noise_multiplier=1.0), PlainSum()]
NOISE = CENTRAL[1].name
# In float32 their sum passes 4096, where steps are twice as wide, or just does not: one client more
# moved it by 1.977, and the true epsilon was twice the stated.
OTHERS = [1.0] * 4095 + [2**-12 * (1 + 2**-20)] * 4000


@functools.cache
def central_stack(dtype=tf.float32, clients=8096, dim=1, rotation=None):
  layers = [CENTRAL[0], *([rotation()] if rotation else []), *CENTRAL[1:]]
  return stack_of(layers, dim, Cohort(expected=clients, minimum=1), dtype)


def squared_bound(stack):
  """Of what one client sends, in steps: an integer, as the price of a round has it."""
  return stack.binding.price.vectors[0].l2_squared


def squared_norm(vector):
  return sum(int(x) ** 2 for x in np.asarray(vector))


def test_zeroing_one_of_8096_clients_moves_the_sum_by_what_it_sent():
  stack = central_stack()
  sent = {v: messages(stack, stack.init(), [[v]])[0]['vector'] for v in {0.0, *OTHERS}}
  sums = [
    functools.reduce(lambda a, b: a + b, (sent[v].numpy() for v in [first, *OTHERS]))
    for first in (1.0, 0.0)
  ]
  assert squared_norm(sums[0] - sums[1]) == squared_norm(sent[1.0]) <= squared_bound(stack)


@pytest.mark.parametrize('dtype', [tf.float32, tf.float64])
def test_messages_of_the_central_model_are_integers(dtype):
  sent = messages(central_stack(dtype), central_stack(dtype).init(), [[3.0]])[0]
  assert sent['vector'].dtype == tf.int64
  assert sent['vector'].numpy() == [central_stack(dtype).binding.design.scaled_norm]


@settings(max_examples=80, deadline=None)
@given(
  hnp.arrays(np.float64, 100, elements=st.floats(allow_nan=True, allow_infinity=True)),
  st.sampled_from([None, DFTRotation, HadamardRotation]),
)
def test_the_exact_norm_of_a_message_is_within_its_bound(vector, rotation):
  stack = central_stack(tf.float64, 4, 100, rotation)
  (sent,) = messages(stack, stack.init(), [vector])
  assert squared_norm(sent['vector']) <= squared_bound(stack)


def test_a_vector_that_rounding_to_the_nearest_lengthens_is_sent_shorter():
  dim = 1000
  stack = central_stack(tf.float64, 10, dim)
  norm = stack.binding.design.scaled_norm
  # So many equal coordinates of a vector at the clip that rounding all of them up passes the bound.
  equal, rounded = next(
    (number, nearest)
    for number in range(2, dim)
    if number * (nearest := round(norm / number**0.5)) ** 2 > squared_bound(stack)
  )
  (sent,) = messages(stack, stack.init(), [np.where(np.arange(dim) < equal, 1e3, 0.0)])
  assert sent['vector'].numpy().tolist() == [rounded - 1] * equal + [0] * (dim - equal)


@pytest.mark.parametrize('direction', ['constant', 'alternating', 'random', 'half steps'])
@pytest.mark.parametrize('dim', [1, 64, 65, 10_000])
def test_vectors_at_the_clip_lose_a_step_a_coordinate_at_most(direction, dim):
  """A constant vector's rounding errors all point one way: the norm check shortens it."""
  stack = central_stack(tf.float64, 10, dim)
  norm = stack.binding.design.scaled_norm
  vector = {
    'constant': np.ones(dim),
    'alternating': 1.0 - 2.0 * (np.arange(dim) % 2),
    'random': np.random.default_rng(0).normal(size=dim),
    'half steps': np.floor(np.random.default_rng(1).normal(size=dim) * 9) + 0.5,
  }[direction]
  exact = norm * vector / np.linalg.norm(vector)
  (sent,) = messages(stack, stack.init(), [vector * 1e3])
  assert np.max(np.abs(sent['vector'].numpy() - exact)) <= (
    1.5 if direction != 'random' else 0.5001
  )
  assert squared_norm(sent['vector']) <= squared_bound(stack)


@settings(max_examples=60, deadline=None)
@given(
  hnp.arrays(np.float64, (20, 3), elements=st.floats(-1.0, 1.0)),
  st.integers(0, 19),
  st.sampled_from([HadamardRotation, None]),
)
def test_any_client_of_any_sum_moves_it_by_no_more(values, zeroed, rotation):
  stack = central_stack(tf.float64, 20, 3, rotation)
  state = stack.init()  # one seed of the rotation for both
  neighbours = values.copy()
  neighbours[zeroed] = 0
  one, other = (added(messages(stack, state, v))['vector'].numpy() for v in (values, neighbours))
  assert squared_norm(one - other) <= squared_bound(stack)


def test_a_client_that_sends_any_integer_hides_nobody():
  """Sums of int64 wrap, and lose nothing: the others' part is what it was."""
  stack = central_stack(clients=20, dim=3)
  sent = messages(stack, stack.init(), np.random.default_rng(0).normal(size=(19, 3)))
  others = added(sent)['vector']
  lie = tf.constant([2**63 - 1, -(2**63), 2**62], tf.int64)
  np.testing.assert_array_equal((others + lie) - lie, others)


@pytest.mark.parametrize('kind', ['philox', 'chacha20'])
def test_the_server_adds_an_exact_draw_before_anything_is_a_float(kind):
  stack = central_stack(tf.float64, 5, 50)
  design = stack.binding.design
  sums = added(messages(stack, stack.init(), np.random.default_rng(3).normal(size=(5, 50))))
  _, released, _ = serve(stack, stack.init(), sums, stream(7, kind=kind))
  sampler = samplers.noise_sampler('discrete_gaussian', design.local_variance)
  noise = sampler.sample(stream(7, kind=kind), randomness.MODEL_NOISE, 50)
  expected = sums['vector'].numpy() + noise.numpy()
  np.testing.assert_array_equal(np.rint(released * design.scaled_norm), expected)
  np.testing.assert_allclose(released * design.scaled_norm, expected, rtol=1e-15)


def test_every_coordinate_has_noise_of_its_own():
  """At a deviation of 10^6 steps two equal draws, or a zero, would be a miracle of 1e-4."""
  stack = central_stack(tf.float64, 5, 9)
  sums = added(messages(stack, stack.init(), np.zeros((5, 9))))
  _, released, _ = serve(stack, stack.init(), sums, stream(5))
  assert np.all(released != 0)
  assert len({*released}) == 9


def test_counts_of_channels_are_integers_with_noise_of_the_server():
  """400 rounds: mean and deviation of both counts, 5 standard errors each (false alarm 2e-6)."""
  quantile = AdaptiveQuantile(initial=1.0, target=0.5, count_stddev=3.0)
  layers = [Zeroing(threshold=quantile), Clipping(norm=quantile)]
  layers += [CentralDiscreteGaussianNoise(noise_multiplier=0.5), PlainSum()]
  stack = stack_of(layers, 1, Cohort(expected=8, minimum=1))
  sums = added(messages(stack, stack.init(), [[0.5]] * 8))
  finish = tf.function(
    lambda key: stack.channels.decode(
      sums['channels'], randomness.RandomStream(kind='philox', key=key)
    )[1]
  )
  keys = np.random.default_rng(0).integers(-(2**31), 2**31, [400, 8]).astype(np.int32)
  found = [finish(tf.constant(key)) for key in keys]
  for layer, channel, true in (('zeroing', 'above', -8), ('clipping', 'below', 8)):
    plan = next(p for p in stack.binding.channels if p.layer == layer)
    values = np.array([float(one[layer][channel]) for one in found])
    steps = values * plan.resolution
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-9)
    assert abs(np.mean(values) - true) < 5 * 6.0 / 20
    assert abs(np.std(values) / 6.0 - 1) < 5 / np.sqrt(800)
    vector = next(v for v in stack.binding.price.vectors if v.name == f'{layer}.{channel}')
    assert vector.local_variance == plan.variance
    assert plan.noise_multiplier(8) == pytest.approx(6.0)
  assert (
    len({float(one['zeroing']['above']) + float(one['clipping']['below']) for one in found}) > 20
  )


@pytest.mark.parametrize('clients', [1, 10, 1_000, 10**6])
@pytest.mark.parametrize('z', [0.01, 1.0, 30.0])
def test_weights_have_a_channel_in_integers_at_every_cohort(clients, z):
  layers = [WeightedMean(maximum=10.0), *CENTRAL[:1]]
  layers += [CentralDiscreteGaussianNoise(noise_multiplier=z), PlainSum()]
  stack = stack_of(layers, 4, Cohort(expected=clients, minimum=1))
  (plan,) = stack.binding.channels
  assert plan.noise_multiplier(1) >= plan.central_stddev >= clients / 10
  assert stack.binding.noise_multiplier(1) == pytest.approx(z, rel=1e-4)
  assert stack.binding.noise_multiplier(1) >= z * (1 - 1e-9)


def test_rounds_count_one_draw_whoever_takes_part():
  stack = central_stack(tf.float64, 20, 3)
  state, _, _ = run(stack, np.zeros((20, 3)))
  assert state['privacy']['shares'].numpy() == 1
  assert stack.binding.sampler_distance == stack.binding.price.distance(1)


def test_gaussian_noise_is_the_old_name_and_says_so():
  with pytest.warns(DeprecationWarning, match='GaussianNoise') as caught:
    layer = tpa.GaussianNoise(noise_multiplier=1.5)
  (warning,) = caught
  assert str(warning.message) == (
    '`GaussianNoise` is now `CentralDiscreteGaussianNoise`; the old name goes in the next minor '
    'version.'
  )
  assert warning.filename == __file__
  assert isinstance(layer, CentralDiscreteGaussianNoise)
  bound = stack_of([CENTRAL[0], layer, CENTRAL[2]], 3).binding
  assert (
    bound.price
    == stack_of(
      [CENTRAL[0], CentralDiscreteGaussianNoise(noise_multiplier=1.5), CENTRAL[2]], 3
    ).binding.price
  )

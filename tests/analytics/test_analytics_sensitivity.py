"""What one client can change in the integers that are summed: the bound of the account, exactly.

Inputs are searched for by property; the vector is that of the client's own code: the query, the
clipping and the rounding, before noise is added.
"""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.analytics import Count, Histogram, Mean, Quantiles, Sum, private_statistic
from tff_privacy_agg.numerics import modular
from tff_privacy_agg.numerics.randomness import RandomStream

pytestmark = pytest.mark.integration

CATEGORIES = tuple('abcdefg')
QUERIES = {
  'count': Count(),
  'sum': Sum(maximum=3.0),
  'mean': Mean(lower=-1.0, upper=7.5),
  'histogram': Histogram(categories=CATEGORIES, contributions=2),
  'quantiles': Quantiles(probabilities=(0.5,), lower=-2.0, upper=5.0, levels=4),
}
EDGES = [0.0, -0.0, 3.0, -3.0, -1.0, 7.5, -2.0, 5.0, math.nan, math.inf, -math.inf]
EDGES += [1e-320, 1.7e308, -1.7e308, 3.0000000000000004, 2.9999999999999996, 4.999999999999999]
numbers = st.one_of(st.sampled_from(EDGES), st.floats(width=64))
HOLDS = {
  'count': st.booleans(),
  'histogram': st.lists(st.booleans(), min_size=7, max_size=7),
}
# Steps of many sizes: with 8 bits rounding is most of what a client sends.
BUILDS = [('discrete_gaussian', 32, 40), ('skellam', 32, 2), ('skellam', 11, 6)]
each_query = pytest.mark.parametrize('name', QUERIES)
each_build = pytest.mark.parametrize(
  ('mechanism', 'bits', 'clients'), BUILDS, ids=[f'{law}-{bits}' for law, bits, _ in BUILDS]
)


def asked(query, mechanism='discrete_gaussian', bits=32, clients=40):
  return private_statistic(
    query, Cohort(expected=clients), noise_multiplier=1.0, mechanism=mechanism, bits=bits
  )


def sender(statistic, layers=None):
  """One client's integers, from its value and the key of its coins."""
  bound = statistic.binding
  layers = bound.layers[:2] if layers is None else layers

  @tf.function(reduce_retracing=True)
  def send(value, key):
    vector = tf.cast(statistic.query.encode(value), bound.dtype)
    for layer, slot in zip(layers, list(bound.slots.values())[:2], strict=True):
      randomness = RandomStream(kind='philox', key=key)
      vector, _ = layer.encode(slot, {'randomness': randomness}, vector)
    return vector

  def of(value, seed):
    dtype = statistic.query.value_type.dtype
    key = np.random.default_rng(seed).integers(-(2**31), 2**31, size=8)
    return send(tf.constant(value, dtype), tf.constant(key, tf.int32)).numpy()

  return of


def most(statistic):
  """The largest squared norm that the account allows; norms of integers are compared exactly."""
  return int(statistic.binding.design.l2_bound**2)


def squared(vector):
  return sum(int(number) ** 2 for number in vector)


def worst_found(statistic, holds, layers=None, examples=150):
  """The largest squared norm of one client's integers that a search finds."""
  send, found = sender(statistic, layers), []

  @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
  @given(holds, st.integers(0, 2**32))
  def search(value, seed):
    found.append(squared(send(value, seed)))

  search()
  return max(found)


@each_build
@each_query
def test_no_value_makes_a_longer_vector_than_is_accounted(name, mechanism, bits, clients):
  statistic = asked(QUERIES[name], mechanism, bits, clients)
  worst = worst_found(statistic, HOLDS.get(name, numbers))
  assert worst <= most(statistic)
  # And the bound is no larger than it must be: some value comes near it.
  assert math.sqrt(worst) >= 0.9 * math.floor(statistic.binding.design.scaled_norm) - 1


@each_query
def test_the_curve_is_that_of_this_bound(name):
  """The account's divergence is that of a Gaussian of the noise's deviation over the bound."""
  statistic = asked(QUERIES[name])
  design = statistic.binding.design
  # The squared norm of integers is an integer.
  sigma = math.sqrt(40 * design.local_variance / math.floor(design.l2_bound**2))
  assert statistic.binding.curve(40).rdp(np.array([2.0]))[0] >= 2.0 / (2 * sigma**2) * (1 - 1e-9)
  assert sigma >= 1.0


@each_query
def test_zeroing_a_client_out_moves_the_sum_by_its_vector_alone(name):
  """Neighbours under zero-out: the modular sums differ by one bounded vector; the count not."""
  statistic = asked(QUERIES[name], clients=3)
  send, values = sender(statistic), {'count': [True, False, True]}
  held = values.get(name, [0.5, 2.0, math.inf])
  if name == 'histogram':
    held = [[True] * 7, [False] * 7, [True, *[False] * 6]]
  vectors = [send(value, seed) for seed, value in enumerate(held)]
  bits = statistic.bits
  for gone in range(3):
    with_it = modular.wrap(tf.constant(np.sum(vectors, axis=0)), bits)
    rest = [vector if one != gone else np.zeros_like(vector) for one, vector in enumerate(vectors)]
    without = modular.wrap(tf.constant(np.sum(rest, axis=0)), bits)
    moved = modular.centre(modular.wrap(with_it - without, bits), bits).numpy()
    np.testing.assert_array_equal(moved, vectors[gone])
    assert squared(moved) <= most(statistic)
  assert statistic.binding.channels == ()  # nothing else leaves a client but the count of itself


class _Unclipped:
  """A faulty variant: hands the vector on in units of the bound, but cuts nothing."""

  def __init__(self, unit):
    self._unit = unit

  def encode(self, slot, params, value):
    return tf.where(tf.math.is_finite(value), tf.clip_by_value(value / self._unit, -9, 9), 0.0), {}


class _Rounded:
  """A faulty variant: rounds without a look at the norm. `away` steps further than it should."""

  def __init__(self, away=0):
    self._away = away

  def encode(self, slot, params, value):
    scaled = value * slot.design.scaled_norm
    return tf.cast(tf.sign(scaled) * (tf.math.ceil(tf.abs(scaled)) + self._away), tf.int64), {}


@pytest.mark.parametrize('name', ['sum', 'mean', 'histogram'])
def test_of_the_test_a_query_that_is_not_clipped_is_found(name):
  statistic = asked(QUERIES[name])
  layers = (_Unclipped(statistic.query.unit), _Rounded())
  assert worst_found(statistic, HOLDS.get(name, numbers), layers) > most(statistic)


@each_query
def test_of_the_test_a_rounding_that_lengthens_is_found(name):
  statistic = asked(QUERIES[name])
  layers = (statistic.binding.layers[0], _Rounded(away=3))
  assert worst_found(statistic, HOLDS.get(name, numbers), layers) > most(statistic)

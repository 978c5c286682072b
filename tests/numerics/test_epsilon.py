"""Epsilon of the Gaussian account in a graph next to that of `accounting`."""

import math

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from tff_privacy_agg import accounting
from tff_privacy_agg.numerics import epsilon


def in_graph(delta):
  return tf.function(
    lambda cost, distance: epsilon.gaussian_epsilon(cost, distance, tf.constant(delta, tf.float64)),
    autograph=False,
    input_signature=[tf.TensorSpec([3], tf.int64), tf.TensorSpec([], tf.float64)],
  )


@pytest.mark.parametrize('delta', [1e-3, 1e-6, 1e-12])
def test_epsilon_is_that_of_the_accounting(delta):
  rng = np.random.default_rng(0)
  found = in_graph(delta)
  for case in range(200):
    mu_squared = 10.0 ** rng.uniform(-8, 4)
    c1 = 0.0 if case % 3 == 0 else 10.0 ** rng.uniform(-12, -1)
    numbers = [mu_squared, c1, c1 * rng.uniform()]
    distance = 10.0 ** rng.uniform(-55, -7)
    cost = [math.ceil(number * accounting.UNIT) for number in numbers]
    exact = accounting.composed_epsilon(
      math.sqrt(cost[0] / accounting.UNIT),
      delta,
      c1=cost[1] / accounting.UNIT,
      c2=cost[2] / accounting.UNIT,
      distance=distance,
    )
    assert float(found(cost, distance)) == pytest.approx(exact, rel=1e-7, abs=1e-13)


def test_nothing_costs_nothing_and_what_is_infinite_stays_so():
  found = in_graph(1e-6)
  assert found([0, 0, 0], 0.0) == 0.0
  for cost in ([accounting.INFINITE, 0, 0], [0, accounting.INFINITE, 0]):
    assert found(cost, 0.0) == math.inf


def test_log_of_the_normal_distribution_function_on_both_sides_of_the_change():
  x = np.concatenate([np.linspace(-60, 10, 7001), -np.logspace(1, 5, 100)])
  np.testing.assert_allclose(
    epsilon._log_ndtr(tf.constant(x)), special.log_ndtr(x), rtol=1e-12, atol=1e-12
  )

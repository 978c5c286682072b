"""Conversion to epsilon, order grids, the exact Gaussian."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError


def test_the_order_grid_must_reach_far_and_start_low():
  quiet = accounting.gaussian(50.0)
  assert accounting.epsilon(quiet, 1e-6, np.arange(2.0, 65.0))[0] == pytest.approx(0.150, abs=1e-3)
  assert accounting.epsilon(quiet, 1e-6)[0] == pytest.approx(0.078, abs=1e-3)
  loud = accounting.gaussian(1.0).scaled(100)
  assert accounting.epsilon(loud, 1e-6, np.arange(2.0, 65.0))[0] == pytest.approx(112.4, abs=0.1)
  assert accounting.epsilon(loud, 1e-6)[0] == pytest.approx(100.7, abs=0.1)
  assert accounting.gaussian_epsilon(10.0, 1e-6) == pytest.approx(96.7, abs=0.1)


@pytest.mark.parametrize('distance', [0.0, 1e-24, 1e-15, 1e-12])
@pytest.mark.parametrize('noise', [0.15, 0.3, 2.0])
def test_the_distance_of_the_noise_takes_its_part_of_delta(noise, distance):
  """At the epsilon that is stated, the law at what is left of delta proves it; or none is."""
  curve, delta = accounting.gaussian(noise), 1e-4
  alone, _ = accounting.epsilon(curve, delta)
  found, _ = accounting.epsilon(curve, delta, distance=distance)
  moved = distance * (1 + math.exp(alone))
  assert found >= alone
  assert math.isinf(found) or found == pytest.approx(alone, rel=1e-3 + 2 * moved / delta)
  if moved >= delta:
    assert math.isinf(found)
  elif math.isfinite(found):
    left = delta - distance * (1 + math.exp(found))
    assert found >= accounting.epsilon(curve, left)[0] * (1 - 1e-9)


def test_epsilons_of_rounds_are_not_added():
  one = accounting.gaussian(5.0)
  composed = accounting.epsilon(one.scaled(100), 1e-6)[0]
  added = 100 * accounting.epsilon(one, 1e-6)[0]
  assert added > 5 * composed
  order = accounting.epsilon(one, 1e-6)[1]
  best_per_round = accounting.epsilon(one.scaled(100), 1e-6, [order])[0]
  assert composed < best_per_round  # the order of one round is not that of a hundred
  assert composed >= accounting.gaussian_epsilon(math.sqrt(100) / 5.0, 1e-6)


@settings(max_examples=60, deadline=None)
@given(
  st.floats(math.log(0.01), math.log(50.0)), st.floats(3.0, 10.0), st.sampled_from([True, False])
)
def test_table_orders_come_within_four_permille(log_target, minus_log_delta, integer_only):
  delta, target = 10.0**-minus_log_delta, math.exp(log_target)

  def total(z):
    # L1 makes the integer curve bend; a round of variance 1e6.
    return (
      accounting.skellam(1e3 / z, 3e4 / z, central_variance=1e6)
      if integer_only
      else accounting.gaussian(z)
    )

  fine = np.arange(2.0, 20000.0) if integer_only else None
  low, high = 1e-3, 1e5
  for _ in range(60):
    middle = math.sqrt(low * high)
    low, high = (
      (middle, high)
      if accounting.epsilon(total(middle), delta, fine)[0] > target
      else (low, middle)
    )
  best = accounting.epsilon(total(high), delta, fine)[0]
  orders = accounting.table_orders(integer_only)
  assert best <= accounting.epsilon(total(high), delta, orders)[0] <= 1.004 * best


@pytest.mark.parametrize('integer_only', [True, False])
def test_table_orders_are_a_small_increasing_set(integer_only):
  orders = accounting.table_orders(integer_only)
  assert 80 <= len(orders) <= 120
  assert np.all(np.diff(orders) > 0)
  assert orders[0] == (2.0 if integer_only else pytest.approx(1.02))
  assert orders[-1] == pytest.approx(4096.0)
  assert not integer_only or np.array_equal(orders, np.rint(orders))


def test_conversion_offsets_are_the_conversion():
  orders = accounting.table_orders(False)
  curve = accounting.gaussian(2.0).scaled(7)
  by_hand = np.min(curve.rdp(orders) + accounting.conversion_offsets(orders, 1e-6))
  assert accounting.epsilon(curve, 1e-6, orders)[0] == by_hand


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-3, 50.0), st.floats(1e-12, 0.1))
def test_exact_gaussian_epsilon_inverts_delta(mu, delta):
  epsilon = accounting.gaussian_epsilon(mu, delta)
  assert accounting.gaussian_delta(mu, epsilon) <= delta
  if epsilon > 0:
    assert accounting.gaussian_delta(mu, epsilon * (1 - 1e-6)) > delta * (1 - 1e-9)


def test_exact_gaussian_epsilon_is_infinite_or_zero_at_the_ends():
  assert accounting.gaussian_epsilon(math.inf, 1e-5) == math.inf
  assert accounting.gaussian_epsilon(0.0, 1e-5) == 0.0
  assert accounting.gaussian_epsilon(1e-4, 0.1) == 0.0
  assert math.isfinite(accounting.gaussian_epsilon(1e3, 1e-300))
  assert accounting.gaussian_epsilon(1.0, 1e-5) == pytest.approx(4.37717809568, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 20.0), st.floats(0.05, 20.0))
def test_delta_of_a_curve_inverts_epsilon_and_bounds_the_exact(z, epsilon):
  curve = accounting.gaussian(z)
  delta = accounting.delta(curve, epsilon)
  assert delta >= accounting.gaussian_delta(1 / z, epsilon)
  if 1e-200 < delta < 0.5:
    assert accounting.epsilon(curve, delta)[0] == pytest.approx(epsilon, rel=1e-3, abs=1e-6)


def test_epsilon_is_never_negative():
  assert accounting.epsilon(accounting.gaussian(1e6), 0.5)[0] == 0.0
  assert accounting.epsilon(accounting.gaussian(1.0).scaled(0), 1e-5)[0] == 0.0


@pytest.mark.parametrize('delta', [0.0, 1.0, -1e-5, math.nan, '1e-5', True])
def test_a_delta_that_is_no_probability_is_refused(delta):
  with pytest.raises(ConfigurationError, match='delta'):
    accounting.epsilon(accounting.gaussian(1.0), delta)

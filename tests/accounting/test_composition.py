"""Epsilon of composed rounds: a root on [0, e_min], the samplers' distance, an attacker's power."""

import math

import exact_sums
import mpmath
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy import special

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import composition
from tff_privacy_agg.errors import ConfigurationError


@settings(max_examples=200, deadline=None)
@given(
  st.floats(-4, 1.5),
  st.floats(-12, -1),
  st.floats(-14, -2),
  st.one_of(st.none(), st.floats(-60, -4)),
)
def test_epsilon_is_the_least_that_delta_proves_or_infinite(log_mu, log_delta, log_c, log_distance):
  mu, delta, c = 10**log_mu, 10**log_delta, 10**log_c
  distance = 0.0 if log_distance is None else 10**log_distance
  more = {'c1': c, 'c2': c / 2, 'distance': distance}
  found = accounting.composed_epsilon(mu, delta, **more)
  turn = max(composition.least_delta_at(mu, c, c / 2, distance), 0.0)
  if math.isinf(found):
    assert accounting.composed_delta(mu, min(turn, 1e5), **more) > delta * (1 - 1e-8)
    return
  assert accounting.composed_delta(mu, found, **more) <= delta * (1 + 1e-12)
  if found > 1e-9:
    assert accounting.composed_delta(mu, found * (1 - 1e-6), **more) > delta * (1 - 1e-6)


def test_without_slack_it_is_the_exact_gaussian():
  for mu in (1e-4, 0.03, 0.7, 3.0, 25.0, 90.0):
    for delta in (1e-3, 1e-8, 1e-30):
      exact = accounting.gaussian_epsilon(mu, delta)
      assert (
        exact * (1 - 1e-12) <= accounting.composed_epsilon(mu, delta) <= exact * (1 + 1e-8) + 1e-9
      )


@pytest.mark.parametrize('mu', [1e-14, 1e-10, 1e-6, 0.0999, 0.1001, 1e8])
@pytest.mark.parametrize('delta', [1e-300, 1e-50, 1e-9])
@pytest.mark.parametrize('c', [0.0, 0.01])
def test_tiny_and_huge_mu_keep_their_digits(mu, delta, c):
  found = accounting.composed_epsilon(mu, delta, c1=c, c2=2 * c)

  def exact(epsilon):
    with mpmath.workdps(60):
      e, m = mpmath.mpf(epsilon) - mpmath.mpf(c) - mpmath.mpf(2 * c), mpmath.mpf(mu)
      upper = mpmath.erfc((e / m - m / 2) / mpmath.sqrt(2)) / 2
      lower = mpmath.erfc((e / m + m / 2) / mpmath.sqrt(2)) / 2
      return mpmath.exp(mpmath.mpf(c)) * (upper - mpmath.exp(e) * lower)

  assert exact(found) <= delta
  if c == 0:
    assert found == 0 or exact(found * (1 - 1e-6)) > delta
    plain = accounting.gaussian_epsilon(mu, delta)
    assert exact(plain) <= delta * (1 + 1e-9)


@pytest.mark.parametrize('mu', [1e-320, 1e-160, 1e-100, 1e-40])
@pytest.mark.parametrize('delta', [1e-300, 1e-30])
def test_a_mu_near_the_least_float_is_one(mu, delta):
  assert accounting.gaussian_delta(mu, 1.0) == 0
  found = accounting.composed_epsilon(mu, delta)
  assert found <= 38 * mu
  assert accounting.composed_delta(mu, found) <= delta


@pytest.mark.parametrize('bad', [math.nan, -1e-3, '1'])
@pytest.mark.parametrize('name', ['mu', 'c1', 'c2', 'distance'])
def test_what_is_no_number_of_at_least_zero_has_no_epsilon(name, bad):
  """A NaN compared as a mu of zero, and had an epsilon of 0."""
  numbers = {'mu': 1.0, 'c1': 0.0, 'c2': 0.0, 'distance': 0.0, name: bad}
  for found in (
    lambda: accounting.composed_epsilon(delta=1e-5, **numbers),
    lambda: accounting.composed_delta(epsilon=1.0, **numbers),
    lambda: accounting.attack_power(0.01, **numbers),
    lambda: accounting.poisson_epsilon([(numbers.pop('mu'), 1)], 0.1, 1e-5, **numbers),
  ):
    with pytest.raises(ConfigurationError, match=f'`{name}` must be'):
      found()


def test_epsilon_is_infinite_at_the_delta_that_was_asked_where_the_samplers_leave_nothing():
  """Noise 0.3: epsilon was printed while delta had become 1."""
  mu = 1 / 0.3 * math.sqrt(6)
  distance = 20 * 8 * 650 * 2.0**-77
  assert math.isinf(accounting.composed_epsilon(mu, 1e-5, distance=distance))
  assert accounting.composed_delta(mu, 66.0, distance=distance) > 1e-5
  assert math.isfinite(accounting.composed_epsilon(mu, 1e-5, distance=20 * 8 * 650 * 2.0**-180))


def test_delta_is_the_sum_of_the_proof():
  """With both factors and the distance of the noise, each large enough to be seen."""
  for mu, epsilon, c1, c2, distance in (
    (1.0, 2.0, 0.01, 0.2, 1e-4),
    (0.5, 1.0, 0.3, 0.1, 1e-4),
    (3.0, 4.0, 0.2, 0.02, 1e-4),
  ):
    x = epsilon - c1 - c2
    gaussian = special.ndtr(mu / 2 - x / mu) - math.exp(x) * special.ndtr(-mu / 2 - x / mu)
    by_hand = math.exp(c1) * gaussian + (1 + math.exp(epsilon)) * distance
    found = accounting.composed_delta(mu, epsilon, c1=c1, c2=c2, distance=distance)
    assert found == pytest.approx(by_hand, rel=1e-8)


def test_a_narrow_window_is_found():
  """A search that doubles its upper end jumps over it."""
  mu, distance = 3.0, 1e-13
  turn = composition.least_delta_at(mu, 0, 0, distance)
  least = accounting.composed_delta(mu, turn, distance=distance)
  for above in (1.001, 1.1, 3.0):
    found = accounting.composed_epsilon(mu, least * above, distance=distance)
    assert 0 < found <= turn
  assert math.isinf(accounting.composed_epsilon(mu, least * 0.999, distance=distance))


@pytest.mark.parametrize('mechanism', ['gaussian', 'skellam'])
def test_the_window_of_a_renyi_curve_is_found_too(mechanism):
  orders = accounting.table_orders(integer_only=mechanism == 'skellam')
  rdp = orders * 4.5
  without = accounting.epsilon_at_orders(rdp, orders, 1e-5, 0.0)[0]
  epsilons = [
    accounting.epsilon_at_orders(rdp, orders, 1e-5, distance)[0]
    for distance in np.geomspace(1e-30, 1e-6, 60)
  ]
  assert epsilons == sorted(epsilons)
  assert epsilons[0] == pytest.approx(without, rel=1e-9)
  assert math.isinf(epsilons[-1])
  for distance, found in zip(np.geomspace(1e-30, 1e-6, 60), epsilons, strict=True):
    if math.isfinite(found):
      left = 1e-5 - distance * (1 + math.exp(found))
      assert left > 0
      assert accounting.epsilon_at_orders(rdp, orders, left, 0.0)[0] <= found * (1 + 1e-9)


def test_a_mu_near_the_largest_float_has_no_epsilon():
  assert math.isinf(accounting.gaussian_epsilon(1e200, 1e-5))


def test_no_attacker_is_better_than_the_bound():
  rng = np.random.default_rng(5)
  for _ in range(100):
    variance, shares, shift = (
      float(rng.uniform(4, 60)),
      int(rng.integers(1, 9)),
      int(rng.integers(1, 20)),
    )
    vector = accounting.noisy_vector(
      name='update', mechanism='discrete_gaussian', dimension=1, l2_bound=shift, l1_bound=shift,
      local_variance=variance, fewest=shares, most=shares,
    )  # fmt: skip
    price = accounting.RoundPrice(
      mechanism='discrete_gaussian', minimum=shares, maximum=shares, vectors=(vector,)
    )
    mu, c1, c2 = accounting.as_numbers(accounting.GaussianAccount().row(price, shares))
    p, q = exact_sums.pair(variance, shares, shift)
    for rate in (0.001, 0.01, 0.05):
      bound = accounting.attack_power(rate, mu, c1=c1, c2=c2)
      exact = max(exact_sums.true_positive_rate(*laws, rate) for laws in ((p, q), (q, p)))
      assert exact <= bound * (1 + 1e-9)
      assert bound <= 1.5 * exact + 1e-3


def test_no_rounds_let_nobody_tell_anything():
  assert accounting.composed_epsilon(0.0, 1e-9) == 0.0
  assert accounting.attack_power(0.05, 0.0) == pytest.approx(0.05)
  assert accounting.attack_power(0.05, math.inf) == 1.0

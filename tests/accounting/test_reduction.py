"""Sums of discrete Gaussians as one Gaussian: never below the exact law, hardly above the best."""

import math

import exact_sums
import numpy as np
import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import reduction
from tff_privacy_agg.accounting.mechanisms import distributed


def price(l2_bound, variance, shares, dimension=1, **more):
  given = {'fewest': shares, 'most': shares, **more}
  vector = accounting.noisy_vector(
    name='update',
    mechanism='discrete_gaussian',
    dimension=dimension,
    l2_bound=l2_bound,
    l1_bound=l2_bound * math.sqrt(dimension),
    local_variance=variance,
    **given,
  )
  return accounting.RoundPrice(
    mechanism='discrete_gaussian', minimum=given['fewest'], maximum=given['most'], vectors=(vector,)
  )


def epsilon(one, shares, delta, rounds=1):
  account = accounting.GaussianAccount()
  return account.epsilon(rounds * account.row(one, shares), delta, 0.0)[0]


def best_form(l2_squared, variance, shares, coordinates, delta, rounds):
  """The Gaussian form at the best `t^2` of a fine grid, which knows delta and the rounds."""
  found = math.inf
  for t_squared in np.arange(0.1, 4.0, 0.02):
    if t_squared >= shares * variance:
      break
    c1, c2 = (
      rounds * coordinates * c
      for c in reduction.coordinate_slack(variance, t_squared, fewest=shares, most=shares)
    )
    mu = math.sqrt(rounds * l2_squared / (shares * variance - t_squared))
    found = min(found, accounting.composed_epsilon(mu, delta, c1=c1, c2=c2))
  return found


def designs(count, seed, least_variance=8.0):
  rng = np.random.default_rng(seed)
  for _ in range(count):
    variance = math.ceil(16 * least_variance * rng.uniform(1, 12)) / 16
    shares = int(rng.integers(1, 21))
    shift = int(max(1, round(rng.uniform(0.05, 3.0) * math.sqrt(shares * variance))))
    yield variance, shares, shift, 10 ** rng.uniform(-7, -3)


@pytest.mark.parametrize('every', [10, pytest.param(1, marks=pytest.mark.slow)])
def test_a_thousand_designs_lie_between_the_exact_law_and_the_best_gaussian_form(every):
  without_t = 0
  for number, (variance, shares, shift, delta) in enumerate(designs(1000, seed=20)):
    rounds = 1 if number % 4 else 2 + number % 7
    one = price(shift, variance, shares)
    found = epsilon(one, shares, delta, rounds)
    p, q = exact_sums.pair(variance, shares, shift)
    if rounds == 1:
      assert exact_sums.delta(p, q, found) <= delta * (1 + 1e-9) + 1e-14
    else:
      assert exact_sums.composed_delta_at_least(p, q, rounds, found) <= delta
    if number % every == 0:
      best = best_form(shift**2, variance, shares, 1, delta, rounds)
      assert found <= 1.005 * best, (variance, shares, shift, delta, rounds)
    # The faulty way: the continuous Gaussian of the whole variance, which is t = 0.
    faulty = accounting.gaussian_epsilon(math.sqrt(rounds / (shares * variance)) * shift, delta)
    assert found >= faulty
    without_t += rounds == 1 and exact_sums.delta(p, q, faulty) > delta
  assert without_t > 350  # of 750: no bound, and this test notices


def test_the_cost_per_coordinate_is_what_many_coordinates_need():
  rng = np.random.default_rng(3)
  for _ in range(60):
    variance, shares = float(rng.uniform(8, 500)), int(rng.integers(1, 200))
    dimension, rounds = int(2 ** rng.uniform(4, 24)), int(10 ** rng.uniform(0, 3))
    l2 = float(rng.uniform(0.02, 1.0) * math.sqrt(shares * variance / rounds)) + 1
    one = price(l2, variance, shares, dimension)
    squared = one.vectors[0].l2_squared
    found = epsilon(one, shares, 1e-6, rounds)
    best = best_form(squared, variance, shares, min(dimension, squared), 1e-6, rounds)
    assert best * (1 - 1e-6) <= found <= 1.005 * best


@pytest.mark.parametrize(('variance', 'shares', 'shift'), [(1.0, 1, 1), (2.0, 3, 2), (9.0, 5, 7)])
def test_the_factors_hold_at_every_integer(variance, shares, shift):
  """P <= e^c1 P' and Q >= e^-c2 Q', with the rounding of a continuous Gaussian integrated."""
  total, t_squared = shares * variance, 0.4
  p, q = exact_sums.pair(variance, shares, shift)
  start = -((p.size - shift) // 2)
  z = np.arange(start, start + p.size)
  y = np.linspace(z[0] - 5, z[-1] + 5, 40_001)
  weights = np.exp(-((z[:, None] - y) ** 2) / (2 * t_squared))
  weights /= np.array(
    [np.exp(-((np.arange(-40, 41) - v % 1) ** 2) / (2 * t_squared)).sum() for v in y]
  )
  c1, c2 = reduction.coordinate_slack(variance, t_squared, fewest=shares, most=shares)
  left = total - t_squared
  for law, centre in ((p, 0), (q, shift)):
    density = np.exp(-((y - centre) ** 2) / (2 * left)) / math.sqrt(2 * math.pi * left)
    image = weights @ density * (y[1] - y[0])
    seen = law > 1e-9
    assert np.all(law[seen] <= math.exp(c1) * image[seen] * (1 + 1e-6))
    assert np.all(law[seen] >= math.exp(-c2) * image[seen] * (1 - 1e-6))


def test_the_sum_of_shares_is_within_its_slack_of_one_discrete_gaussian():
  for variance, shares in ((0.5, 8), (1.0, 30), (2.0, 5), (4.0, 12)):
    law = exact_sums.sum_of_shares(variance, shares)
    z = np.arange(law.size) - law.size // 2
    whole = np.exp(-(z**2) / (2 * shares * variance))
    seen = law > 1e-9
    ratio = np.abs(np.log(law[seen] * whole.sum() / whole[seen]))
    assert ratio.max() <= reduction.sum_slack(variance, shares) + 1e-7


@pytest.mark.parametrize('variance', [1.0, 4.5])
def test_shares_beyond_counting_cost_no_less_than_one_by_one(monkeypatch, variance):
  exact = reduction.sum_slack(variance, 200_000), accounting.tau(variance, 200_000)
  for module in (reduction, distributed):
    monkeypatch.setattr(module, 'MOST_TERMS', 2**10)
  found = reduction.sum_slack(variance, 200_000), accounting.tau(variance, 200_000)
  assert all(one <= bound <= 1.1 * one for one, bound in zip(exact, found, strict=True))
  assert reduction.sum_slack(variance, 10**18) < math.inf
  assert accounting.tau(variance, 10**18) > 0


def test_the_renyi_curve_has_the_whole_variance():
  """With V and not V - t^2: one share, or wide ones, are a discrete Gaussian."""
  for variance, shift, shares in ((8.0, 3, 1), (20.0, 9, 1), (8.0, 5, 4)):
    orders = np.array([1.5, 2.0, 4.0, 8.0])
    curve = price(shift, variance, shares).curve(shares).rdp(orders)
    tight = reduction.renyi(orders, shift**2, 1, variance, shares)
    z = np.arange(-500, 501)
    p, q = (-((z - centre) ** 2) / (2 * shares * variance) for centre in (0, shift))
    scale = np.log(np.exp(p).sum())
    logs = [math.log(np.exp(a * p + (1 - a) * q - scale).sum()) / (a - 1) for a in orders]
    for found in (curve, tight):
      np.testing.assert_allclose(found, logs, rtol=1e-6)
      assert np.all(found >= np.array(logs) * (1 - 1e-9))
  # Many narrow shares: the slack is in the curve.
  wide, narrow = (price(30, v, n).curve(n).rdp(2.0) for v, n in ((100.0, 1), (1.0, 100)))
  assert narrow > wide


def test_the_worst_of_several_numbers_of_shares_bounds_them_all():
  for variance in (1.0, 4.0, 5.0, 30.0):
    one = price(20.0, variance, 10, 1000, fewest=10, most=60)
    worst = one.worst_gaussian(10)
    for honest in range(10, 61):
      assert all(w >= part for w, part in zip(worst, one.gaussian(honest), strict=True))


def test_shares_that_are_too_narrow_keep_their_renyi_curve():
  assert price(30.0, 8.0, 100, 10**6).has_mu
  assert not price(30.0, 1.0, 100, 10**6).has_mu
  skellam = accounting.noisy_vector(
    name='update', mechanism='skellam', dimension=9, l2_bound=3.0, l1_bound=9.0,
    local_variance=100.0, fewest=5, most=9,
  )  # fmt: skip
  one = accounting.RoundPrice(mechanism='skellam', minimum=5, maximum=9, vectors=(skellam,))
  assert not one.has_mu
  assert isinstance(accounting.account_of(one), accounting.RenyiAccount)
  assert one.gaussian(9)[0] == accounting.INFINITE


def test_t_is_a_fact_of_the_design_and_stays_when_survivors_change():
  one = price(100.0, 20.0, 50, 4096, fewest=50, most=100)
  again = accounting.RoundPrice.from_dict(one.as_dict())
  assert again == one
  assert again.gaussian(77) == one.gaussian(77)
  t = one.vectors[0].t_squared
  exact = 10_000 / (77 * 20.0 - t)
  assert exact <= one.gaussian(77)[0] / accounting.UNIT <= exact * (1 + 1e-9)


def test_replacing_a_client_doubles_the_bound():
  one = price(9.0, 30.0, 20)
  twice = accounting.RoundPrice.from_dict({**one.as_dict(), 'adjacency': 'replace_one'})
  assert twice.gaussian(20)[0] == pytest.approx(4 * one.gaussian(20)[0], rel=1e-9)


def test_every_channel_is_in_the_total():
  """A price without one of its vectors is smaller by exactly that vector."""
  parts = [price(l2, v, 40).vectors[0] for l2, v in ((300.0, 90.0), (640.0, 5000.0), (64.0, 50.0))]
  whole = accounting.RoundPrice(
    mechanism='discrete_gaussian', minimum=40, maximum=40, vectors=tuple(parts)
  )
  by_hand = sum(v.l2_squared / (40 * v.local_variance - v.t_squared) for v in parts)
  assert whole.gaussian(40)[0] / accounting.UNIT == pytest.approx(by_hand, rel=1e-9)
  for left_out in range(3):
    fewer = accounting.RoundPrice(
      mechanism='discrete_gaussian',
      minimum=40,
      maximum=40,
      vectors=tuple(v for i, v in enumerate(parts) if i != left_out),
    )
    assert fewer.gaussian(40)[0] < whole.gaussian(40)[0] * (1 - 1e-3)

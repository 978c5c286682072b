"""Poisson-sampled Gaussian rounds: exact moments, the composed loss, the reduction to them."""

import dataclasses
import json
import math
import pathlib

import mpmath
import numpy as np
import pytest
from scipy import special

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.sampling import privacy_loss
from tff_privacy_agg.accounting.sampling.privacy_loss import composed_loss
from tff_privacy_agg.accounting.sampling.sampled_gaussian import gaussian_renyi
from tff_privacy_agg.errors import ConfigurationError
from tools import conformance
from tools.conformance import oracle

ORDERS = (1.2, 5.3)
PAIRS = [(2.0, 0.1), (2 / 3, 0.001), (0.3, 1e-5)]
PUBLISHED = pathlib.Path(__file__).parent / 'sampled-reference.json'


def moment(order, mu, rate, *, gained=False):
  """Renyi divergence of one direction, in 25 digits."""
  with mpmath.workdps(25):
    rate = mpmath.mpf(rate)
    power = 1 - mpmath.mpf(order) if gained else mpmath.mpf(order)

    def integrand(x):
      ratio = (1 - rate) + rate * mpmath.exp(mu * x - mpmath.mpf(mu) ** 2 / 2)
      return mpmath.npdf(x) * ratio**power

    ends = [mpmath.mpf(k) / 2 for k in range(-26, int(2 * max(order, 2) * mu) + 27)]
    return mpmath.log(mpmath.quad(integrand, ends, maxdegree=4)) / (mpmath.mpf(order) - 1)


@pytest.mark.parametrize(('mu', 'rate'), PAIRS)
def test_the_divergence_is_the_integral_rounded_up(mu, rate):
  found = gaussian_renyi(np.array(ORDERS), mu, rate)
  for order, value in zip(ORDERS, found, strict=True):
    exact = float(moment(order, mu, rate))
    assert exact <= value <= exact * (1 + 1e-9)
    assert float(moment(order, mu, rate, gained=True)) <= value


def test_integer_orders_are_the_binomial_sum():
  base = accounting.gaussian(1.3)
  ours = accounting.poisson(base, 0.02).rdp(np.arange(2.0, 60.0))
  for order, value in zip(range(2, 60), ours, strict=True):
    k = np.arange(order + 1)
    logs = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(order - k + 1)
    logs = logs + k * math.log(0.02) + (order - k) * math.log1p(-0.02) + k * (k - 1) / 2 / 1.69
    exact = special.logsumexp(logs) / (order - 1)
    assert value == pytest.approx(exact, rel=1e-8)


def test_real_orders_gain_where_the_best_one_is_small():
  curve = accounting.poisson(accounting.gaussian(1.0), 0.01).scaled(10_000)
  integers = accounting.epsilon(curve, 1e-6, np.arange(2.0, 257.0))[0]
  assert accounting.epsilon(curve, 1e-6)[0] < 0.995 * integers
  assert accounting.poisson_epsilon([(1.0, 10_000)], 0.01, 1e-6) < 0.94 * integers


def one_round_delta(mu, rate, epsilon, *, gained):
  """Exact delta of one sampled round, by the tails of the two distributions."""
  ratio = np.expm1(-epsilon if gained else epsilon) / rate + 1
  x = np.log(np.maximum(ratio, 1e-300)) / mu + mu / 2
  sign = 1 if gained else -1
  plain, moved = special.ndtr(sign * x), special.ndtr(sign * (x - mu))
  mixed = (1 - rate) * plain + rate * moved
  first, second = (plain, mixed) if gained else (mixed, plain)
  return first - np.exp(epsilon) * second


@pytest.mark.parametrize(
  ('mu', 'rate'), [(1.0, 0.01), (2.0, 0.3), (0.5, 0.05), (4.0, 0.9), (3.0, 1e-4), (0.3, 1e-4)]
)
@pytest.mark.parametrize('delta', [1e-3, 1e-6, 1e-10])
def test_one_round_is_never_below_its_exact_epsilon(mu, rate, delta):
  found = accounting.poisson_epsilon([(mu, 1)], rate, delta)
  exact = max(one_round_delta(mu, rate, found, gained=gained) for gained in (False, True))
  assert exact <= delta
  if found > 0:
    lower = 0.999 * found
    assert max(one_round_delta(mu, rate, lower, gained=gained) for gained in (False, True)) > delta


@pytest.mark.parametrize(
  ('mu', 'rate', 'delta'),
  [(0.0767, 0.01, 1e-290), (0.05, 1e-9, 1e-300), (0.1, 0.1, 1e-240), (1.0, 0.01, 1e-305)],
)
def test_a_delta_near_the_least_float_is_kept(mu, rate, delta):
  """The errors of a transform were lost where their squares left float64."""
  found = accounting.poisson_epsilon([(mu, 1)], rate, delta)
  assert 0 < one_round_delta(mu, rate, found, gained=False) <= delta


def test_no_delta_is_too_small():
  plain = accounting.composed_epsilon(1.0, 5e-324)
  assert 30 < accounting.poisson_epsilon([(1.0, 1)], 0.5, 5e-324) <= plain


def test_a_loss_beyond_the_numbers_of_exp_is_still_counted():
  """At mu 40 the loss passes 709, beyond which e^loss is no number."""
  found = accounting.poisson_epsilon([(40.0, 1)], 0.9, 1e-3)
  with mpmath.workdps(40):
    level = mpmath.exp(mpmath.mpf(found))
    x = mpmath.log((level - 0.1) / 0.9) / 40 + 20
    tail, moved = mpmath.ncdf(-x), mpmath.ncdf(40 - x)
    assert 0.1 * tail + 0.9 * moved - level * tail <= 1e-3
  assert found <= accounting.gaussian_epsilon(40.0, 1e-3) * (1 + 1e-8)


@pytest.mark.parametrize(
  ('rounds', 'rate', 'delta'),
  [([(1.0, 10**20)], 1e-20, 1e-9), ([(1e3, 10)], 0.5, 1e-6), ([(30.0, 1)], 1 - 1e-16, 1 - 1e-6)],
)
def test_extreme_rounds_end_soon_between_nothing_and_no_sampling(rounds, rate, delta):
  (mu, count), *_ = rounds
  plain = accounting.gaussian_epsilon(math.sqrt(count) * mu, delta)
  assert 0 <= accounting.poisson_epsilon(rounds, rate, delta) <= plain * (1 + 1e-4)


def test_a_client_who_is_nearly_never_drawn_costs_nothing():
  assert accounting.poisson_epsilon([(3.0, 10)], 1e-9, 1e-8) == 0
  assert accounting.poisson_epsilon([(3.0, 10)], 1e-9, 5e-9) > 0


def test_wide_orders_are_bounded_without_an_integral():
  orders, mu, rate = np.array([1.5, 64.0, 2048.0]), 100.0, 0.01
  found = gaussian_renyi(orders, mu, rate)
  drawn = orders * math.log(rate) + orders * (orders - 1) / 2 * mu**2
  assert np.all(found >= drawn / (orders - 1))
  assert np.all(found <= drawn / (orders - 1) + 0.7)


def two_rounds_delta(mu, rate, epsilon, *, gained):
  """Delta of two rounds, by quadrature of the exact one over the loss of the other."""
  x = np.linspace(-12, 12 + mu, 40_001)
  loss = np.logaddexp(math.log1p(-rate), math.log(rate) + mu * x - mu * mu / 2)
  density = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
  if gained:
    loss = -loss
  else:
    density = (1 - rate) * density + rate * density * np.exp(mu * x - mu * mu / 2)
  rest = density * one_round_delta(mu, rate, epsilon - loss, gained=gained)
  return float(np.sum(rest[1:] + rest[:-1]) / 2 * (x[1] - x[0]))


@pytest.mark.parametrize(('mu', 'rate'), [(1.0, 0.1), (2.0, 0.4)])
@pytest.mark.parametrize('gained', [False, True])
def test_two_rounds_are_as_tight_as_an_integral_in_each_direction(mu, rate, gained):
  loss = composed_loss([(mu, 2)], rate, 1e-5, 40.0, gained)
  found = loss.epsilon(1e-5, 0.0, 0.0, 0.0)
  assert two_rounds_delta(mu, rate, found, gained=gained) <= 1e-5 * (1 + 1e-9)
  assert two_rounds_delta(mu, rate, 0.999 * found, gained=gained) > 1e-5


def test_the_larger_of_the_two_directions_counts():
  # That of the removed client, in every case that was tried; no bound rests on it.
  for mu, rounds, rate, delta in ((1.0, 1, 0.5, 0.3), (2.0, 30, 0.1, 1e-5)):
    found = accounting.poisson_epsilon([(mu, rounds)], rate, delta)
    both = [
      composed_loss([(mu, rounds)], rate, delta, 100.0, gained).epsilon(delta, 0, 0, 0)
      for gained in (False, True)
    ]
    assert found >= 0.9999 * max(both) - 1e-12  # what an edge of a cell may be off by


@pytest.mark.parametrize(
  ('z', 'rate', 'rounds', 'delta'),
  [
    (1.5, 0.001, 100, 1e-6),
    (1.0, 0.01, 2000, 1e-8),
    (0.5, 0.001, 100, 1e-6),
    (2.0, 0.5, 50, 1e-5),
    (5.0, 0.2, 1000, 1e-9),
  ],
)
def test_fixed_rounds_agree_with_the_loss_that_dp_accounting_composes(z, rate, rounds, delta):
  ours = accounting.poisson_epsilon([(1 / z, rounds)], rate, delta)
  theirs = oracle.poisson_gaussian_pld_epsilon(z, rate, rounds, delta)
  assert ours == pytest.approx(theirs, rel=2e-3)
  assert ours > 0.9985 * theirs
  half = rounds // 2
  split = accounting.poisson_epsilon([(1 / z, half), (1 / z, rounds - half)], rate, delta)
  assert split == pytest.approx(ours, rel=1e-6)


def test_finer_cells_only_lower_epsilon(monkeypatch):
  coarse = accounting.poisson_epsilon([(1.0, 400)], 0.02, 1e-7)
  monkeypatch.setattr(privacy_loss, '_CELLS', 2**14)
  fine = accounting.poisson_epsilon([(1.0, 400)], 0.02, 1e-7)
  assert fine <= coarse <= 1.0002 * fine


@pytest.mark.parametrize('case', json.loads(PUBLISHED.read_text())['cases'], ids=lambda c: c['id'])
def test_published_values_are_met(case):
  assert conformance.check(case).verdict == 'pass'


def test_mixed_rounds_lie_between_their_parts():
  low, high = (accounting.poisson_epsilon([(mu, 100)], 0.05, 1e-6) for mu in (0.8, 1.2))
  mixed = accounting.poisson_epsilon([(0.8, 50), (1.2, 50)], 0.05, 1e-6)
  assert low < mixed < high


def test_factors_and_distances_cost_what_they_are():
  plain = accounting.poisson_epsilon([(1.0, 100)], 0.05, 1e-6)
  assert accounting.poisson_epsilon([(1.0, 100)], 0.05, 1e-6, c1=0.01) > plain + 0.01
  assert accounting.poisson_epsilon([(1.0, 100)], 0.05, 1e-6, c2=0.01) >= plain + 0.01
  moved = accounting.poisson_epsilon([(1.0, 100)], 0.05, 1e-6, distance=1e-10)
  less = accounting.poisson_epsilon([(1.0, 100)], 0.05, 1e-6 - 1e-10 * (1 + math.exp(moved)))
  assert moved == pytest.approx(less, rel=1e-5)
  assert accounting.poisson_epsilon([(1.0, 100)], 0.05, 1e-6, distance=1e-6) == math.inf
  assert accounting.poisson_epsilon([(math.inf, 1)], 0.05, 1e-6) == math.inf


def test_without_sampling_it_is_the_gaussian():
  assert accounting.poisson_epsilon([(0.5, 4)], 1.0, 1e-6) == pytest.approx(
    accounting.gaussian_epsilon(1.0, 1e-6), rel=1e-8
  )
  nearly = accounting.poisson_epsilon([(0.5, 4)], 0.999999, 1e-6)
  assert nearly == pytest.approx(accounting.gaussian_epsilon(1.0, 1e-6), rel=1e-3)
  for rate in (0.0, 1.5):
    with pytest.raises(ConfigurationError, match='rate'):
      accounting.poisson_epsilon([(1.0, 1)], rate, 1e-6)
  with pytest.raises(ConfigurationError, match='rounds'):
    accounting.poisson_epsilon([(1.0, 0)], 0.1, 1e-6)


def share_price(variance=1.5, l2=2, shares=4):
  """Rounds of one coordinate, with narrow shares, so that every factor shows."""
  vector = accounting.noisy_vector(
    name='update',
    mechanism='discrete_gaussian',
    dimension=1,
    l2_bound=l2,
    l1_bound=l2,
    local_variance=variance,
    fewest=shares,
    most=shares,
  )
  return accounting.RoundPrice(
    mechanism='discrete_gaussian', minimum=shares, maximum=shares, vectors=(vector,)
  )


@pytest.mark.parametrize(('variance', 'shares', 'l2'), [(4.0, 1, 1), (4.0, 3, 2), (8.0, 2, 5)])
@pytest.mark.parametrize('rate', [0.02, 0.5])
def test_sampled_sums_of_shares_are_within_the_factors_of_the_sampled_gaussian(
  variance, shares, l2, rate
):
  """Exact distributions: in both directions, the curve at real orders and delta at each epsilon."""
  price = share_price(variance, l2, shares)
  assert price.has_mu
  half = math.ceil(14 * math.sqrt(variance * shares)) + 2 * l2
  law = np.exp(oracle.discrete_gaussian_sum_log_pmf(variance, shares, half))
  moved = np.concatenate([np.zeros(l2), law[:-l2]])
  mixed = (1 - rate) * law + rate * moved
  known = (law > 1e-290) & (mixed > 1e-290)
  curve = accounting.poisson_round(price, shares, rate)
  for order in (1.1, 1.5, 2.0, 3.7, 8.0):
    for p, q in ((mixed, law), (law, mixed)):
      logs = order * np.log(p[known]) + (1 - order) * np.log(q[known])
      assert special.logsumexp(logs) / (order - 1) <= float(curve.rdp(order))
  for delta in (1e-2, 1e-4, 1e-6):
    found = accounting.fixed_rounds_epsilon(price, {shares: 1}, rate, delta, 0.0)
    for p, q in ((mixed, law), (law, mixed)):
      assert np.maximum(p - math.exp(found) * q, 0).sum() <= delta


def test_the_reduction_is_far_below_factor_three_for_summed_shares():
  price = share_price(16.0, 10, 100)
  tight = accounting.poisson_round(price, 100, 0.01).scaled(500)
  base = price.curve(100)
  general = accounting.poisson(base, 0.01, adjacency='zero_out', total_noise_fixed=True).scaled(500)
  assert accounting.epsilon(tight, 1e-6)[0] < 0.9 * accounting.epsilon(general, 1e-6)[0]
  fixed = accounting.fixed_rounds_epsilon(price, {100: 500}, 0.01, 1e-6, 0.0)
  assert fixed < accounting.epsilon(tight, 1e-6)[0]


def test_noise_that_is_no_gaussian_keeps_the_general_bound():
  narrow = share_price(1.0, 2, 4)
  assert not narrow.has_mu
  curve = accounting.poisson_round(narrow, 4, 0.1)
  assert curve.integer_only
  general = accounting.poisson(narrow.curve(4), 0.1, adjacency='zero_out', total_noise_fixed=True)
  np.testing.assert_array_equal(curve.rdp([2.0, 8.0]), general.rdp([2.0, 8.0]))
  fixed = accounting.fixed_rounds_epsilon(narrow, {4: 10}, 0.1, 1e-5, 0.0)
  assert fixed == pytest.approx(
    accounting.epsilon(general.scaled(10), 1e-5, np.arange(2.0, 257.0))[0], rel=1e-9
  )


def test_the_factors_of_the_sum_are_in_the_curve_and_in_epsilon():
  price = share_price(8.0, 8, 4)
  narrow = dataclasses.replace(price.vectors[0], t_squared=0.4)  # so that the factors show
  price = dataclasses.replace(price, vectors=(narrow,))
  assert price.has_mu
  mu, c1, c2 = accounting.as_numbers(np.array(price.gaussian(4), dtype=object))
  assert c1 > 1e-4
  assert c2 > 1e-4
  orders = np.array([1.5, 3.0])
  bare = gaussian_renyi(orders, mu, 0.1)
  extra = accounting.poisson_round(price, 4, 0.1).rdp(orders) - bare
  np.testing.assert_allclose(extra, (orders * c1 + (orders - 1) * c2) / (orders - 1), rtol=1e-6)
  found = accounting.fixed_rounds_epsilon(price, {4: 10}, 0.1, 1e-6, 0.0)
  assert found >= accounting.poisson_epsilon([(mu, 10)], 0.1, 1e-6) + 9.99 * (c1 + c2)


def test_what_is_beyond_the_largest_loss_counts():
  for gained in (False, True):
    loss = composed_loss([(2.0, 1)], 0.3, 0.05, 1.0, gained)
    found = loss.epsilon(0.05, 0.0, 0.0, 0.0)
    assert found == math.inf or one_round_delta(2.0, 0.3, found, gained=gained) <= 0.05


def test_replacing_a_client_is_refused():
  price = dataclasses.replace(share_price(16.0, 10, 100), adjacency='replace_one')
  with pytest.raises(ConfigurationError, match='without_replacement'):
    accounting.poisson_round(price, 100, 0.1)
  with pytest.raises(ConfigurationError, match='without_replacement'):
    accounting.fixed_rounds_epsilon(price, {100: 2}, 0.1, 1e-6, 0.0)

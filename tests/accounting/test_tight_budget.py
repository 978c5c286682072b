"""Budgets: one account fixed beforehand, larger ones contain smaller ones, plans fit exactly."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from test_reduction import price

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import Budget

PRICES = {
  'wide': price(300.0, 400.0, 50, 4096, fewest=50, most=100),
  'few bits': price(20.0, 9.0, 30, 1024, fewest=30, most=300),
  'one': price(3.0, 8.0, 1, 16, fewest=1, most=1),
  'strong': price(2000.0, 12_000.0, 80, 2**20, fewest=80, most=80),
}
DISTANCES = (0.0, 1e-40, 1e-17, 1e-10)


def fixed(one, epsilon, delta=1e-5, distance=0.0, account=None, **more):
  account = account or accounting.account_of(one)
  worst, best = account.worst(one, one.minimum), account.row(one, one.maximum)
  return Budget(epsilon=epsilon, delta=delta, **more).fix(account, worst, best, distance)


def rounds_at_worst(one, limit, distance=0.0):
  account = limit.account
  by_cost = limit.rounds(account.nothing, account.worst(one, one.minimum))
  return min(by_cost, int(limit.most_distance / distance)) if distance else by_cost


@settings(max_examples=60, deadline=None)
@given(
  st.sampled_from(sorted(PRICES)),
  st.sampled_from(DISTANCES),
  st.lists(st.floats(0.05, 120.0), min_size=2, max_size=4),
  st.booleans(),
)
def test_a_larger_budget_never_admits_fewer_rounds(name, distance, epsilons, renyi):
  one = PRICES[name]
  orders = accounting.table_orders(integer_only=False)
  account = accounting.RenyiAccount(orders) if renyi else None
  limits = [
    fixed(one, epsilon, delta, distance, account)
    for epsilon, delta in zip(sorted(epsilons), (1e-6, 1e-5, 1e-5, 1e-4), strict=False)
  ]
  admitted = [rounds_at_worst(one, limit, distance) for limit in limits]
  assert admitted == sorted(admitted)
  if not renyi:
    assert [limit.limit for limit in limits] == sorted(limit.limit for limit in limits)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PRICES)), st.sampled_from(DISTANCES), st.floats(0.05, 60.0))
def test_what_the_limits_admit_is_within_the_budget(name, distance, epsilon):
  one = PRICES[name]
  limit = fixed(one, epsilon, 1e-5, distance)
  mu, c1, c2 = accounting.as_numbers(np.array(limit.limit, dtype=object))
  at = accounting.composed_delta(mu, epsilon, c1=c1, c2=c2, distance=limit.most_distance)
  assert at <= 1e-5
  assert limit.epsilon <= epsilon
  # And not far within: one hundredth more of mu^2 is outside.
  more = accounting.composed_delta(1.005 * mu, epsilon, c1=c1, c2=c2, distance=limit.most_distance)
  assert more > 1e-5


def test_rounds_are_added_in_integers_so_that_many_cost_exactly_many_times_one():
  account = accounting.GaussianAccount()
  row = account.row(PRICES['few bits'], 117)
  total = account.nothing
  for _ in range(10_000):
    total = total + row
  assert list(total) == [10_000 * part for part in row]
  assert all(isinstance(part, int) for part in total)
  # The faulty way: a sum of floats is another number than the product.
  step, summed = int(row[0]) / accounting.UNIT + 1e-3, 0.0
  for _ in range(10_000):
    summed += step
  assert summed != 10_000 * step


def test_a_budget_looks_at_its_one_account_only():
  one = PRICES['wide']
  limit = fixed(one, 90.0)
  assert (limit.account.name, limit.order) == ('gaussian', None)
  past = np.array([limit.limit[0] + 1, 0, 0], dtype=object)
  assert not limit.admits(past, 0.0)  # whatever any Renyi order says
  assert limit.admits(np.array(limit.limit, dtype=object), 0.0)
  by_order = fixed(one, 90.0, account=accounting.RenyiAccount(accounting.table_orders(False)))
  assert (by_order.account.name, len(by_order.parts)) == ('renyi', 1)
  assert rounds_at_worst(one, by_order) < rounds_at_worst(one, limit)


def test_each_of_the_limits_is_kept():
  limit = fixed(PRICES['one'], 3.0, distance=1e-20)
  for part in range(3):
    past = np.array(limit.limit, dtype=object)
    past[part] += 1
    assert not limit.admits(past, 0.0)
  assert not limit.admits(np.array([0, 0, 0], dtype=object), 2 * limit.most_distance)


@pytest.mark.parametrize('rounds', [1, 30, 100, 999])
@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
def test_the_budget_of_a_plan_admits_exactly_the_planned_rounds(rounds, mechanism):
  plan = accounting.plan(
    target_epsilon=3.7, target_delta=1e-6, rounds=rounds, clients_per_round=90,
    population=50_000, dimension=512, mechanism=mechanism, bits=20,
  )  # fmt: skip
  assert plan.epsilon <= 3.7
  assert float(f'{plan.noise_multiplier:.6g}') == plan.noise_multiplier
  one = plan.price
  for budget in (plan.budget, Budget(epsilon=plan.budget.epsilon, delta=1e-6)):
    account = accounting.account_of(one)
    worst, best = account.worst(one, one.minimum), account.row(one, one.maximum)
    limit = budget.fix(account, worst, best, 0.0)
    assert limit.rounds(account.nothing, worst) == rounds
  if plan.mu_squared is not None:  # however much epsilon is rounded up
    generous = dataclasses.replace(plan.budget, epsilon=1.01 * plan.epsilon)
    assert generous.fix(account, worst, best, 0.0).rounds(account.nothing, worst) == rounds


def test_a_plan_counts_the_last_round_at_its_worst():
  plan = accounting.plan(
    target_epsilon=3.7, target_delta=1e-6, rounds=30, clients_per_round=90, population=50_000,
    dimension=512, bits=20, worst_honest=30,
  )  # fmt: skip
  one, account = plan.price, accounting.GaussianAccount()
  worst = account.worst(one, 30)
  limit = plan.budget.fix(account, worst, account.row(one, one.maximum), 0.0)
  total, ran = account.nothing, 0
  while limit.admits(total + worst, 0.0):  # charged at the worst, settled as planned
    total, ran = total + account.row(one, one.minimum), ran + 1
  assert ran == 30
  assert plan.mu_squared == pytest.approx(
    (29 * account.row(one, one.minimum)[0] + worst[0]) / accounting.UNIT
  )


def test_mu_of_a_budget_only_ever_lowers_what_epsilon_admits():
  one = PRICES['wide']
  free, bound = fixed(one, 2.0), fixed(one, 2.0, mu_squared=1e9)
  assert bound.limit == free.limit  # a forged number buys nothing
  half = fixed(one, 2.0, mu_squared=free.limit[0] / accounting.UNIT / 2)
  assert half.limit[0] == pytest.approx(free.limit[0] / 2, rel=1e-6)
  assert half.epsilon <= 2.0
  assert math.isfinite(half.most_distance)


def test_bits_have_wide_shares():
  for stddev, expected in ((0.01, 10**6), (0.1, 1000), (1.0, 5), (50.0, 500)):
    resolution = accounting.channel_resolution(64, stddev, expected)
    assert resolution >= 64
    assert accounting.channel_share_variance(resolution, stddev, expected) >= 8

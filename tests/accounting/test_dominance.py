"""Less protection never gives a smaller epsilon, and no stated epsilon lies below an exact one."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tff_privacy_agg import accounting
from tools.conformance import oracle

ORDERS = np.array([2.0, 3.0, 5.0, 8.0, 20.0, 100.0])
SLACK = 1 + 1e-12
LAWS = st.sampled_from(['discrete_gaussian', 'skellam', 'gaussian'])
ADJACENCIES = st.sampled_from(['zero_out', 'replace_one'])


def curve(law, *, l2, variance, honest, adjacency='zero_out', dimension=64):
  """A round of `honest` shares of `variance`, with norm bounds that belong together."""
  l1 = l2 * min(math.sqrt(dimension), l2)
  if law == 'gaussian':
    return accounting.gaussian(math.sqrt(honest * variance) / l2, adjacency=adjacency)
  if law == 'skellam':
    return accounting.skellam(l2, l1, local_variance=variance, honest=honest, adjacency=adjacency)
  return accounting.discrete_gaussian(l2, l1, variance, honest, dimension, adjacency=adjacency)


@settings(max_examples=150, deadline=None)
@given(
  LAWS,
  ADJACENCIES,
  st.floats(1.0, 1e4),
  st.floats(5.0, 1e6),  # above, shares of a discrete Gaussian are wide: tau does not grow
  st.integers(1, 300),
  st.integers(1, 100),
  st.floats(1.0, 3.0),
)
def test_a_round_costs_more_with_less_protection(law, adjacency, l2, v, honest, rounds, factor):
  base = curve(law, l2=l2, variance=v, honest=honest, adjacency=adjacency).rdp(ORDERS)
  given_more = {
    'norm': curve(law, l2=factor * l2, variance=v, honest=honest, adjacency=adjacency),
    'quiet': curve(law, l2=l2, variance=v / factor, honest=honest, adjacency=adjacency),
    'few': curve(law, l2=l2, variance=v, honest=math.ceil(honest / factor), adjacency=adjacency),
    'replaced': curve(law, l2=l2, variance=v, honest=honest, adjacency='replace_one'),
  }
  for name, dearer in given_more.items():
    if name == 'quiet' and v / factor < 5.0:
      continue
    assert np.all(dearer.rdp(ORDERS) * SLACK >= base), name
  many = curve(law, l2=l2, variance=v, honest=honest, adjacency=adjacency).scaled(rounds)
  here = accounting.epsilon(many, 1e-6)[0]
  further = curve(law, l2=l2, variance=v, honest=honest, adjacency=adjacency).scaled(rounds + 1)
  assert accounting.epsilon(further, 1e-6)[0] * (1 + 1e-9) >= here
  assert accounting.epsilon(many, 1e-7)[0] * (1 + 1e-9) >= here


@settings(max_examples=40, deadline=None)
@given(LAWS, st.floats(10.0, 1e3), st.floats(0.001, 0.4), st.floats(1.0, 2.0))
def test_sampled_rounds_cost_more_with_a_larger_cohort_and_less_noise(law, v, rate, factor):
  for sampled in (
    lambda variance, q: accounting.poisson(
      curve(law, l2=10.0, variance=variance, honest=100),
      q,
      adjacency='zero_out',
      total_noise_fixed=True,
    ),
    lambda variance, q: accounting.without_replacement(
      curve(law, l2=10.0, variance=variance, honest=100, adjacency='replace_one'),
      population=1000,
      cohort=max(1, int(1000 * q)),
    ),
  ):
    base = sampled(v, rate).rdp(ORDERS)
    assert np.all(sampled(v, min(1.0, rate * factor)).rdp(ORDERS) * (1 + 1e-9) >= base)
    assert np.all(sampled(v / factor, rate).rdp(ORDERS) * (1 + 1e-9) >= base)


@settings(max_examples=25, deadline=None)
@given(
  st.sampled_from(['discrete_gaussian', 'skellam']),
  st.floats(0.5, 6.0),
  st.integers(50, 100),
  st.integers(16, 20),
)
def test_the_solved_design_keeps_its_multiplier_and_more_of_it_costs_less(law, z, honest, bits):
  def epsilon(multiplier, width):
    solved = accounting.solve(
      noise_multiplier=multiplier,
      cohort_maximum=100,
      minimum_honest=honest,
      bits=width,
      dimension=1024,
      mechanism=law,
    )
    assert solved.z_eff(honest) >= multiplier
    return accounting.epsilon(solved.curve(honest), 1e-6)[0]

  here = epsilon(z, bits)
  assert epsilon(1.3 * z, bits) < here
  # The law of the sum is at best Gaussian of the same multiplier.
  assert here >= accounting.gaussian_epsilon(1 / (z * 1.01), 1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 300.0), st.integers(1, 6))
def test_the_skellam_bound_is_never_below_the_exact_divergence(variance, shift):
  orders = [2.0, 3.0, 6.0]
  exact = oracle.skellam_renyi(variance, shift, orders)
  bound = accounting.skellam(shift, shift, central_variance=variance).rdp(orders)
  assert np.all(bound * (1 + 1e-9) >= exact)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.25, 4.0), st.integers(1, 30), st.integers(1, 2))
def test_the_discrete_gaussian_bound_is_never_below_the_exact_divergence(v, shares, shift):
  orders = [1.5, 2.0, 6.0]
  exact = oracle.discrete_gaussian_sum_renyi(v, shares, shift, orders)
  bound = accounting.discrete_gaussian(shift, shift, v, shares, 1).rdp(orders)
  assert np.all(bound * (1 + 1e-9) >= exact)


@pytest.mark.parametrize('rounds', [1, 10])
def test_the_stated_epsilon_is_never_below_the_privacy_loss(rounds):
  bound = accounting.skellam(math.sqrt(100), 100, central_variance=4000.0).scaled(rounds)
  exact = oracle.skellam_pld_epsilon(4000.0, 100 * rounds, 1e-5)
  assert exact <= accounting.epsilon(bound, 1e-5)[0] <= 1.3 * exact


def test_a_faulty_bound_would_be_seen():
  exact = oracle.skellam_renyi(4.0, 2, [2.0, 3.0])
  bound = accounting.skellam(2, 2, central_variance=4.0)
  faulty = dataclasses.replace(bound, function=lambda a: 0.5 * a * (2 - 1) ** 2 / 4.0)
  assert np.any(faulty.rdp([2.0, 3.0]) < exact)

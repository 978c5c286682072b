"""The curves next to dp_accounting, where both are defined; for its releases 0.4.3 and 0.6.0."""

import importlib.metadata
import math

import numpy as np
import pytest
from dp_accounting import dp_event, privacy_accountant
from dp_accounting.pld import pld_privacy_accountant
from dp_accounting.rdp import rdp_privacy_accountant
from hypothesis import given, settings, strategies as st

from tff_privacy_agg import accounting
from tools.conformance import oracle

VERSION = tuple(int(part) for part in importlib.metadata.version('dp-accounting').split('.')[:2])
NEIGHBOURS = privacy_accountant.NeighboringRelation
ORDERS = np.arange(2.0, 65.0)


def rdp_accountant(relation=NEIGHBOURS.ADD_OR_REMOVE_ONE, orders=ORDERS):
  return rdp_privacy_accountant.RdpAccountant(list(orders), relation)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.3, 40.0), st.integers(1, 2000), st.floats(-23.0, -2.0))
def test_epsilon_of_gaussian_rounds_is_theirs(z, rounds, log_delta):
  delta = math.exp(log_delta)
  theirs = rdp_accountant().compose(dp_event.GaussianDpEvent(z), rounds).get_epsilon(delta)
  ours = accounting.epsilon(accounting.gaussian(z).scaled(rounds), delta, ORDERS)[0]
  assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.5, 10.0), st.floats(1e-4, 0.5), st.integers(1, 2000))
def test_epsilon_of_poisson_rounds_is_theirs(z, rate, rounds):
  event = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(z))
  theirs = rdp_accountant().compose(event, rounds).get_epsilon(1e-6)
  base = accounting.gaussian(z, adjacency='add_or_remove_one')
  tight = accounting.poisson(base, rate, tight=True).scaled(rounds)
  assert accounting.epsilon(tight, 1e-6, ORDERS)[0] == pytest.approx(theirs, rel=1e-6)
  general = accounting.poisson(base, rate, tight=False).scaled(rounds)
  assert accounting.epsilon(general, 1e-6, ORDERS)[0] >= theirs * (1 - 1e-9)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.7, 10.0), st.integers(1, 400), st.integers(1, 2000))
def test_epsilon_of_rounds_of_fixed_size_is_not_below_theirs(z, cohort, rounds):
  theirs = oracle.without_replacement_gaussian_epsilon(
    z, population=1000, cohort=cohort, rounds=rounds, delta=1e-6, orders=ORDERS
  )
  base = accounting.gaussian(2 * z, adjacency='replace_one')
  ours = accounting.without_replacement(base, population=1000, cohort=cohort).scaled(rounds)
  # Theirs bounds the Gaussian itself, ours any mechanism with its curve.
  assert theirs * (1 - 1e-9) <= accounting.epsilon(ours, 1e-6, ORDERS)[0]


@pytest.mark.parametrize('steps', [[64], [100, 1, 8], [5] * 7])
def test_epsilon_of_trees_with_restarts_is_theirs(steps):
  event = dp_event.SingleEpochTreeAggregationDpEvent(3.0, steps)
  theirs = rdp_accountant(NEIGHBOURS.REPLACE_SPECIAL).compose(event).get_epsilon(1e-6)
  # A client takes part once, so in one tree: theirs counts the highest of them.
  highest = max(accounting.tree_restart_sensitivity([one]) for one in steps)
  ours = accounting.correlated_gaussian(3.0, float(highest))
  assert accounting.epsilon(ours, 1e-6, ORDERS)[0] == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(('z', 'rounds'), [(1.0, 1), (2.0, 30), (10.0, 300)])
def test_rdp_is_never_below_the_privacy_loss_of_a_gaussian(z, rounds):
  accountant = pld_privacy_accountant.PLDAccountant(NEIGHBOURS.ADD_OR_REMOVE_ONE)
  theirs = accountant.compose(dp_event.GaussianDpEvent(z), rounds).get_epsilon(1e-6)
  ours = accounting.epsilon(accounting.gaussian(z).scaled(rounds), 1e-6)[0]
  exact = accounting.gaussian_epsilon(math.sqrt(rounds) / z, 1e-6)
  assert exact <= ours
  assert exact == pytest.approx(theirs, rel=1e-3)


def test_rdp_is_never_below_the_privacy_loss_of_poisson_rounds():
  for rounds in (1, 50):
    theirs = oracle.poisson_gaussian_pld_epsilon(1.0, 0.01, rounds, 1e-5)
    base = accounting.gaussian(1.0, adjacency='add_or_remove_one')
    for tight in (True, False):
      ours = accounting.poisson(base, 0.01, tight=tight).scaled(rounds)
      assert accounting.epsilon(ours, 1e-5)[0] > theirs


def test_what_an_event_s_noise_is_relative_to_under_replace_one():
  # The event carries standard deviation over the distance of neighbours, which replace_one
  # doubles, so it must be given z / 2. One accountant of 0.6 doubles by itself.
  found = {}
  event = dp_event.GaussianDpEvent(1.0)
  found['rdp'] = rdp_accountant(NEIGHBOURS.REPLACE_ONE).compose(event).get_epsilon(1e-5)
  accountant = pld_privacy_accountant.PLDAccountant(NEIGHBOURS.REPLACE_ONE)
  found['pld'] = accountant.compose(event).get_epsilon(1e-5)
  assert found['rdp'] == pytest.approx(4.752, rel=1e-2)
  assert found['pld'] == pytest.approx(4.377 if VERSION < (0, 6) else 9.997, rel=1e-3)
  # Ours: the factor is in the curve, and only there.
  halved = accounting.gaussian(1.0, adjacency='replace_one')
  assert halved.rdp(2.0) == pytest.approx(accounting.gaussian(0.5).rdp(2.0))
  exact = accounting.gaussian_epsilon(2.0, 1e-5)
  assert exact == pytest.approx(9.997, rel=1e-3)
  assert accounting.epsilon(halved, 1e-5)[0] >= exact

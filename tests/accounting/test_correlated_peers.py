"""Correlated noise against the numbers of jax-privacy and PFL, which correlated-peers.json holds."""

import json
import pathlib

import numpy as np
import pytest

from tff_privacy_agg.accounting.correlated.column import ONE, BandedColumn
from tff_privacy_agg.accounting.correlated.strategy import most_participations
from tff_privacy_agg.accounting.correlated.workload import optimal_column, root_mean_squared_error

PEERS = json.loads((pathlib.Path(__file__).parent / 'correlated-peers.json').read_text())
JAX = PEERS['jax_privacy']['cases']
PFL = PEERS['pfl']['cases']
# Norm of one client's integers: rounding is small next to it.
LARGE = 10**9


@pytest.mark.parametrize('case', JAX, ids=lambda case: f'{case["rounds"]}-{case["bands"]}')
def test_error_and_sensitivity_are_those_of_jax_privacy(case):
  theirs = np.array(case['coefficients'])
  assert np.linalg.norm(theirs) == pytest.approx(1)
  column = (theirs / theirs[0]).tolist()
  error = root_mean_squared_error(column, case['rounds'])
  assert error**2 == pytest.approx(case['mean_squared_error'], rel=1e-9)
  times = most_participations(case['rounds'], case['separation'], case['participations'])
  moved = times * BandedColumn.from_floats(column).squared_sensitivity(LARGE**2, 1)
  normed = moved * theirs[0] ** 2 / LARGE**2
  assert normed == pytest.approx(case['squared_sensitivity'], rel=1e-6)


@pytest.mark.parametrize('case', JAX, ids=lambda case: f'{case["rounds"]}-{case["bands"]}')
def test_our_column_is_as_good_as_the_one_of_jax_privacy(case):
  ours = [step / ONE for step in optimal_column(case['rounds'], case['bands']).steps]
  error = root_mean_squared_error(ours, case['rounds']) ** 2
  assert error == pytest.approx(case['mean_squared_error'], rel=1e-5)
  assert error <= case['mean_squared_error'] * (1 + 1e-7)


@pytest.mark.parametrize('case', PFL, ids=lambda case: f'{case["rounds"]}')
def test_matrices_of_any_form_are_a_little_better_than_one_column(case):
  """PFL optimises all columns of norm 1; one column for all rounds loses a few per cent."""
  rounds, gram = case['rounds'], np.array(case['gram'])
  assert np.diag(gram) == pytest.approx(1)
  sums = np.tril(np.ones((rounds, rounds)))
  theirs = np.trace(sums @ np.linalg.inv(gram) @ sums.T) / rounds
  bands = int(np.flatnonzero(gram[0]).max()) + 1
  ours = [step / ONE for step in optimal_column(rounds, bands).steps]
  error = root_mean_squared_error(ours, rounds) ** 2
  assert theirs <= error <= 1.1 * theirs

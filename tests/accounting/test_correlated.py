"""Noise correlated over rounds: sensitivity against brute force, coefficients against optima."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from tff_privacy_agg.accounting.correlated import workload
from tff_privacy_agg.accounting.correlated.strategy import ONE, BandedColumn, most_participations
from tff_privacy_agg.errors import ConfigurationError


def centres(column, contributions, releases):
  """The integer centres q_t of all rounds, given what was released."""
  noise = releases - contributions
  found = []
  for t in range(len(releases)):
    lags = range(1, min(t, column.bands - 1) + 1)
    carried = sum((column.steps[j] * noise[t - j] for j in lags), np.zeros_like(noise[0]))
    found.append(contributions[t] - (carried + ONE // 2) // ONE)
  return np.array(found)


def patterns(rounds, separation):
  for count in range(1, most_participations(rounds, separation) + 1):
    for steps in itertools.combinations(range(rounds), count):
      if all(y - x >= separation for x, y in itertools.pairwise(steps)):
        yield steps


def test_no_participation_pattern_moves_the_centres_further():
  random = np.random.default_rng(0)
  largest = 0.0
  for bands, rounds, dimension in itertools.product((1, 2, 3), (5, 7), (1, 3)):
    separation = bands
    column = BandedColumn.from_floats([1.0, *random.uniform(-1, 1, bands - 1)])
    for steps in patterns(rounds, separation):
      others = random.integers(-9, 10, (rounds, dimension))
      releases = random.integers(-99, 100, (rounds, dimension))
      mine = np.zeros_like(others)
      mine[list(steps)] = random.integers(-2, 3, (len(steps), dimension))
      bound = max(int((mine**2).sum(axis=1).max()), 1)
      moved = centres(column, others + mine, releases) - centres(column, others, releases)
      limit = len(steps) * column.squared_sensitivity(bound, dimension)
      assert (moved**2).sum() <= limit
      largest = max(largest, (moved**2).sum() / limit)
  assert largest > 0.9


def test_most_participations_is_the_longest_pattern():
  for rounds, separation in itertools.product(range(1, 9), range(1, 5)):
    longest = max(len(steps) for steps in patterns(rounds, separation))
    assert most_participations(rounds, separation) == longest


def test_the_sensitivity_is_the_formula_rounded_down_exactly():
  column = BandedColumn.from_floats([1.0, -0.5, 0.25])
  norm = math.sqrt(1 + 0.25 + 0.0625)
  formula = (norm * 1000 + math.sqrt(2 * 7)) ** 2
  assert column.squared_sensitivity(1000**2, 7) == math.floor(formula)
  # Coordinates that a client of norm 1 leaves at 0 are not rounded otherwise.
  assert column.squared_sensitivity(1, 10**6) == math.floor((norm + math.sqrt(2)) ** 2)


def test_mu_counts_participations_and_needs_separation():
  column = BandedColumn.from_floats([1.0, 0.5])
  facts = {'l2_squared': 64, 'dimension': 1, 'variance': Fraction(100)}
  one = column.mu_squared(participations=1, separation=2, **facts)
  assert column.mu_squared(participations=5, separation=2, **facts) == 5 * one
  assert one == Fraction(column.squared_sensitivity(64, 1), 100)
  with pytest.raises(ConfigurationError, match='at least 2 rounds apart'):
    column.mu_squared(participations=5, separation=1, **facts)
  with pytest.raises(ConfigurationError, match='does not begin with 1'):
    BandedColumn.from_floats([0.5, 1.0])


def _error(column, rounds, momentum):
  strategy = sum(c * np.eye(rounds, k=-j) for j, c in enumerate(column))
  lags = np.subtract.outer(np.arange(rounds), np.arange(rounds))
  momenta = np.where(lags >= 0, momentum ** np.maximum(lags, 0), 0.0)
  noise = np.tril(np.ones((rounds, rounds))) @ momenta @ np.linalg.inv(strategy)
  return math.sqrt((noise**2).sum() / rounds) * np.linalg.norm(column)


@pytest.mark.parametrize('momentum', [0.0, 0.9])
def test_the_error_is_that_of_the_matrices_and_no_neighbour_is_better(momentum):
  rounds, bands = 40, 4
  steps = workload.optimal_column(rounds, bands, momentum=momentum).steps
  column = [c / ONE for c in steps]
  best = _error(column, rounds, momentum)
  assert workload.root_mean_squared_error(column, rounds, momentum) == pytest.approx(best)
  for j, change in itertools.product(range(1, bands), (-0.02, 0.02)):
    assert _error([*column[:j], column[j] + change, *column[j + 1 :]], rounds, momentum) > best


def test_without_correlation_the_error_is_that_of_a_random_walk():
  assert workload.optimal_column(9, 1).steps == (ONE,)
  assert workload.root_mean_squared_error([1.0], 9) == pytest.approx(math.sqrt(5))
  gain = workload.root_mean_squared_error([1.0], 200) / workload.root_mean_squared_error(
    [c / ONE for c in workload.optimal_column(200, 20).steps], 200
  )
  assert gain > 3.1  # the banded square root alone

"""Plans of correlated noise: epsilon and error recomputed by matrices, patterns that cannot be."""

import json
import math

import numpy as np
import pytest

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.correlated.planning import plan_correlated
from tff_privacy_agg.errors import ConfigurationError

COHORT = {'clients_per_round': 50, 'population': 1000}


def matrix_of(planned):
  coefficients = planned.as_dict()['coefficients']
  return sum(c * np.eye(planned.rounds, k=-j) for j, c in enumerate(coefficients))


@pytest.mark.parametrize(
  ('rounds', 'given', 'pattern'),
  [
    (200, COHORT, (20, 10)),
    (205, COHORT, (20, 11)),
    (200, {'separation': 7, 'delta': 1e-6}, (7, 29)),
    (200, {'separation': 7, 'participations': 3, 'delta': 1e-6}, (7, 3)),
    (30, {'separation': 40, 'participations': 1, 'delta': 1e-6}, (40, 1)),
  ],
)
def test_a_plan_is_what_matrices_and_the_gaussian_account_give(rounds, given, pattern):
  planned = plan_correlated(rounds=rounds, target_epsilon=4.0, **given)
  assert (planned.strategy.separation, planned.participations) == pattern
  matrix, z = matrix_of(planned), planned.noise_multiplier
  # One participation moves a column of C; those of one client do not overlap.
  chosen = range(0, min(rounds, pattern[0] * pattern[1]), pattern[0])
  column = np.linalg.norm(matrix[:, 0])
  moved = np.linalg.norm(sum(matrix[:, t] for t in chosen)) / column
  mu = math.sqrt(pattern[1]) / z
  assert moved <= math.sqrt(pattern[1]) * (1 + 1e-12)
  assert accounting.gaussian_epsilon(mu, planned.delta) <= planned.epsilon <= 4.0
  assert accounting.gaussian_epsilon(mu, planned.delta) == pytest.approx(4.0, rel=1e-4)
  left = np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(matrix) * z * column
  assert planned.error == pytest.approx(math.sqrt((left**2).sum() / rounds))
  assert planned.independent_error == pytest.approx(z * math.sqrt((rounds + 1) / 2))
  assert planned.gain == pytest.approx(planned.independent_error / planned.error)


def test_the_gains_are_at_least_those_of_the_square_root():
  """Computed for the banded square root: 3.1, 5.9 and 1.8 times, and none in every round."""
  cases = [(200, 20, 3.1), (1000, 100, 5.9), (30, 6, 1.8)]
  for rounds, separation, gain in cases:
    planned = plan_correlated(rounds=rounds, separation=separation, target_epsilon=8.0, delta=1e-6)
    assert round(planned.gain, 1) >= gain
    assert 'times less than that of independent noise' in planned.reasons[0]
  everyone = plan_correlated(rounds=30, separation=1, target_epsilon=8.0, delta=1e-6)
  assert everyone.gain == 1.0
  assert everyone.reasons[0].startswith('No gain')
  assert everyone.strategy.bands == 1


def test_the_budget_is_of_the_release_view_and_admits_exactly_the_participations():
  planned = plan_correlated(rounds=200, target_epsilon=4.0, **COHORT)
  budget, z = planned.budget, planned.noise_multiplier
  row = np.array([math.ceil(accounting.UNIT / z**2), 0, 0], dtype=object)
  limits = budget.fix(accounting.GaussianAccount(), row, row, 0.0)
  assert budget.view == 'release'
  assert limits.rounds(np.zeros(3, dtype=object), row) == planned.participations


def test_bands_follow_the_state_that_is_kept():
  free = plan_correlated(rounds=300, separation=100, target_epsilon=4.0, delta=1e-6)
  assert 1 < free.strategy.bands <= 100
  large = plan_correlated(
    rounds=300, separation=100, target_epsilon=4.0, delta=1e-6, parameters=10_000_000
  )
  assert large.strategy.bands <= 4
  assert large.state_bytes == (large.strategy.bands - 1) * 80_000_000 <= 2**28
  assert large.error > free.error
  asked = plan_correlated(
    rounds=300, separation=100, target_epsilon=4.0, delta=1e-6, parameters=10_000_000, bands=9
  )
  assert asked.strategy.bands == 9


def test_momentum_and_learning_rates_change_the_coefficients():
  given = {'rounds': 100, 'separation': 10, 'target_epsilon': 4.0, 'delta': 1e-6}
  plain, heavy = plan_correlated(**given), plan_correlated(**given, momentum=0.9)
  late = plan_correlated(**given, learning_rates=np.linspace(0, 1, 100))
  columns = {one.strategy.column.steps for one in (plain, heavy, late)}
  assert len(columns) == 3
  assert json.loads(json.dumps(heavy.as_dict()))['separation'] == 10


@pytest.mark.parametrize(
  ('given', 'words'),
  [
    ({'delta': 1e-6}, 'Pass `separation`'),
    ({'separation': 5}, 'needs a `delta`'),
    ({**COHORT, 'separation': 21}, 'a separation of at most 20'),
    ({**COHORT, 'participations': 9}, 'need 10 participations or more'),
    ({'separation': 5, 'delta': 1e-6, 'bands': 6}, '`bands` must be at most 5'),
    ({**COHORT, 'delta': 0.01}, 'delta'),
    ({**COHORT, 'momentum': 1.0}, '`momentum` must be at least 0 and below 1, got 1.0.'),
    ({'separation': 5, 'delta': 1e-6, 'rounds': 10**20}, '`rounds` must be at most 100000 where'),
  ],
)
def test_patterns_that_cannot_be_are_refused(given, words):
  with pytest.raises(ConfigurationError, match=words):
    plan_correlated(**{'rounds': 200, 'target_epsilon': 4.0, **given})

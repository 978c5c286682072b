"""Cohorts: fixed size, no client twice, the same after a resume."""

import numpy as np
import pytest

from tff_privacy_agg import errors
from tff_privacy_agg.learning import UniformCohorts

IDS = [f'c{i}' for i in range(40)]


def test_no_client_is_twice_in_a_cohort_and_rounds_differ():
  cohorts = UniformCohorts(client_ids=IDS, size=10, seed=5)
  drawn = [cohorts.cohort(r) for r in range(50)]
  assert all(len(set(cohort)) == 10 for cohort in drawn)
  assert len({tuple(cohort) for cohort in drawn}) == 50


def test_a_cohort_is_a_function_of_seed_and_round():
  first = UniformCohorts(client_ids=IDS, size=10, seed=5)
  resumed = UniformCohorts(client_ids=IDS, size=10, seed=5)
  assert [first.cohort(r) for r in range(3, 6)] == [resumed.cohort(r) for r in range(3, 6)]
  assert first.cohort(3) != UniformCohorts(client_ids=IDS, size=10, seed=6).cohort(3)


def test_draws_are_uniform():
  cohorts = UniformCohorts(client_ids=IDS, size=10, seed=0)
  rounds = 2000
  counts = np.zeros(40)
  for r in range(rounds):
    for client in cohorts.cohort(r):
      counts[IDS.index(client)] += 1
  # Each count is binomial(2000, 1/4) with stddev 19.4; 5 of them: false alarm 2e-5 over 40.
  assert np.max(np.abs(counts - rounds / 4)) < 5 * np.sqrt(rounds * 0.25 * 0.75)


def test_duplicate_ids_are_refused():
  with pytest.raises(errors.ConfigurationError, match='must differ from one another'):
    UniformCohorts(client_ids=['a', 'b', 'a'], size=2)


def test_a_cohort_larger_than_the_population_is_refused():
  with pytest.raises(errors.ConfigurationError, match='at most the 40 clients there are, got 41'):
    UniformCohorts(client_ids=IDS, size=41)

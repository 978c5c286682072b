"""Cohorts: fixed size, no client twice, the same after a resume."""

import numpy as np
import pytest

from tff_privacy_agg import errors
from tff_privacy_agg.learning import PoissonCohorts, UniformCohorts

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


def test_a_seed_claims_nothing_and_secret_draws_claim_what_they_are():
  assert UniformCohorts(client_ids=IDS, size=10, seed=0).sampling.kind == 'none'
  secret = UniformCohorts(client_ids=IDS, size=10, seed=None)
  assert secret.sampling.kind == 'without_replacement'
  assert (secret.sampling.population, secret.sampling.cohort) == (40, 10)
  assert len({tuple(secret.cohort(1)) for _ in range(20)}) == 20  # equal ones: below 1e-6


def test_poisson_coins_are_independent_of_each_other_and_of_the_round():
  """Sizes are binomial(40, 0.4): chi-square of 2,000 draws below a false alarm of 1e-6."""
  cohorts = PoissonCohorts(client_ids=IDS, probability=0.4)
  assert (cohorts.sampling.kind, cohorts.sampling.rate) == ('poisson', 0.4)
  sizes = np.array([len(cohorts.cohort(1)) for _ in range(2000)])
  assert abs(sizes.mean() - 16) < 5 * np.sqrt(9.6 / 2000)
  assert sizes.var() / 9.6 == pytest.approx(1, abs=5 * np.sqrt(2 / 2000))
  assert set(cohorts.cohort(1, IDS[:20])) <= set(IDS[:20])


def test_cohorts_that_may_be_empty_are_refused():
  with pytest.raises(errors.ConfigurationError, match='rounds has none'):
    PoissonCohorts(client_ids=IDS, probability=0.1)

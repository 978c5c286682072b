"""Cohorts: fixed size, no client twice or too soon, the same after a resume."""

import dataclasses
import types

import numpy as np
import pytest

from tff_privacy_agg import errors
from tff_privacy_agg.learning import PoissonCohorts, SeparatedCohorts, UniformCohorts
from tff_privacy_agg.learning.preparation.checks import check_cohorts
from tff_privacy_agg.ledger.participation.counts import EligibleClients

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


@pytest.mark.parametrize('seed', [None, 7])
@pytest.mark.parametrize(('size', 'separation'), [(10, 4), (10, 2), (7, 5), (40, 1), (3, 3)])
def test_separated_clients_rest_and_take_part_equally_often(size, separation, seed):
  """Forty clients in 61 rounds, of which some cohorts fit the separation exactly."""
  cohorts = SeparatedCohorts(client_ids=IDS, size=size, separation=separation, seed=seed)
  drawn = [cohorts.cohort(r) for r in range(1, 62)]
  assert all(len(set(cohort)) == size for cohort in drawn)
  for first, cohort in enumerate(drawn):
    for later in drawn[first + 1 : first + separation]:
      assert not set(cohort) & set(later)
  taken = [sum(client in cohort for cohort in drawn) for client in IDS]
  assert max(taken) == cohorts.participation_cap(rounds=61) == -(-61 * size // 40)


def test_separated_draws_are_mixed_anew():
  """The same four groups in every epoch of exact cohorts; with room to spare, other ones."""
  cohorts = SeparatedCohorts(client_ids=IDS, size=10, separation=2, seed=3)
  first, second = ({frozenset(cohorts.cohort(4 * e + r)) for r in range(1, 5)} for e in range(2))
  assert not first & second
  assert cohorts.cohort(1) != SeparatedCohorts(
    client_ids=IDS, size=10, separation=2, seed=4
  ).cohort(1)


def test_a_separated_sampler_with_a_seed_resumes_where_it_was():
  whole = SeparatedCohorts(client_ids=IDS, size=9, separation=4, seed=5)
  drawn = [whole.cohort(r) for r in range(1, 12)]
  resumed = SeparatedCohorts(client_ids=IDS, size=9, separation=4, seed=5)
  assert resumed.cohort(9) == drawn[8]
  assert [resumed.cohort(r) for r in (8, 9, 10)] == drawn[7:10]  # rounds that run again


def test_a_separated_sampler_without_a_seed_resumes_with_the_ledger_alone():
  cohorts = SeparatedCohorts(client_ids=IDS, size=9, separation=4)
  with pytest.raises(errors.ConfigurationError, match='before round 5 is not known'):
    cohorts.cohort(5)
  with pytest.raises(errors.ConfigurationError, match='before round 5 is not known'):
    cohorts.cohort(5, EligibleClients(IDS[:12], [0] * 12, separation=3))
  rested = EligibleClients(IDS[:12], [1] * 3 + [0] * 9, separation=4)
  assert cohorts.cohort(5, rested) == IDS[3:12]
  with pytest.raises(errors.ConfigurationError, match=r'needs 9 clients; .* leave 8'):
    cohorts.cohort(6, EligibleClients(IDS[:8], [0] * 8, separation=4))


def test_clients_who_cannot_take_part_are_not_drawn():
  cohorts = SeparatedCohorts(client_ids=IDS, size=10, separation=2, seed=0)
  first = cohorts.cohort(1, IDS[:20])
  assert set(first) < set(IDS[:20])
  assert set(cohorts.cohort(2, IDS[:20])) == set(IDS[:20]) - set(first)


def test_too_few_clients_for_a_separation_are_refused():
  with pytest.raises(errors.ConfigurationError, match='need 42 clients; there are 40'):
    SeparatedCohorts(client_ids=IDS, size=14, separation=3)


def test_separated_cohorts_claim_no_amplification():
  assert not SeparatedCohorts(client_ids=IDS, size=10, separation=4).sampling.claims


def test_cohorts_that_do_not_keep_the_separation_of_the_noise_are_refused():
  facts = types.SimpleNamespace(population=40, separation=4, cap=5)
  given = {'clients': IDS, 'stacks': [], 'facts': facts}
  apart = SeparatedCohorts(client_ids=IDS, size=10, separation=4)
  check_cohorts(apart, rounds=20, **given)
  for cohorts in (UniformCohorts(client_ids=IDS, size=5), dataclasses.replace(apart, separation=3)):
    with pytest.raises(errors.ConfigurationError, match='at least 4 apart'):
      check_cohorts(cohorts, rounds=20, **given)
  with pytest.raises(errors.ConfigurationError, match='cap of 5 participations'):
    check_cohorts(apart, rounds=21, **given)

"""Evidence of how cohorts are drawn: fair where they are drawn as claimed, and faults are noticed."""

import itertools
import math

import numpy as np
import pytest
from ledger_stacks import facts, stack

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.participation.counts import ParticipationCounts
from tff_privacy_agg.ledger.reader import verify
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.verification.sampling_evidence import FALSE_ALARM, SamplingEvidence
from tff_privacy_agg.ledger.writer import PrivacyLedger

NOT_MET = 'drawn anew and independently'


def fixed(population, cohort):
  return Sampling(kind='without_replacement', population=population, cohort=cohort)


def coins(population, rate):
  return Sampling(kind='poisson', population=population, rate=rate)


class Training:
  """Cohorts of numbered clients, and the evidence that they give."""

  def __init__(self, claim):
    self.evidence = SamplingEvidence(claim)
    self.seen = np.zeros(claim.population, int)

  def run(self, cohorts):
    for cohort in cohorts:
      self.add(cohort)
    return self

  def add(self, cohort):
    self.evidence.add(cohort, self.seen[cohort])
    self.seen[cohort] += 1

  def factors(self, cohort):
    """What each wager would be multiplied by."""
    cohort = np.asarray(cohort, int)
    after = self.evidence._after(cohort, self.seen[cohort])
    return {name: math.exp(after[name] - self.evidence._wealth[name]) for name in after}

  def highest(self):
    return self.evidence._highest


def alike(population, size, rounds, rng):
  return [rng.choice(population, size, replace=False) for _ in range(rounds)]


def from_half(population, size, rounds, rng):
  return alike(population // 2, size, rounds, rng)


def in_couples(population, size, rounds, rng):
  couples = alike(population // 2, size // 2, rounds, rng)
  return [np.concatenate([2 * some, 2 * some + 1]) for some in couples]


def in_epochs(population, size, rounds, rng):
  epochs = -(-rounds * size // population)
  order = [rng.permutation(population)[: population // size * size] for _ in range(epochs + 1)]
  return list(np.concatenate(order).reshape(-1, size)[:rounds])


def in_fixed_groups(population, size, rounds, rng):
  return [size * group + np.arange(size) for group in rng.integers(population // size, size=rounds)]


def without_a_tenth(population, size, rounds, rng):
  return alike(population * 9 // 10, size, rounds, rng)


@pytest.mark.parametrize('seed', range(8))
def test_no_wager_is_expected_to_grow(seed):
  """All cohorts of six clients, after seven rounds of any kind: the mean factor, exactly."""
  rng = np.random.default_rng(seed)
  draws = (alike, in_couples, in_epochs)[seed % 3]
  grown = Training(fixed(6, 2)).run(draws(6, 2, 7, rng))
  factors = [grown.factors(cohort) for cohort in itertools.combinations(range(6), 2)]
  means = {name: np.mean([one[name] for one in factors]) for name in factors[0]}
  assert means['again'] <= 1 + 1e-12
  assert means['spread'] <= 1 + 1e-12
  assert means['couples'] == pytest.approx(1)
  assert means['followers'] == pytest.approx(1)
  if draws is not in_epochs:  # all clients alike: nothing is staked on who they are
    assert max(means['again'], means['spread']) > 0.5

  rate = 0.4
  grown = Training(coins(6, rate)).run(draws(6, 2, 7, rng))
  sums = dict.fromkeys(grown.highest(), 0.0)
  for size in range(7):
    for cohort in itertools.combinations(range(6), size):
      chance = rate**size * (1 - rate) ** (6 - size)
      for name, factor in grown.factors(cohort).items():
        sums[name] += chance * factor
  assert max(sums['again'], sums['spread']) <= 1 + 1e-12
  for name in ('couples', 'followers', 'people'):
    assert sums[name] == pytest.approx(1)


@pytest.mark.parametrize(
  'trainings', [60, pytest.param(10_000, marks=pytest.mark.slow)], ids=['some', 'many']
)
@pytest.mark.parametrize('claim', [fixed(40, 6), coins(40, 0.15)], ids=['fixed', 'coins'])
def test_independent_draws_are_believed(claim, trainings):
  """No training of 40 rounds is refused, and none is seldom near it.

  A refusal has probability 1e-6 a training. A wager reaches 10 in at most a tenth of them; that the
  share of `trainings` is above it by four standard errors has probability below 1e-4.
  """
  rng = np.random.default_rng(trainings)
  reached = dict.fromkeys(SamplingEvidence(claim)._wealth, 0)
  for _ in range(trainings):
    if claim.cohort:
      cohorts = alike(40, claim.cohort, 40, rng)
    else:
      cohorts = [np.flatnonzero(rng.random(40) < claim.rate) for _ in range(40)]
    training = Training(claim).run(cohorts)
    training.evidence.check()
    for name, highest in training.highest().items():
      reached[name] += highest > math.log(10)
  for name, times in reached.items():
    assert times / trainings <= 0.1 + 4 * math.sqrt(0.1 * 0.9 / trainings), name


@pytest.mark.parametrize(
  ('fault', 'population', 'size', 'rounds', 'found'),
  [
    # As docs/ledger.md says: after 300 rounds up to these populations.
    (from_half, 450 * 20**2, 20, 300, 'come again too often'),
    (from_half, 400, 180, 300, 'come again too often'),
    (in_couples, 2200 * 20**2, 20, 300, 'come together too often'),
    (in_couples, 100, 10, 300, 'come together too often'),
    (in_couples, 10_000, 300, 300, 'come together too often'),
    (in_epochs, 2000, 100, 6, 'passed over too often'),
    (in_fixed_groups, 2000, 100, 20, 'too often'),
    (without_a_tenth, 2000, 100, 300, 'come again too often'),
  ],
)
def test_faults_are_noticed(fault, population, size, rounds, found):
  claim = fixed(population, size)
  rng = np.random.default_rng(7)
  with pytest.raises(LedgerError, match=found):
    Training(claim).run(fault(population, size, rounds, rng)).evidence.check()
  Training(claim).run(alike(population, size, rounds, rng)).evidence.check()


@pytest.mark.slow
@pytest.mark.parametrize('fault', [from_half, in_couples])
@pytest.mark.parametrize(('size', 'times'), [(4, 50), (20, 50), (100, 20)])
def test_faults_are_noticed_at_the_limits_nearly_always(fault, size, times):
  """As docs/ledger.md says: in 19 of 20 trainings."""
  population = (450 if fault is from_half else 2200) * size**2
  rng = np.random.default_rng(size)
  noticed = 0
  for _ in range(times):
    training = Training(fixed(population, size)).run(fault(population, size, 300, rng))
    noticed += max(training.highest().values()) >= math.log(4 / FALSE_ALARM)
  assert noticed >= 0.9 * times


def test_couples_that_were_separated_once_are_noticed_by_their_last_rounds():
  """In the first rounds nobody has a partner: no two clients were together in every round."""
  rng = np.random.default_rng(3)
  training = Training(fixed(2000, 50)).run(alike(2000, 50, 100, rng))
  training.run(in_couples(2000, 50, 200, rng))
  with pytest.raises(LedgerError, match='came together last time'):
    training.evidence.check()


def test_coins_of_another_rate_are_noticed():
  rng = np.random.default_rng(5)
  for rate in (0.018, 0.022):
    cohorts = [np.flatnonzero(rng.random(2000) < rate) for _ in range(200)]
    with pytest.raises(LedgerError, match='more clients, or fewer, than the rate gives'):
      Training(coins(2000, 0.02)).run(cohorts).evidence.check()


def test_more_clients_than_the_claim_draws_from_are_noticed():
  training = Training(fixed(4, 2))
  training.seen = np.zeros(8, int)
  training.run([np.array(cohort) for cohort in ([0, 1], [2, 3], [4, 5], [0, 6])])
  with pytest.raises(LedgerError, match='took part'):
    training.evidence.check()


def test_verify_notices_what_the_writer_was_kept_from_seeing(tmp_path, monkeypatch):
  """A fault early in the training, too: the wealth was there once."""
  path = tmp_path / 'ledger.jsonl'
  claim = fixed(400, 90)
  given = LedgerFacts(
    stack=stack('discrete_gaussian'),
    sampling=claim,
    delta=1e-5,
    population=400,
    minimum_clients=80,
    task=facts().task,
  )
  rng = np.random.default_rng(1)
  same = np.arange(90)
  cohorts = [same, same, same, *alike(400, 90, 12, rng)]
  with monkeypatch.context() as blind, PrivacyLedger(path, given) as ledger:
    blind.setattr(ParticipationCounts, 'check_practice', lambda *arguments: None)
    for number, cohort in enumerate(cohorts):
      ledger.charge(number, cohort=[f'client {one}' for one in cohort], drawn=claim)
  found = verify(path)
  assert not found.ok
  assert NOT_MET in found.problems[0]
  with PrivacyLedger(path) as ledger, pytest.raises(LedgerError, match=NOT_MET):
    ledger.charge(20, cohort=[f'client {one}' for one in range(90)], drawn=claim)

"""What practice must not pass: cohorts, populations, top-ups, the sensitivity of open rounds."""

import itertools
import random

import pytest
from ledger_stacks import facts

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger, Sampling

COHORT = [f'client {number}' for number in range(10)]
paths = itertools.count()


def claimed(population):
  """Facts of cohorts of 100, drawn in secret from a population."""
  claim = Sampling(kind='without_replacement', population=population, cohort=100)
  return facts(z=2.0, population=population, delta=1e-6, minimum_clients=100, sampling=claim), claim


def charged(path, population, rounds, settle, budget=None):
  found, claim = claimed(population)
  names = [f'client {number}' for number in range(population)]
  with PrivacyLedger(path, found, budget=budget) as ledger:
    for number in range(rounds):
      start = 37 * number % (population - 99)
      charge = ledger.charge(number, cohort=names[start : start + 100], drawn=claim)
      if settle:
        ledger.settle(charge, survivors=100, counted_by='runtime')
    return ledger.epsilon('release'), found


@pytest.mark.parametrize('population', [100, 200, 1000, 10_000])
def test_open_rounds_cost_at_least_what_settled_ones_do(tmp_path, population):
  waiting, found = charged(tmp_path / 'open.jsonl', population, 1, settle=False)
  settled, _ = charged(tmp_path / 'settled.jsonl', population, 1, settle=True)
  assert waiting >= settled * (1 - 1e-9)
  curve = found.price.curve(100, adjacency='replace_one')
  bound, _ = accounting.epsilon(curve, 1e-6)
  assert waiting >= bound * (1 - 1e-6)
  # The relation in which a client is only zeroed costs half the sensitivity: not enough.
  zeroed, _ = accounting.epsilon(found.price.curve(100), 1e-6)
  assert waiting > 1.3 * zeroed


def test_a_budget_of_the_release_view_is_never_passed(tmp_path):
  budget = Budget(epsilon=12.0, delta=1e-6, view='release')
  found, claim = claimed(200)
  names, chance = [f'client {number}' for number in range(200)], random.Random(1)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', found, budget=budget) as ledger:
    for number in range(50):
      try:
        charge = ledger.charge(number, cohort=chance.sample(names, 100), drawn=claim)
      except BudgetExceededError:
        break
      assert ledger.epsilon('release') <= 12.0
      ledger.settle(charge, survivors=100, counted_by='runtime')
      assert ledger.epsilon('release') <= 12.0
    assert 1 <= number < 49


def test_more_people_than_the_population_are_refused(tmp_path):
  found = facts(population=15, delta=1e-3, minimum_clients=None)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', found) as ledger:
    ledger.settle(ledger.charge(1, cohort=COHORT), survivors=10, counted_by='runtime')
    with pytest.raises(LedgerError, match='population of 15 clients; with this cohort 20'):
      ledger.charge(2, cohort=[f'other {number}' for number in range(10)])


def test_a_delta_that_allows_to_publish_a_client_is_refused(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts()) as ledger:
    ledger.charge(1)
    with pytest.raises(ConfigurationError, match='below 1/population'):
      ledger.spent('server', 0.1)


def test_only_what_the_cohort_lacked_is_topped_up(tmp_path):
  found = facts(minimum_clients=None)
  stack = {**found.stack, 'top_up': 100}
  found = LedgerFacts(stack=stack, delta=5e-4, population=200, minimum_clients=None)
  ends = []
  for top_up in (20, 10**6):
    with PrivacyLedger(tmp_path / f'ledger{next(paths)}.jsonl', found) as ledger:
      charge = ledger.charge(1)
      try:
        ledger.settle(charge, survivors=80, counted_by='runtime', top_up=top_up)
      except LedgerError:
        assert top_up == 10**6
      ends.append(ledger.epsilon('release'))
  assert ends[1] >= ends[0] * (1 - 1e-9)

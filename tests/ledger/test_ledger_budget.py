"""Budgets that cannot be overrun, and caps on participation."""

import functools
import math

import pytest
from hypothesis import given, settings, strategies as st
from ledger_stacks import facts

from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError, LedgerError
from tff_privacy_agg.ledger.participation.register import register_path
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

CLIENTS = [f'client {number}' for number in range(12)]


def crowd(names):
  """25 clients for each name, as no round has more survivors than clients."""
  return [f'{name} {number}' for name in names for number in range(25)]


def run_out(ledger, survivors):
  """Runs rounds until the budget refuses one; returns how many ran."""
  for number in range(10_000):
    try:
      charge = ledger.charge(number)
    except BudgetExceededError:
      return number
    ledger.settle(charge, survivors=survivors(number), counted_by='runtime')
  raise AssertionError('the budget never refused a round')


@settings(max_examples=10, deadline=None)
@given(st.floats(1.5, 12.0), st.lists(st.integers(80, 100), min_size=1, max_size=5))
def test_the_budget_is_never_passed(tmp_path_factory, epsilon, survivors):
  path = tmp_path_factory.mktemp('budget') / 'ledger.jsonl'
  budget = Budget(epsilon=epsilon, delta=5e-4)
  with PrivacyLedger(path, facts(), budget=budget) as ledger:
    promised = ledger.remaining()
    ran = run_out(ledger, lambda number: survivors[number % len(survivors)])
    assert ran >= promised
    assert ledger.epsilon('server') <= epsilon
    assert ledger.remaining() == 0
    assert ledger.would_exceed()
    lines = path.read_bytes()
    with pytest.raises(BudgetExceededError, match='past the budget'):
      ledger.charge(ran)
    assert path.read_bytes() == lines
  again = PrivacyLedger(path, facts(), budget=budget)  # restarting does not help
  with again as ledger, pytest.raises(BudgetExceededError):
    ledger.charge(ran)


def test_rounds_at_their_worst_run_exactly_as_often_as_is_promised(tmp_path):
  with PrivacyLedger(
    tmp_path / 'l.jsonl', facts(), budget=Budget(epsilon=8.0, delta=5e-4)
  ) as ledger:
    promised = ledger.remaining()
    assert run_out(ledger, lambda number: 80) == promised > 5


def test_the_limits_are_fixed_before_the_first_round(tmp_path):
  budget = Budget(epsilon=8.0, delta=5e-4)
  with PrivacyLedger(tmp_path / 'l.jsonl', facts(), budget=budget) as ledger:
    limits = ledger.state.filter.as_dict()
    assert limits['account'] == 'gaussian'
    run_out(ledger, lambda number: 100)
    assert ledger.state.filter.as_dict() == limits == ledger.header['limits']
    assert ledger.state.fix(budget) == ledger.state.filter
    assert all(ledger.state.cost('server') <= ledger.state.filter.limit)


def test_any_other_budget_can_be_asked_about(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', facts()) as ledger:
    with pytest.raises(LedgerError, match='has no budget'):
      ledger.remaining()
    small, large = Budget(epsilon=1.0, delta=5e-4), Budget(epsilon=9.0, delta=5e-4)
    assert ledger.would_exceed(small)
    assert not ledger.would_exceed(large)
    before = ledger.remaining(large)
    ledger.charge(1)
    assert ledger.remaining(large) == before - 1


def test_an_empty_view_has_no_budget_and_the_release_view_has_one(tmp_path):
  server = Budget(epsilon=8.0, delta=5e-4)
  ledger = PrivacyLedger(tmp_path / 'server.jsonl', facts('gaussian'), budget=server)
  with ledger, pytest.raises(BudgetExceededError, match='server view'):
    ledger.charge(1)
  release = Budget(epsilon=8.0, delta=5e-4, view='release')
  with PrivacyLedger(tmp_path / 'release.jsonl', facts('gaussian'), budget=release) as ledger:
    assert run_out(ledger, lambda number: 100) > 5
    assert ledger.epsilon('release') <= 8.0
    assert ledger.epsilon('server') == math.inf


def test_a_budget_needs_a_threshold_that_the_runtime_keeps(tmp_path):
  budget = Budget(epsilon=8.0, delta=5e-4)
  given_facts = facts(minimum_clients=None)
  ledger = PrivacyLedger(tmp_path / 'l.jsonl', given_facts, budget=budget)
  with ledger, pytest.raises(BudgetExceededError, match='Without `minimum_clients`'):
    ledger.charge(1)


@pytest.mark.parametrize(
  'wrong', [{'epsilon': 0.0}, {'epsilon': math.inf}, {'delta': 1.0}, {'view': 'both'}]
)
def test_budgets_out_of_range_are_refused(wrong):
  with pytest.raises(ConfigurationError):
    Budget(**{'epsilon': 1.0, 'delta': 1e-5, **wrong})


def test_a_client_twice_in_a_cohort_is_refused(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', facts()) as ledger:
    with pytest.raises(LedgerError, match='repeats 1'):
      ledger.charge(1, cohort=['a', 'b', 'a'])
    assert ledger.spent('server').rounds == 0


def test_the_cap_is_enforced_also_after_a_restart(tmp_path):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, facts(participation_cap=2, population=400)) as ledger:
    with pytest.raises(ConfigurationError, match='without its cohort'):
      ledger.charge(0)
    ledger.settle(ledger.charge(0, cohort=crowd(CLIENTS[:4])), survivors=100, counted_by='runtime')
    ledger.charge(1, cohort=crowd(CLIENTS[:4]))  # crashes: it counts
  with PrivacyLedger(path, facts(participation_cap=2, population=400)) as ledger:
    assert ledger.eligible(crowd(CLIENTS)) == crowd(CLIENTS[4:])
    with pytest.raises(LedgerError, match='1 of this cohort of 3 already did'):
      ledger.charge(2, cohort=[*crowd(CLIENTS[:1])[:1], *crowd(CLIENTS[5:6])[:2]])
    before = ledger.spent('server')
    ledger.settle(ledger.charge(2, cohort=crowd(CLIENTS[4:8])), survivors=100, counted_by='runtime')
    assert ledger.spent('server').rounds == before.rounds + 1
    assert ledger.epsilon('server') == pytest.approx(before.epsilon)
  assert verify(path).ok


def test_under_a_cap_the_dearest_rounds_of_one_client_are_paid(tmp_path):
  with PrivacyLedger(tmp_path / 'l.jsonl', facts(participation_cap=2, population=400)) as ledger:
    survivors = [100, 81, 95, 88, 100, 99]
    for number, count in enumerate(survivors):
      cohort = crowd(CLIENTS[4 * (number % 3) : 4 * (number % 3) + 4])
      ledger.settle(ledger.charge(number, cohort=cohort), survivors=count, counted_by='runtime')
    costs = ledger.state.costs
    epsilon = functools.partial(costs.account.epsilon, delta=5e-4, distance=0.0)
    dearest = costs.row(81) + costs.row(88)
    assert ledger.epsilon('server') == pytest.approx(epsilon(dearest)[0])
    everything = sum(costs.row(count) for count in survivors)
    assert ledger.epsilon('server') < epsilon(everything)[0]
    assert ledger.state.exposures == 2


def test_a_cap_lets_a_budget_last_for_ever(tmp_path):
  given_facts = facts(participation_cap=2, population=3000, delta=1e-4)
  budget = Budget(epsilon=4.0, delta=1e-4)
  with PrivacyLedger(tmp_path / 'l.jsonl', given_facts, budget=budget) as ledger:
    for number in range(60):
      cohort = [f'{number // 2} {name}' for name in range(80)]
      ledger.settle(ledger.charge(number, cohort=cohort), survivors=80, counted_by='runtime')
    assert ledger.epsilon('server') <= 4.0


def test_a_charge_that_was_cut_off_may_have_been_anybody_s(tmp_path):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, facts(participation_cap=3, population=400)) as ledger:
    ledger.settle(ledger.charge(0, cohort=crowd(CLIENTS[:4])), survivors=100, counted_by='runtime')
    ledger.settle(ledger.charge(1, cohort=crowd(CLIENTS[4:8])), survivors=100, counted_by='runtime')
    before = ledger.epsilon('server')
  with path.open('ab') as file:
    file.write(b'{"event":"cha')
  assert LedgerRecord.read(path).state.exposures == 2
  with PrivacyLedger(path, facts(participation_cap=3, population=400)) as ledger:
    assert ledger.epsilon('server') > before


def test_identities_stay_out_of_the_ledger_and_hashes_are_salted(tmp_path):
  hashes = []
  for name in ('one', 'two'):
    path = tmp_path / f'{name}.jsonl'
    with PrivacyLedger(path, facts()) as ledger:
      ledger.charge(0, cohort=CLIENTS[:2])
    register = register_path(path)
    for file in (path, register):
      said = file.read_bytes().replace(b'"unit":"client"', b'').replace(b'"minimum_clients"', b'')
      assert b'client' not in said
    assert register.stat().st_mode & 0o077 == 0
    hashes.append(register.read_bytes().splitlines()[1])
  assert hashes[0] != hashes[1]


def test_a_register_that_lacks_rounds_is_refused(tmp_path):
  path = tmp_path / 'l.jsonl'
  with PrivacyLedger(path, facts(participation_cap=3)) as ledger:
    for number in range(3):
      ledger.charge(number, cohort=CLIENTS[:4])
  register = register_path(path)
  lines = register.read_bytes().splitlines(keepends=True)
  register.write_bytes(b''.join(lines[:2] + lines[3:]))
  with pytest.raises(LedgerError, match='1 of them are missing'):
    PrivacyLedger(path)
  assert 'lacks the participants of 1 round' in verify(path).problems[0]
  register.write_bytes(lines[0] + lines[1].replace(b'a', b'b') + b''.join(lines[2:]))
  with pytest.raises(LedgerError, match='was changed'):
    PrivacyLedger(path)
  # A cohort that was written though its charge was not, and a line that was cut off, do no harm.
  register.write_bytes(b''.join([*lines, lines[1], lines[2][:20]]))
  with PrivacyLedger(path) as ledger:
    with pytest.raises(LedgerError, match='at most 3 rounds'):
      ledger.charge(3, cohort=CLIENTS[:1])
    ledger.charge(3, cohort=CLIENTS[5:6])
  assert verify(path).ok

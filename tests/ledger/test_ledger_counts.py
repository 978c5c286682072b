"""Who counted the survivors of a round decides whether the count lowers its cost."""

import dataclasses
import json
import math

import jsonschema
import pytest
from hypothesis import given, settings, strategies as st
from ledger_forge import forge
from ledger_stacks import facts, stack

from tff_privacy_agg import accounting
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.replay import LedgerState
from tff_privacy_agg.ledger.writer import PrivacyLedger

TEN = facts(z=1.0, minimum=10, minimum_clients=10)  # of at most 100


def charged(path, given_facts=TEN, **charge):
  ledger = PrivacyLedger(path, given_facts)
  return ledger, ledger.charge(1, **charge)


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
@pytest.mark.parametrize('cap', [None, 4])
def test_a_client_that_adds_90_to_the_count_of_10_lowers_nothing(tmp_path, mechanism, cap):
  path = tmp_path / 'ledger.jsonl'
  given_facts = facts(mechanism, z=1.0, minimum=10, minimum_clients=10, participation_cap=cap)
  cohort = [f'client {number}' for number in range(10)]
  ledger, charge = charged(path, given_facts, planned_survivors=10, cohort=cohort)
  with ledger:
    before = {view: ledger.epsilon(view) for view in ('server', 'release')}
    line = ledger.settle(charge, survivors=100, honest=100)  # by default, clients counted
    assert {view: ledger.epsilon(view) for view in before} == before
    assert (line['survivors_counted_by'], line['survivors'], line['honest']) == ('clients', 10, 10)
    assert ledger.spent('server').unsettled == 1
    assert not ledger.state.open
    assert '1 at the cost charged, as clients counted' in ' '.join(ledger.statement().split())
    with pytest.raises(LedgerError, match='not open'):
      ledger.settle(charge, survivors=10)
  assert LedgerRecord.read(path).epsilon('server') == before['server']
  assert verify(path).ok
  for text in path.read_bytes().splitlines():
    jsonschema.validate(json.loads(text), ledger_lines.schema())


@pytest.mark.parametrize('asked', [{'planned_survivors': 10}, {'cohort': 'abcdefghij'}])
def test_the_runtime_itself_counts_no_more_than_were_asked(tmp_path, asked):
  ledger, charge = charged(tmp_path / 'ledger.jsonl', **asked)
  with ledger:
    before = ledger.epsilon('server')
    with pytest.raises(LedgerError, match=r'at most 10 clients.*stays charged'):
      ledger.settle(charge, survivors=11, counted_by='runtime')
    assert ledger.epsilon('server') == before
    ledger.settle(charge, survivors=10, counted_by='runtime')


def test_a_cohort_that_is_smaller_than_the_plan_is_refused(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', TEN) as ledger:
    with pytest.raises(ConfigurationError, match='at most the 3 clients'):
      ledger.charge(1, planned_survivors=4, cohort='abc')
    assert ledger.state.rounds == 0


def test_who_counted_is_one_of_two(tmp_path):
  ledger, charge = charged(tmp_path / 'ledger.jsonl')
  with ledger, pytest.raises(ConfigurationError, match='counted_by'):
    ledger.settle(charge, survivors=10, counted_by='someone')


def test_a_count_of_clients_below_the_threshold_raises_the_cost(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  ledger, charge = charged(path, planned_survivors=20)
  with ledger:
    before = ledger.epsilon('server')
    with pytest.raises(LedgerError, match='assumes at least 10'):
      ledger.settle(charge, survivors=4)
    # Nobody knows that there were as many as 4.
    hopeless = PrivacyLedger(tmp_path / 'other.jsonl', facts(z=1.0, minimum=10, minimum_clients=1))
    with hopeless:
      hopeless.charge(1)
      assert ledger.epsilon('server') == hopeless.epsilon('server') > before
  assert verify(path).ok


def test_fewer_honest_ones_than_were_charged_raise_the_cost(tmp_path):
  ledger, charge = charged(tmp_path / 'ledger.jsonl')
  with ledger:
    before = ledger.epsilon('server')
    ledger.settle(charge, survivors=50, honest=4)
    assert ledger.epsilon('server') > before


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
def test_fewer_honest_ones_of_the_runtimes_count_break_the_threshold(tmp_path, mechanism):
  """The round passes the budget by itself; those that are open may not count on more than it."""
  given = facts(mechanism, minimum=80, minimum_clients=80)
  budget = accounting.Budget(epsilon=4.0, delta=given.delta)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', given, budget=budget) as ledger:
    first, second = ledger.charge(1), ledger.charge(2)
    with pytest.raises(LedgerError, match='Round 1 had 1 honest client, but this ledger counts'):
      ledger.settle(first, survivors=100, honest=1, counted_by='runtime')
    assert ledger.state.threshold_broken
    assert ledger.state.honest_at_worst(ledger.state.kind_of(second)) == 1
    assert ledger.epsilon('server') > budget.epsilon
  assert LedgerRecord.read(tmp_path / 'ledger.jsonl').state.threshold_broken
  assert verify(tmp_path / 'ledger.jsonl').ok


def test_a_top_up_to_a_count_of_clients_is_none(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  topped = LedgerFacts(
    stack={**stack(minimum=80), 'top_up': 120}, delta=1e-5, population=2000, minimum_clients=80
  )
  ledger, charge = charged(path, topped)
  with ledger:
    promised = ledger.epsilon('release')
    with pytest.raises(LedgerError, match='topped up to 120'):
      ledger.settle(charge, survivors=100, top_up=20)
    assert ledger.epsilon('release') == pytest.approx(ledger.epsilon('server'))
    assert ledger.epsilon('release') > promised
  assert verify(path).ok


@pytest.mark.parametrize(
  ('seq', 'changes', 'named'),
  [
    (2, {'honest': 11}, 'at most 10'),
    (2, {'survivors': 11}, 'round of at most 10'),
    (
      2,
      {'survivors_counted_by': 'runtime', 'survivors': 100, 'honest': 100},
      'round of at most 10',
    ),
    (2, {'survivors_counted_by': 'nobody'}, 'nobody'),
    (2, {'survivors_counted_by': None}, 'survivors_counted_by'),
  ],
)
def test_replaying_keeps_the_rule(tmp_path, seq, changes, named):
  path = tmp_path / 'ledger.jsonl'
  ledger, charge = charged(path, planned_survivors=10)
  with ledger:
    ledger.settle(charge, survivors=10)

  def spoil(record):
    if record['seq'] == seq:
      record.update(changes)

  forge(path, spoil)
  assert not verify(path).ok
  with pytest.raises(LedgerError, match=named):
    LedgerRecord.read(path)


@pytest.mark.parametrize('missing', ['survivors_counted_by', 'most_survivors'])
def test_a_new_ledger_says_who_counted_and_an_old_one_need_not(missing):
  charge = {'event': 'charge', 'seq': 1, 'round': 1, 'planned_survivors': 10}
  charge |= {'participants': None, 'most_participations': None, 'most_survivors': 10}
  settle = {'event': 'settle', 'seq': 2, 'of': 1, 'survivors': 10, 'honest': 10, 'updated': True}
  settle['survivors_counted_by'] = 'runtime'
  for line in (charge, settle):
    line.pop(missing, None)
  old, new = (
    LedgerState({'event': 'header', 'schema': schema, 'facts': TEN.as_dict()}) for schema in (2, 3)
  )
  for line in (charge, settle):
    old.apply(line)
  assert old.settled[0].counted_by == 'runtime'
  with pytest.raises(LedgerError, match=missing):
    [new.apply(line) for line in (charge, settle)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_settlement_by_clients_is_below_its_charge(tmp_path_factory, data):
  narrow = data.draw(st.booleans())
  path = tmp_path_factory.mktemp('counts') / 'ledger.jsonl'
  given_facts = TEN
  if narrow:  # more shares cost more
    bound, l1 = accounting.norm_bounds(1.0, 10**8, 0.0)
    design = TEN.stack['integer_design'] | {'dimension': 10**8, 'scaled_norm': 1.0, 'beta': 0.0}
    design |= {'l2_bound': bound, 'l1_bound': l1, 'local_variance': 1.0}
    design['noise_multiplier'] = math.sqrt(10) / bound * (1 - 1e-12)
    wide = {**stack(z=1.0, minimum=10), 'integer_design': design}
    wide['noise_multiplier'] = price_of(wide).noise_multiplier(10)
    given_facts = dataclasses.replace(TEN, stack=wide)
  with PrivacyLedger(path, given_facts) as ledger:
    for number in range(data.draw(st.integers(1, 3))):
      charge = ledger.charge(number)
      before = [ledger.epsilon(view) for view in ('server', 'release')]
      honest = data.draw(st.one_of(st.none(), st.integers(1, 100)))
      try:
        ledger.settle(charge, survivors=data.draw(st.integers(1, 200)), honest=honest)
      except LedgerError:
        assert ledger.state.threshold_broken
      assert [ledger.epsilon(view) for view in ('server', 'release')] >= before

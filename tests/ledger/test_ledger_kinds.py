"""Rounds of one ledger with noise, size and threshold of their own: added, budgeted, read back."""

import dataclasses
import json

import jsonschema
import numpy as np
import pytest
from ledger_forge import forge
from ledger_stacks import facts, stack

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.errors import BudgetExceededError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord, PrivacyLedger, Sampling, line_format, verify
from tff_privacy_agg.ledger.line_reader import LineReader

DELTA = 5e-4
FIRST = facts()
# Other noise and cohort; another threshold; less noise and fewer survivors at worst.
OTHERS = [
  dataclasses.replace(FIRST, stack=stack(clients=60, z=4.0), minimum_clients=60, task='b'),
  dataclasses.replace(FIRST, minimum_clients=100, task='c'),
  dataclasses.replace(FIRST, stack=stack(z=2.0), minimum_clients=40, task='d'),
]


def directly(rounds, delta=DELTA):
  """Epsilon of rounds, each (facts, honest), by the accountant alone: no ledger."""
  account = accounting.GaussianAccount()
  total = sum(account.row(one.price, honest) for one, honest in rounds)
  return account.epsilon(total, delta, 0.0)[0]


def test_settled_rounds_of_several_kinds_cost_the_sum_of_their_curves(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  rounds = [(FIRST, 90), (OTHERS[0], 60), (OTHERS[2], 100), (OTHERS[0], 60), (OTHERS[1], 100)]
  with PrivacyLedger(path, FIRST) as ledger:
    for number, (one, survivors) in enumerate(rounds):
      ledger.settle(ledger.charge(number, facts=one), survivors=survivors, counted_by='runtime')
      expected = directly(rounds[: number + 1])
      assert ledger.epsilon('server') == pytest.approx(expected, rel=1e-6)
  record = LedgerRecord.read(path)
  assert record.epsilon('server') == pytest.approx(directly(rounds), rel=1e-6)
  assert record.epsilon('release') == record.epsilon('server')
  assert verify(path).ok
  # The faulty way: all rounds at the cost of the first.
  assert abs(record.epsilon('server') / directly([(FIRST, 90)] * 5) - 1) > 0.01
  events = [line['event'] for line in LineReader(path)]
  assert events.count('facts') == 3  # one for each kind, not for each round
  multipliers = [one.noise_multiplier for one in record.state.settled]
  assert multipliers == [one.price.noise_multiplier(honest) for one, honest in rounds]


def test_open_rounds_count_at_the_worst_of_their_own_kind(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', FIRST) as ledger:
    for number, one in enumerate([FIRST, *OTHERS]):
      ledger.charge(number, facts=one)
    expected = directly([(FIRST, 80), (OTHERS[0], 60), (OTHERS[1], 100), (OTHERS[2], 40)])
    assert ledger.epsilon('server') == pytest.approx(expected, rel=1e-6)


def test_a_line_that_was_cut_off_counts_as_the_dearest_kind(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, FIRST) as ledger:
    for number, one in enumerate([FIRST, OTHERS[0], OTHERS[2]]):
      ledger.settle(
        ledger.charge(number, facts=one), survivors=80 if one is FIRST else 60, counted_by='runtime'
      )
    known = ledger.epsilon('server')
    ledger.charge(3, facts=OTHERS[0])
    charged = ledger.epsilon('server')
  path.write_bytes(path.read_bytes()[:-20])
  settled = [(FIRST, 80), (OTHERS[0], 60), (OTHERS[2], 60)]
  torn = LedgerRecord.read(path).epsilon('server')
  assert torn == pytest.approx(directly([*settled, (OTHERS[2], 40)]), rel=1e-3)
  assert torn > charged > known
  with PrivacyLedger(path) as ledger:
    assert ledger.epsilon('server') == pytest.approx(torn)
  assert verify(path).ok


def test_what_was_cut_off_is_of_no_kind_that_came_later_and_the_budget_holds(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  cheap = dataclasses.replace(FIRST, stack=stack(z=8.0), task='cheap')
  target = directly([(cheap, 80), (cheap, 80), (OTHERS[2], 40)]) * 1.02
  with PrivacyLedger(path, cheap, budget=Budget(epsilon=target, delta=DELTA)) as ledger:
    ledger.charge(0)
    ledger.charge(1)
  path.write_bytes(path.read_bytes()[:-20])
  with PrivacyLedger(path) as ledger:
    ledger.charge(2, facts=OTHERS[2])
    spent = ledger.epsilon('server')
  expected = directly([(cheap, 80), (cheap, 80), (OTHERS[2], 40)])
  assert spent == pytest.approx(expected, rel=1e-6)
  assert spent <= target
  assert LedgerRecord.read(path).epsilon('server') == spent
  assert verify(path).ok


def test_facts_that_were_cut_off_cost_nothing_as_no_charge_followed(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, FIRST) as ledger:
    ledger.settle(ledger.charge(0), survivors=80, counted_by='runtime')
    known = ledger.epsilon('server')
    size, head = path.stat().st_size, line_format.head_path(path).read_bytes()
    ledger.charge(1, facts=OTHERS[0])
  path.write_bytes(path.read_bytes()[: size + 200])
  line_format.head_path(path).write_bytes(head)
  assert LedgerRecord.read(path).epsilon('server') == known
  with PrivacyLedger(path) as ledger:  # and the ledger goes on
    ledger.charge(1, facts=OTHERS[0])
    assert ledger.epsilon('server') > known
  assert verify(path).ok


def test_the_budget_judges_a_round_by_its_own_cost_and_refuses_without_a_trace(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  target = directly([(FIRST, 80), (FIRST, 80)]) * 1.02
  with PrivacyLedger(path, FIRST, budget=Budget(epsilon=target, delta=DELTA)) as ledger:
    ledger.settle(ledger.charge(0), survivors=80, counted_by='runtime')
    before = path.read_bytes()
    with pytest.raises(BudgetExceededError):
      ledger.charge(1, facts=OTHERS[2])  # with 40 survivors at worst
    assert path.read_bytes() == before
    cheap = dataclasses.replace(FIRST, stack=stack(z=8.0), task='cheap')
    ledger.settle(ledger.charge(1, facts=cheap), survivors=80, counted_by='runtime')
    with pytest.raises(BudgetExceededError):
      ledger.charge(2)  # the first kind no longer fits next to the cheap one
    while True:
      try:
        ledger.settle(ledger.charge(2, facts=cheap), survivors=80, counted_by='runtime')
      except BudgetExceededError:
        break
    assert 0.8 * target < ledger.epsilon('server') <= target


def test_a_threshold_that_a_kind_breaks_is_written_and_told(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', FIRST) as ledger:
    charge = ledger.charge(0, facts=OTHERS[1])
    with pytest.raises(LedgerError, match='assumes at least 100'):
      ledger.settle(charge, survivors=90, counted_by='runtime')
    assert ledger.state.threshold_broken
    waiting = ledger.charge(1, facts=OTHERS[0])
    expected = directly([(OTHERS[1], 90), (OTHERS[0], 1)])
    assert ledger.epsilon('server') == pytest.approx(expected, rel=1e-6)
    with pytest.raises(LedgerError, match='1 to 60 survivors'):
      ledger.settle(waiting, survivors=61, counted_by='runtime')


CLAIM = Sampling(kind='without_replacement', population=200, cohort=100)


@pytest.mark.parametrize(
  ('header', 'own', 'sentence'),
  [
    ({}, {'stack': stack('skellam')}, 'stack.mechanism'),
    ({}, {'stack': stack('none')}, 'stack.holds_against_server'),
    ({}, {'stack': {**stack(), 'adjacency': 'replace_one'}}, 'stack.adjacency'),
    ({}, {'stack': stack(minimum=80, colluding=0.1)}, 'colluding_fraction'),
    ({}, {'delta': 1e-5}, 'delta'),
    ({}, {'population': 300}, 'population'),
    ({}, {'unit': 'row'}, 'unit'),
    ({}, {'randomness': 'philox'}, 'randomness'),
    ({'participation_cap': 3}, {'stack': stack(z=9.0)}, 'alike'),
    ({'sampling': CLAIM, 'minimum_clients': 100}, {'stack': stack(z=9.0)}, 'alike'),
    ({'stack': {**stack(), 'top_up': 100}}, {'minimum_clients': 90}, 'alike'),
    # It could never be settled with shares of the server, so none may lower it while it is open.
    ({}, {'stack': {**stack(), 'top_up': 100}, 'minimum_clients': None}, 'stack.top_up'),
  ],
  ids=range(12),
)
def test_what_cannot_be_added_is_refused(tmp_path, header, own, sentence):
  first = dataclasses.replace(FIRST, **header)
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, first) as ledger:
    before = path.read_bytes()
    with pytest.raises(LedgerError, match=sentence):
      ledger.charge(0, facts=dataclasses.replace(first, **own))
    assert path.read_bytes() == before


def test_no_kind_takes_its_samplers_distance_back_from_the_others(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, FIRST) as ledger:
    ledger.charge(0, facts=OTHERS[0])
  forge(
    path,
    lambda one: (
      one['event'] == 'facts' and one['facts']['stack'].update(sampler_distance_per_round=-1e-9)
    ),
  )
  with pytest.raises(LedgerError, match='sampler_distance_per_round'):
    LedgerRecord.read(path)


@pytest.mark.parametrize('budget', [None, Budget(epsilon=9.0, delta=DELTA)])
def test_the_card_says_what_holds_if_answers_chose_the_noise_of_later_rounds(tmp_path, budget):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', FIRST, budget=budget) as ledger:
    ledger.charge(0)
    assert 'chosen' not in ' '.join(json.loads(ledger.statement('json'))['assumptions'])
    ledger.charge(1, facts=OTHERS[0])
    text = ' '.join(json.loads(ledger.statement('json'))['assumptions'])
  proved = 'no budget' if budget is None else 'epsilon 9 at delta 0.0005 in the server view'
  assert proved in text


def test_of_the_test_a_charge_moved_to_a_cheaper_kind_does_not_verify(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, FIRST) as ledger:
    ledger.settle(ledger.charge(0, facts=OTHERS[0]), survivors=60, counted_by='runtime')
    ledger.charge(1, facts=OTHERS[2])
  records = [*LineReader(path)]
  last = records[-1]['seq']
  first_kind = next(one['seq'] for one in records if one['event'] == 'facts')
  assert records[-1]['facts'] > first_kind
  for number in (first_kind, last, 99):
    forge(path, lambda one, number=number: one['seq'] == last and one.update(facts=number))
    assert not verify(path).ok


def test_its_lines_are_of_the_schema_and_the_card_names_every_kind(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, FIRST) as ledger:
    for number, one in enumerate([FIRST, *OTHERS]):
      ledger.settle(
        ledger.charge(number, facts=one), survivors=60 if number == 1 else 100, counted_by='runtime'
      )
    card = json.loads(ledger.statement('json'))
    text = ledger.statement()
  for line in path.read_bytes().splitlines():
    jsonschema.validate(json.loads(line), line_format.schema())
  kinds = next(field for field in card['fields'] if field['name'] == 'kinds')
  assert [kind['task'] for kind in kinds['value']['kinds']] == ['not stated', 'b', 'c', 'd']
  assert [kind['rounds'] for kind in kinds['value']['kinds']] == [1, 1, 1, 1]
  assert np.isclose(
    kinds['value']['kinds'][1]['noise_multiplier'], OTHERS[0].stack['noise_multiplier']
  )
  assert 'Kinds of rounds' in text
  assert 'was chosen before the first answer' in ' '.join(card['assumptions'])

"""A charge is taken back for a semi-honest session that asked for no share, and for no other."""

import json

import jsonschema
import pytest
from ledger_forge import forge
from ledger_stacks import facts

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.sampling_claims import Sampling
from tff_privacy_agg.ledger.writer import PrivacyLedger

VIEWS = ('server', 'release')
COHORT = [f'client {number}' for number in range(100)]


def epsilons(record):
  return {view: record.epsilon(view) for view in VIEWS}


@pytest.mark.parametrize('cap', [None, 3])
def test_a_session_that_asked_for_no_share_costs_nothing(tmp_path, cap):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts(participation_cap=cap)) as ledger:
    ledger.settle(ledger.charge(1, cohort=COHORT), survivors=90, counted_by='runtime')
    before = epsilons(ledger)
    charge = ledger.charge(2, cohort=COHORT)
    assert ledger.epsilon('server') > before['server']
    assert ledger.settle_unopened(charge, mode='semi_honest')
    assert epsilons(ledger) == before
    assert (ledger.state.rounds, ledger.state.unsettled, ledger.state.unopened) == (1, 0, 1)
    assert '1 session failed before they showed anything' in ' '.join(ledger.statement().split())
    with pytest.raises(LedgerError, match='not open'):
      ledger.settle_unopened(charge, mode='semi_honest')
    with pytest.raises(LedgerError, match='not open'):
      ledger.settle(charge, survivors=90)
    # The round runs again, and is paid for.
    ledger.settle(ledger.charge(2, cohort=COHORT), survivors=90, counted_by='runtime')
    after = epsilons(ledger)
    assert after['server'] > before['server']
  assert verify(path).ok
  assert epsilons(LedgerRecord.read(path)) == after
  with PrivacyLedger(path) as ledger:
    assert epsilons(ledger) == after
  for text in path.read_bytes().splitlines():
    jsonschema.validate(json.loads(text), ledger_lines.schema())


@pytest.mark.parametrize('mechanism', ['discrete_gaussian', 'skellam'])
def test_a_ledger_whose_only_round_was_taken_back_verifies(tmp_path, mechanism):
  """Nothing is spent; the conversion of no divergence at all is above 0 at every order."""
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts(mechanism, delta=1e-6)) as ledger:
    assert ledger.settle_unopened(ledger.charge(1), mode='semi_honest')
    assert epsilons(ledger) == {'server': 0.0, 'release': 0.0}
  assert not verify(path).problems

  def raised(record):
    if record['event'] == 'unopened':
      record['total'] = {'server': 0.1, 'release': 0.0}

  forge(path, raised)
  assert 'epsilon 0.1 in the server view' in verify(path).problems[0]


def test_an_authenticated_session_stays_charged(tmp_path):
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts()) as ledger:
    charge = ledger.charge(1)
    before = epsilons(ledger)
    assert not ledger.settle_unopened(charge, mode='authenticated')
    assert epsilons(ledger) == before
    assert ledger.state.unsettled == 1


def test_a_session_under_a_claimed_sampling_stays_charged(tmp_path):
  claim = Sampling(kind='without_replacement', population=200, cohort=100)
  with PrivacyLedger(tmp_path / 'ledger.jsonl', facts(sampling=claim)) as ledger:
    charge = ledger.charge(1, cohort=COHORT, drawn=claim)
    before = epsilons(ledger)
    assert not ledger.settle_unopened(charge, mode='semi_honest')
    assert epsilons(ledger) == before


def test_a_line_that_takes_back_what_may_not_be_is_found(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts()) as ledger:
    ledger.settle_unopened(ledger.charge(1), mode='semi_honest')
  whole = path.read_bytes()

  def other_mode(record):
    if record['event'] == 'unopened':
      record['mode'] = 'authenticated'

  def other_charge(record):
    if record['event'] == 'unopened':
      record['of'] = 7

  for edit in (other_mode, other_charge):
    path.write_bytes(whole)
    forge(path, edit)
    assert 'was taken back' in verify(path).problems[0]


def test_a_line_that_was_cut_off_takes_nothing_back(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(path, facts()) as ledger:
    charge = ledger.charge(1)
    before = epsilons(ledger)
    ledger.settle_unopened(charge, mode='semi_honest')
  whole = path.read_bytes()
  start = whole.rstrip().rfind(b'\n') + 1
  ledger_lines.head_path(path).unlink()
  for end in (start + 1, start + 20, start + 60, len(whole) - 5):
    path.write_bytes(whole[:end])
    with PrivacyLedger(path) as ledger:
      assert ledger.epsilon('server') >= before['server']

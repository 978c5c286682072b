"""A register of participants that was changed is refused: nobody gets a participation back."""

import hashlib
import hmac
import json

import pytest
from ledger_stacks import facts

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.participation.register import register_path
from tff_privacy_agg.ledger.reader import verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

COHORT = [f'client {number}' for number in range(90)]


def charged(path):
  """A ledger with one settled round of a cap of one; its facts."""
  given = facts(participation_cap=1)
  with PrivacyLedger(path, given) as ledger:
    ledger.settle(ledger.charge(0, cohort=COHORT), survivors=90, counted_by='runtime')
  return given


def test_two_clients_cannot_be_joined_into_another_one_under_the_same_digest(tmp_path):
  """Both would have their participation back, and take part more often than the cap."""
  path = tmp_path / 'ledger.jsonl'
  given = charged(path)
  salt, line = register_path(path).read_bytes().splitlines()
  entry = json.loads(line)
  first, second, *others = entry['cohort']
  entry['cohort'] = [f'{first},{second}', *others]
  register_path(path).write_bytes(salt + b'\n' + json.dumps(entry).encode() + b'\n')
  assert any('is no cohort' in problem for problem in verify(path).problems)
  with pytest.raises(LedgerError, match='line 2 is no cohort'):
    PrivacyLedger(path, given)


@pytest.mark.parametrize('digests', ['kept', 'made anew', 'made anew, as before'])
def test_another_salt_does_not_give_clients_their_participations_back(tmp_path, digests):
  path = tmp_path / 'ledger.jsonl'
  given = charged(path)
  first, entry = map(json.loads, register_path(path).read_bytes().splitlines())
  salt = bytes(32)
  first['salt'] = salt.hex()
  text = ','.join(entry['cohort']).encode()
  if digests == 'made anew':
    entry['digest'] = hmac.new(salt, text, 'sha256').hexdigest()
  elif digests == 'made anew, as before':  # registers before format 2 did not bind it
    del first['format']
    entry['digest'] = hashlib.sha256(text).hexdigest()
  register_path(path).write_text(f'{json.dumps(first)}\n{json.dumps(entry)}\n')
  assert not verify(path).ok
  with pytest.raises(LedgerError, match='was changed' if digests == 'kept' else 'missing'):
    PrivacyLedger(path, given)


def test_a_register_of_a_later_format_is_refused(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  charged(path)
  text = register_path(path).read_text()
  register_path(path).write_text(text.replace('"format": 2', '"format": 3'))
  with pytest.raises(LedgerError, match='its format is 3'):
    PrivacyLedger(path)

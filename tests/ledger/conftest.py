"""What the tests of the ledger's file share."""

import pytest
from ledger_stacks import facts

from tff_privacy_agg.ledger.writer import PrivacyLedger


@pytest.fixture
def path(tmp_path):
  """A closed ledger: a header, three settled rounds, one open round."""
  file = tmp_path / 'ledger.jsonl'
  with PrivacyLedger(file, facts()) as ledger:
    for number in range(3):
      ledger.settle(ledger.charge(number), survivors=90 + number, counted_by='runtime')
    ledger.charge(3)
  return file

"""A long training's ledger costs milliseconds of CPU a round and less than a second to read.

`benchmarks/ledger.py` measures it with the waits for the disk.
"""

import statistics
import time

import pytest
from ledger_stacks import facts

from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

ROUNDS = 10_000


@pytest.fixture(scope='module')
def long_ledger(tmp_path_factory):
  path = tmp_path_factory.mktemp('long') / 'ledger.jsonl'
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('os.fdatasync', lambda file: None)  # ten thousand rounds in seconds
    with PrivacyLedger(path, facts()) as ledger:
      for number in range(ROUNDS):
        ledger.settle(ledger.charge(number), survivors=80 + number % 21, counted_by='runtime')
  return path


def test_a_round_takes_less_than_ten_milliseconds_at_ten_thousand_rounds(long_ledger):
  with PrivacyLedger(long_ledger) as ledger:
    seconds = []
    for number in range(40):
      started = time.process_time()
      ledger.settle(ledger.charge(ROUNDS + number), survivors=100, counted_by='runtime')
      seconds.append(time.process_time() - started)
  assert statistics.median(seconds) < 0.010


def test_epsilon_of_ten_thousand_rounds_takes_less_than_a_second(long_ledger):
  started = time.process_time()
  epsilon = LedgerRecord.read(long_ledger).epsilon('server')
  assert time.process_time() - started < 1.0
  assert epsilon > 100
  assert verify(long_ledger).ok

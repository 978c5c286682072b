"""What a long ledger costs, in counts: no search, and no price, for each of its rounds again.

`benchmarks/ledger.py` measures the times.
"""

import tracemalloc

import pytest
from ledger_stacks import facts

from tff_privacy_agg.accounting import accounts, price
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

SHORT, LONG = 200, 1200
SURVIVORS = 21  # different numbers of them


def run(ledger, rounds):
  for number in range(rounds):
    ledger.settle(ledger.charge(number), survivors=80 + number % SURVIVORS, counted_by='runtime')


@pytest.fixture(scope='module')
def ledgers(tmp_path_factory):
  paths = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('os.fdatasync', lambda file: None)  # thousands of rounds in seconds
    for rounds in (SHORT, LONG):
      paths[rounds] = tmp_path_factory.mktemp('long') / 'ledger.jsonl'
      with PrivacyLedger(paths[rounds], facts(z=100.0)) as ledger:
        run(ledger, rounds)
  return paths


@pytest.fixture
def counted(monkeypatch):
  """Counts prices of a round, and searches for an epsilon."""
  counts = {'prices': 0, 'searches': 0}

  def counting(name, function):
    def count(*args, **kwargs):
      counts[name] += 1
      return function(*args, **kwargs)

    return count

  gaussian, search = price.RoundPrice._gaussian, accounts.composed_epsilon
  monkeypatch.setattr(price.RoundPrice, '_gaussian', counting('prices', gaussian))
  monkeypatch.setattr(accounts, 'composed_epsilon', counting('searches', search))
  return counts


def test_a_round_costs_the_same_whatever_is_behind_it(ledgers, counted):
  found = {}
  for rounds, path in ledgers.items():
    with PrivacyLedger(path) as ledger:
      before = dict(counted)
      for number in range(SURVIVORS):
        ledger.settle(ledger.charge(number), survivors=80 + number, counted_by='runtime')
      found[rounds] = {name: counted[name] - before[name] for name in counted}
  assert found[SHORT] == found[LONG]
  assert found[LONG]['prices'] == 0
  assert found[LONG]['searches'] <= 4 * SURVIVORS


def test_reading_and_verifying_price_a_kind_of_round_once(ledgers, counted):
  for path in ledgers.values():
    counted.update(prices=0, searches=0)
    epsilon = LedgerRecord.read(path).epsilon('server')
    assert 0 < epsilon < 30
    assert counted['searches'] <= 1
    assert counted['prices'] <= 2 * (SURVIVORS + 3)
    counted.update(prices=0, searches=0)
    assert verify(path).ok
    assert counted['searches'] == 0  # each epsilon that is stated is confirmed, not looked for
    assert counted['prices'] <= 2 * (SURVIVORS + 3)


@pytest.mark.parametrize('use', [LedgerRecord.read, verify])
def test_memory_grows_by_a_few_bytes_a_round(ledgers, use):
  peaks = []
  for path in ledgers.values():
    use(path)  # what is looked up once is there
    tracemalloc.start()
    try:
      use(path)
      peaks.append(tracemalloc.get_traced_memory()[1])
    finally:
      tracemalloc.stop()
  lines = 1000  # bytes of a round's two lines
  assert peaks[1] - peaks[0] < 0.1 * lines * (LONG - SHORT)

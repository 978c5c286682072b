"""Ledgers that earlier versions wrote stay readable; those of later ones are refused."""

import json
import math
import pathlib
import shutil

import pytest
from ledger_forge import forge

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def test_ledgers_from_the_future_are_refused(path):
  def later(record):
    if record['event'] == 'header':
      record.update(schema=4, version='9.0')

  forge(path, later)
  for use in (LedgerRecord.read, PrivacyLedger, verify):
    with pytest.raises(LedgerError, match=r'schema 4, written by tff_privacy_agg 9\.0'):
      use(path)


@pytest.mark.parametrize('schema', [1, 2])
def test_the_golden_ledgers_of_earlier_versions_stay_readable(tmp_path, schema):
  name = f'ledger-v{schema}'
  expected = json.loads((GOLDEN / f'{name}.expected.json').read_text())
  assert verify(GOLDEN / f'{name}.jsonl').ok
  record = LedgerRecord.read(GOLDEN / f'{name}.jsonl')
  for view in ('server', 'release'):
    assert record.epsilon(view) == pytest.approx(expected[view], rel=1e-9)
  assert record.hash == expected['hash']
  assert list(record.unaccounted) == expected['unaccounted']
  assert record.spent('server').rounds == expected['rounds']
  for suffix in ('.jsonl', '.jsonl.head', '.jsonl.participants'):
    shutil.copy(GOLDEN / f'{name}{suffix}', tmp_path / f'{name}{suffix}')
  path = tmp_path / f'{name}.jsonl'
  with PrivacyLedger(path, record.facts, budget=record.budget) as ledger:
    cohort = [f'client {number}' for number in range(90 if schema == 1 else 50)]
    charge = ledger.charge(9, cohort=cohort, drawn=record.facts.sampling)
    survivors, top_up = (90, 0) if schema == 1 else (50, 20)
    ledger.settle(charge, survivors=survivors, counted_by='runtime', top_up=top_up)
  assert verify(path).ok


@pytest.mark.parametrize('name', ['ledger-v3', 'ledger-v3-skellam', 'ledger-v3-central'])
def test_the_golden_ledgers_of_this_version_stay_readable(tmp_path, name):
  """Settled by the runtime and by clients, taken back, and open; a cap in the first."""
  expected = json.loads((GOLDEN / f'{name}.expected.json').read_text())
  for file in GOLDEN.glob(f'{name}.jsonl*'):
    shutil.copy(file, tmp_path)
  path = tmp_path / f'{name}.jsonl'
  record = LedgerRecord.read(path)
  assert verify(path).ok
  for view in ('server', 'release'):
    stated = math.inf if expected[view] is None else pytest.approx(expected[view], rel=1e-9)
    assert record.epsilon(view) == stated
  assert (record.hash, record.spent('release').rounds) == (expected['hash'], expected['rounds'])
  with PrivacyLedger(path, record.facts, budget=record.budget) as ledger:
    cohort = ledger.eligible([f'client {number}' for number in range(200)])[:100]
    ledger.settle(ledger.charge(9, cohort=cohort), survivors=90, counted_by='runtime')
  assert verify(path).ok


def test_a_golden_ledger_of_unlike_rounds_one_of_them_cut_off_stays_readable(tmp_path):
  name = 'ledger-v2-kinds'
  expected = json.loads((GOLDEN / f'{name}.expected.json').read_text())
  for suffix in ('.jsonl', '.jsonl.head'):
    shutil.copy(GOLDEN / f'{name}{suffix}', tmp_path / f'{name}{suffix}')
  path = tmp_path / f'{name}.jsonl'
  record = LedgerRecord.read(path)
  for view in ('server', 'release'):
    assert record.epsilon(view) == pytest.approx(expected[view], rel=1e-9)
  assert (record.hash, record.spent('server').rounds) == (expected['hash'], expected['rounds'])
  kinds = list(record.state.kinds.values())
  assert {one.facts.task: one.rounds for one in kinds} == expected['kinds']
  with PrivacyLedger(path) as ledger:
    for one in kinds:
      ledger.settle(
        ledger.charge(9, facts=one.facts),
        survivors=60 if one is kinds[1] else 90,
        counted_by='runtime',
      )
    assert len(ledger.state.kinds) == len(kinds)
  assert verify(path).ok

"""The file: what is changed is found, what is cut off is kept."""

import dataclasses
import datetime
import json
import os
import pathlib
import shutil

import jsonschema
import pytest
from ledger_forge import forge
from ledger_stacks import facts

from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.costs.rounds import price_of
from tff_privacy_agg.ledger.line_reader import LineReader
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger

GOLDEN = pathlib.Path(__file__).parent / 'golden'


def test_what_is_read_is_what_was_written(path):
  with PrivacyLedger(path) as ledger:
    read = LedgerRecord.read(path)
    assert read.epsilon('server') == ledger.epsilon('server')
    assert read.hash == ledger.hash
  found = verify(path)
  assert found.ok
  assert not found.remarks
  assert found.lines == 8
  assert found.hash == read.hash


@pytest.mark.parametrize(('umask', 'mode'), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_ledger_may_be_read_by_whom_the_umask_lets(tmp_path, umask, mode):
  before = os.umask(umask)
  try:
    PrivacyLedger(tmp_path / 'ledger.jsonl', facts()).close()
  finally:
    os.umask(before)
  assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {mode}


def test_every_line_fits_the_schema(path):
  with PrivacyLedger(path) as ledger:
    ledger.mark_unaccounted('training metrics')
    ledger.note('empirical_audit', {'estimate': 1.5, 'canaries': 100})
  for file in (path, *sorted(GOLDEN.glob('*.jsonl'))):
    lines = file.read_bytes().splitlines()
    for line in lines:
      if line.endswith(b'}'):
        jsonschema.validate(json.loads(line), ledger_lines.schema())
    for line in lines[1:]:
      assert line.startswith(b'{"event":"')


@pytest.mark.parametrize('line', range(8))
def test_a_changed_line_is_found(path, line):
  lines = path.read_bytes().splitlines(keepends=True)
  for old, new in ((b'"seq":', b'"seq":1'), (b'0', b'1'), (b'"utc":"2', b'"utc":"3')):
    changed = [*lines]
    changed[line] = lines[line].replace(old, new, 1)
    assert changed != lines
    path.write_bytes(b''.join(changed))
    problems = verify(path).problems
    assert f'Line {line + 1} was changed' in problems[0]
    with pytest.raises(LedgerError, match='does not verify'):
      LedgerRecord.read(path)
    with pytest.raises(LedgerError, match='does not verify'):
      PrivacyLedger(path)


@pytest.mark.parametrize('line', range(8))
def test_a_removed_repeated_or_moved_line_is_found(path, line):
  lines = path.read_bytes().splitlines(keepends=True)
  removed = lines[:line] + lines[line + 1 :]
  repeated = lines[: line + 1] + lines[line:]
  other = (line + 3) % 8
  moved = [*lines]
  moved[line], moved[other] = lines[other], lines[line]
  for edited in (removed, repeated, moved):
    path.write_bytes(b''.join(edited))
    assert not verify(path).ok
    with pytest.raises(LedgerError):
      LedgerRecord.read(path)


def test_an_older_copy_of_the_ledger_is_found(path):
  data = path.read_bytes()
  path.write_bytes(b''.join(data.splitlines(keepends=True)[:5]))
  assert 'older copy' in verify(path).problems[0]
  path.unlink()
  with pytest.raises(LedgerError, match='of an earlier one is there'):
    PrivacyLedger(path, facts())


def test_without_its_head_a_copy_still_verifies_with_a_remark(path, tmp_path):
  copy = tmp_path / 'copy.jsonl'
  shutil.copy(path, copy)
  found = verify(copy)
  assert found.ok
  assert 'no .head' in found.remarks[0]
  assert verify(copy, expected_hash=found.hash).ok
  assert not verify(copy, expected_hash='0' * 64).ok


def test_forged_numbers_do_not_survive_the_replay(path):
  def cheaper(record):
    if record['event'] == 'charge' and record['round'] == 2:
      record['total'] = {'server': 0.1, 'release': record['total']['release']}

  forge(path, cheaper)
  problems = verify(path).problems
  assert len(problems) == 1
  assert 'states epsilon 0.1 in the server view' in problems[0]


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'honest': 95}, 'at most 90'),
    ({'honest': 0}, '0 honest'),
    ({'of': 77}, 'not open'),
    ({'survivors': None}, 'lacks'),
    ({'event': 'refund'}, 'does not know'),
  ],
)
def test_forged_lines_that_cannot_be_are_named(path, change, named):
  forge(path, lambda record: record.update(change) if record['seq'] == 2 else None)
  assert named in verify(path).problems[0]
  with pytest.raises(LedgerError, match=named):
    LedgerRecord.read(path)


def test_every_way_of_cutting_off_the_end_is_reported_and_kept_charged(path, tmp_path):
  data = path.read_bytes()
  whole = LedgerRecord.read(path)
  lines = data.splitlines(keepends=True)
  two, one = sum(map(len, lines[:-2])), sum(map(len, lines[:-1]))
  cut = tmp_path / 'cut.jsonl'
  for end in [*range(two + 1, one, 13), *range(one + 1, len(data), 7)]:
    cut.write_bytes(data[:end])
    if end % 2:
      shutil.copy(ledger_lines.head_path(path), ledger_lines.head_path(cut))
    if end <= one:  # the head knows a whole line that is gone
      ledger_lines.head_path(cut).unlink(missing_ok=True)
    found = verify(cut)
    assert found.ok
    assert 'cut off' in found.remarks[0]
    read = LedgerRecord.read(cut)
    lines_read = LineReader(cut)
    assert len([*lines_read]) == lines_read.lines
    begun = lines_read.truncated
    # The open round counts in full; so does a settlement that is not whole.
    least = whole.epsilon('server') if end > one else 0.0
    assert read.epsilon('server') >= least
    assert read.spent('server').unsettled >= 1
    with PrivacyLedger(cut, facts()) as ledger:
      assert ledger.epsilon('server') == read.epsilon('server')
      ledger.settle(ledger.charge(9), survivors=100, counted_by='runtime')
      spent = ledger.epsilon('server')
    assert begun in cut.read_bytes()  # nothing was taken away
    again = LedgerRecord.read(cut)
    assert again.epsilon('server') == spent > read.epsilon('server')
    assert verify(cut).ok
    for left in tmp_path.glob('cut.jsonl*'):
      left.unlink()


@pytest.mark.parametrize('lines', [8, 7])
def test_a_line_that_lacks_only_its_newline_is_whole(path, lines):
  data = b''.join(path.read_bytes().splitlines(keepends=True)[:lines])
  path.write_bytes(data)
  ledger_lines.head_path(path).unlink()
  spent = LedgerRecord.read(path).epsilon('server')
  path.write_bytes(data[:-1])
  assert LedgerRecord.read(path).epsilon('server') == spent
  with PrivacyLedger(path, facts()) as ledger:
    ledger.charge(9)
  assert path.read_bytes().startswith(data)
  assert verify(path).ok


def test_a_recovery_that_is_cut_off_is_recovered(path, tmp_path):
  data = path.read_bytes()[:-20]
  path.write_bytes(data)
  ledger_lines.head_path(path).unlink()
  with PrivacyLedger(path):
    pass
  recovered = path.read_bytes()
  spent = LedgerRecord.read(path).epsilon('server')
  for end in range(len(data) + 1, len(recovered), 5):
    path.write_bytes(recovered[:end])
    ledger_lines.head_path(path).unlink()
    with PrivacyLedger(path) as ledger:
      assert ledger.epsilon('server') == spent
    assert verify(path).ok
  lines = path.read_bytes().splitlines(keepends=True)
  lines[-3] = lines[-3].replace(b'0', b'1', 1)  # the last whole line before the cut
  path.write_bytes(b''.join(lines))
  assert not verify(path).ok


@pytest.mark.parametrize(
  ('changed', 'named'),
  [
    ({'z': 3.0}, 'stack.integer_design'),
    ({'delta': 1e-4}, 'delta'),
    ({'population': 150}, 'population'),
    ({'minimum_clients': 90}, 'minimum_clients'),
    ({'mechanism': 'skellam'}, 'stack.mechanism'),
    ({'participation_cap': 3}, 'participation_cap'),
    ({'randomness': 'philox'}, 'randomness'),
  ],
)
def test_other_facts_than_the_ledger_s_are_refused(path, changed, named):
  before = path.read_bytes()
  with pytest.raises(LedgerError, match=named):
    PrivacyLedger(path, facts(**changed))
  with pytest.raises(LedgerError, match='budget'):
    PrivacyLedger(path, facts(), budget=Budget(epsilon=1.0, delta=1e-4))
  assert path.read_bytes() == before
  PrivacyLedger(path, facts()).close()


def with_distances(distance, beside):
  """Facts with these distances of samplers; `beside` is that of a stack next to it."""
  one = facts().stack
  other = {**one, 'sampler_distance_per_round': beside}
  both = {**one, 'sampler_distance_per_round': distance, 'beside': [other]}
  both['noise_multiplier'] = price_of(both).noise_multiplier(one['cohort']['minimum'])
  return dataclasses.replace(facts(), stack=both)


def test_closer_samplers_resume_a_ledger_that_goes_on_to_count_the_larger_distance(tmp_path):
  path = tmp_path / 'ledger.jsonl'
  PrivacyLedger(path, with_distances(1e-9, 1e-10)).close()
  with PrivacyLedger(path, with_distances(1e-40, 1e-41)) as ledger:
    ledger.charge(1)
    ledger.charge(2, facts=with_distances(1e-40, 1e-41))
    assert ledger.state.distance('server') == pytest.approx(2e-9)
  for further in ((2e-9, 1e-10), (1e-9, 2e-10)):
    with pytest.raises(LedgerError, match='stack'):
      PrivacyLedger(path, with_distances(*further))
  with PrivacyLedger(path, with_distances(1e-9, 1e-10)) as ledger:
    ledger.charge(3, facts=with_distances(3e-9, 1e-10))  # a kind of its own, as it costs more
    assert ledger.state.distance('server') == pytest.approx(5e-9)


def test_a_missing_ledger_is_named(tmp_path):
  missing = tmp_path / 'none.jsonl'
  for use in (LedgerRecord.read, verify, PrivacyLedger):
    with pytest.raises(LedgerError, match=r'none\.jsonl'):
      use(missing)


@pytest.mark.parametrize('hours', [-9, 9])
def test_a_clock_that_jumps_changes_no_charge(path, monkeypatch, hours):
  before = LedgerRecord.read(path)
  now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
  with PrivacyLedger(path) as ledger:
    ledger.charge(4)
    monkeypatch.setattr(ledger_lines, 'now', lambda: now.isoformat(timespec='milliseconds'))
    charge = ledger.charge(5)
    ledger.settle(charge, survivors=90, counted_by='runtime')
    spent = ledger.epsilon('server')
  found = verify(path)
  assert found.ok, found.problems
  assert LedgerRecord.read(path).epsilon('server') == spent > before.epsilon('server')

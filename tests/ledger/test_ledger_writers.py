"""One writer at a time, of one file: who comes second, and what the file system does not do."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from ledger_stacks import facts

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.reader import LedgerRecord, verify
from tff_privacy_agg.ledger.writer import PrivacyLedger


def test_a_second_writer_is_refused(path):
  script = (
    'import sys\n'
    'from tff_privacy_agg.ledger.writer import PrivacyLedger\n'
    'from tff_privacy_agg.errors import LedgerError\n'
    'try:\n  PrivacyLedger(sys.argv[1])\n'
    'except LedgerError as error:\n  print(error)\n'
    "assert 'tensorflow' not in sys.modules\n"
  )
  with PrivacyLedger(path) as ledger:
    with pytest.raises(LedgerError, match='another writer'):
      PrivacyLedger(path)
    ended = subprocess.run(
      [sys.executable, '-c', script, str(path)], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    assert 'another writer' in ended.stdout
    ledger.charge(5)  # the first one goes on
  with PrivacyLedger(path):
    pass


def test_a_closed_or_forked_ledger_does_not_write(path):
  ledger = PrivacyLedger(path)
  child = os.fork()
  if child == 0:
    try:
      ledger.charge(7)
    except LedgerError as error:
      os._exit(0 if 'of its parent' in str(error) else 2)
    os._exit(1)
  assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
  ledger.close()
  with pytest.raises(LedgerError, match='closed'):
    ledger.charge(8)


@pytest.mark.parametrize('damage', ['append', 'remove', 'truncate', 'replace', 'move', 'copy'])
def test_a_file_that_somebody_touches_stops_the_writer(path, damage):
  with PrivacyLedger(path) as ledger:
    if damage == 'append':
      with path.open('ab') as file:
        file.write(b'{}\n')
    elif damage == 'remove':
      path.unlink()
    elif damage == 'truncate':
      os.truncate(path, 100)
    else:  # the open file has a name yet; what it is written to is not what is read
      kept = path.rename(path.with_name('kept'))
      if damage != 'move':
        path.write_bytes(kept.read_bytes())
      if damage == 'replace':
        kept.unlink()
    with pytest.raises(LedgerError, match='another program changed'):
      ledger.charge(4)


@pytest.mark.parametrize('begun', [False, True], ids=['new', 'resumed'])
def test_a_path_through_a_link_leads_to_one_ledger(tmp_path, begun):
  disk = tmp_path / 'disk'
  disk.mkdir()
  file, link = disk / 'ledger.jsonl', tmp_path / 'link.jsonl'
  link.symlink_to(file)
  cohort = [f'client {number}' for number in range(100)]
  if begun:
    with PrivacyLedger(file, facts()) as ledger:
      ledger.charge(0, cohort=cohort)
  with PrivacyLedger(link, facts()) as ledger:
    ledger.settle(ledger.charge(1, cohort=cohort), survivors=90, counted_by='runtime')
    with pytest.raises(LedgerError, match='another writer'):
      PrivacyLedger(file)
  assert link.is_symlink()
  assert sorted(one.name for one in tmp_path.iterdir()) == ['disk', 'link.jsonl']
  for path in (file, link):
    found = verify(path)
    assert (found.ok, found.remarks) == (True, ())
  with PrivacyLedger(file) as ledger:
    assert ledger.state.rounds == 1 + begun


def failing(code):
  def fails(*unused):
    raise OSError(code, os.strerror(code))

  return fails


@pytest.mark.parametrize('code', [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(path, tmp_path, monkeypatch, code):
  monkeypatch.setattr(fcntl, 'flock', failing(code))
  for one in (path, tmp_path / 'new.jsonl'):
    with pytest.raises(LedgerError, match=r'file system locks no files .*local file system'):
      PrivacyLedger(one, facts())
  assert sorted(one.name for one in tmp_path.glob('*new*')) == []


@pytest.mark.parametrize('code', [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_a_file_system_without_hard_links_is_named(tmp_path, monkeypatch, code):
  monkeypatch.setattr(os, 'link', failing(code))
  with pytest.raises(LedgerError, match=r'makes no hard links .*local file system'):
    PrivacyLedger(tmp_path / 'ledger.jsonl', facts())
  assert not list(tmp_path.iterdir())


def test_a_full_disk_stops_the_round_and_keeps_it_charged(path, monkeypatch):
  with PrivacyLedger(path) as ledger:
    before = ledger.epsilon('server')
    write = os.write
    monkeypatch.setattr(os, 'write', lambda file, data: write(file, data[:40]))
    with pytest.raises(LedgerError, match='disk is full'):
      ledger.charge(4)
    monkeypatch.undo()
    assert ledger.epsilon('server') > before
    with pytest.raises(LedgerError, match='broken'):
      ledger.charge(4)
  assert LedgerRecord.read(path).epsilon('server') > before
  with PrivacyLedger(path) as ledger:
    assert ledger.epsilon('server') > before

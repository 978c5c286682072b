"""A disk that is full, and a pipe that nobody reads, end a command in a sentence."""

import errno
import os
import pathlib
import tempfile

import pytest

from tff_privacy_agg import _lazy, cli


@pytest.fixture
def full(monkeypatch):
  def raises(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', raises)


def test_a_full_disk_is_told_with_the_file(full, tmp_path, capsys):
  assert cli.main(['keys', str(tmp_path / 'keys'), 'north', 'south']) == 2
  told = capsys.readouterr().err
  assert told == (
    f'tff-privacy-agg: {tmp_path}/keys/server.pem: No space left on device. Free space there, and '
    'run the command again.\n'
  )


PLAN = 'plan --target-epsilon 8 --rounds 3 --clients-per-round 40 --population 200 --parameters 9'


def test_a_full_disk_leaves_no_part_that_would_refuse_the_next_try(monkeypatch, tmp_path, capsys):
  written = []

  def third_fails(descriptor):
    written.append(descriptor)
    if len(written) == 3:
      raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', third_fails)
  commands = (
    ['keys', str(tmp_path / 'keys'), 'north', 'south'],
    [*PLAN.split(), '--write', str(tmp_path / 'run.toml')],
  )
  for command, before in zip(commands, (0, 2), strict=True):
    del written[:]
    written += range(before)
    assert cli.main(command) == 2
    assert 'No space left on device' in capsys.readouterr().err
    assert cli.main(command) == 0


def test_a_file_in_a_directory_that_is_not_there_is_told_by_its_own_name(tmp_path, capsys):
  assert cli.main([*PLAN.split(), '--write', str(tmp_path / 'no' / 'run.toml')]) == 2
  told = capsys.readouterr().err.splitlines()[-1]
  expected = f'{tmp_path}/no/run.toml: No such file or directory. Correct the path.'
  assert told == f'tff-privacy-agg: {expected}'


def test_a_place_that_may_not_be_written_is_told_with_advice(monkeypatch, tmp_path, capsys):
  def refuses(self, *args, **kwargs):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

  monkeypatch.setattr(pathlib.Path, 'mkdir', refuses)
  assert cli.main(['keys', str(tmp_path / 'keys'), 'north', 'south']) == 2
  told = capsys.readouterr().err
  expected = f'{tmp_path}/keys: Read-only file system. Use a path where you may read and write.'
  assert told == f'tff-privacy-agg: {expected}\n'


def test_a_number_that_cannot_be_kept_names_its_file(full, tmp_path):
  from tff_privacy_agg.deployment.round_numbers import RoundBook

  with pytest.raises(OSError, match=r'rounds\.json'):
    RoundBook(tmp_path / 'rounds.json').record('task', 1)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('number', [errno.ENOSPC, errno.EPIPE])
def test_an_output_that_cannot_be_written_is_told(number, tmp_path, capsys, monkeypatch):
  def raises(*values, **named):
    if named.get('file') is None:
      raise OSError(number, os.strerror(number))
    named['file'].write(' '.join(values))

  monkeypatch.setattr('builtins.print', raises)
  assert cli.main(['keys', str(tmp_path / 'keys'), 'north', 'south']) == 2
  assert capsys.readouterr().err.startswith(f'tff-privacy-agg: {os.strerror(number)}. ')


def test_a_directory_for_temporary_files_is_asked_for(monkeypatch, capsys):
  def finds_none(arguments):
    raise FileNotFoundError(errno.ENOENT, f"{_lazy.NO_TEMPORARY} in ['/tmp', '/']")

  monkeypatch.setattr(cli.doctor, '_doctor', finds_none)
  assert cli.main(['doctor']) == 2
  said = capsys.readouterr().err
  assert "found in ['/tmp', '/']. Set TMPDIR to one that can be written." in said


def test_python_says_so_itself(monkeypatch):
  monkeypatch.setattr(tempfile, '_candidate_tempdir_list', lambda: ['/proc/none'])
  monkeypatch.setattr(tempfile, 'tempdir', None)
  with pytest.raises(FileNotFoundError, match=_lazy.NO_TEMPORARY):
    tempfile.gettempdir()

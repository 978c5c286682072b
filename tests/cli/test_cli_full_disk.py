"""A disk that is full, and a pipe that nobody reads, end a command in a sentence."""

import errno
import os

import pytest

from tff_privacy_agg import cli


@pytest.fixture
def full(monkeypatch):
  def raises(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(os, 'fsync', raises)


def test_a_full_disk_is_told_with_the_file(full, tmp_path, capsys):
  assert cli.main(['keys', str(tmp_path / 'keys'), 'north', 'south']) == 2
  told = capsys.readouterr().err
  assert told == f'tff-privacy-agg: {tmp_path}/keys/server.pem: No space left on device\n'


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
  assert capsys.readouterr().err == f'tff-privacy-agg: {os.strerror(number)}'

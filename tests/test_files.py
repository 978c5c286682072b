"""Files of a run: whole or as before, and readable by whom the umask lets."""

import contextlib
import errno
import math
import os

import numpy as np
import pytest
import small_facts

from tff_privacy_agg import _files, ledger
from tff_privacy_agg.analytics import csv_file
from tff_privacy_agg.deployment import config, round_numbers, standing
from tff_privacy_agg.deployment.keys import roster, tls
from tff_privacy_agg.errors import ConfigurationError


@pytest.mark.parametrize(('umask', 'mode'), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_reviewer_of_the_group_may_read_what_the_umask_lets(tmp_path, umask, mode):
  before = os.umask(umask)
  try:
    _files.write_json(tmp_path / 'summary.json', {'rounds': 1})
  finally:
    os.umask(before)
  assert (tmp_path / 'summary.json').stat().st_mode & 0o777 == mode


def test_what_cannot_be_written_leaves_the_old_file_alone(tmp_path, monkeypatch):
  path = tmp_path / 'summary.json'
  _files.write_json(path, {'rounds': 1})
  with pytest.raises(TypeError):
    _files.write_json(path, {'rounds': object()})
  monkeypatch.setattr(os, 'fsync', lambda descriptor: os.close(-1))
  with pytest.raises(OSError, match='Bad file descriptor'):
    _files.write_json(path, {'rounds': 2})
  assert _files.read_json(path) == {'rounds': 1}
  assert os.listdir(tmp_path) == ['summary.json']


def test_a_place_that_cannot_be_written_is_named_as_it_was_given(tmp_path, monkeypatch):
  def refuses(path, *rest):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

  monkeypatch.setattr(os, 'open', refuses)
  monkeypatch.setattr(os, 'mkdir', refuses)
  path = tmp_path / 'wanted'
  facts = small_facts.facts_of(clients=5, minimum=3, threshold=3)
  for write in (
    lambda: _files.write_json(path, {}),
    lambda: ledger.PrivacyLedger(path, facts),
    lambda: contextlib.ExitStack().enter_context(_files.new_directory(path)),
  ):
    with pytest.raises(OSError) as raised:
      write()
    assert raised.value.filename == str(path)


@pytest.mark.parametrize(
  'read',
  [
    lambda path: config.read(path, config.ClientConfig),
    roster.Roster.read,
    tls.read_key_file,
    csv_file.rows,
    _files.read_json,
    _files.read_table,
    round_numbers.RoundBook,
    lambda path: standing.Standing({}, path=path),
  ],
  ids=['config', 'roster', 'key', 'csv', 'json', 'table', 'rounds', 'strikes'],
)
def test_no_file_is_read_without_end(read, tmp_path, monkeypatch):
  for module in (_files, csv_file):
    monkeypatch.setattr(module, '_LARGEST', 2**20)
  endless = tmp_path / 'endless'
  endless.symlink_to('/dev/zero')
  with pytest.raises((OSError, ConfigurationError), match=r'it has more than \d+ bytes'):
    read(endless)


def test_what_was_measured_of_the_model_is_told_from_the_rest_of_a_round():
  row = {
    'round': 3,
    'seconds': 0.5,
    'survivors': 9,
    'ledger/epsilon': 1.0,
    'auc': np.float32(0.5),
    'accuracy': 0.25,
    'loss': 2,
    'nothing': math.nan,
    'words': 'x',
  }
  assert list(_files.model_metrics(row).items()) == [
    ('loss', 2.0),
    ('accuracy', 0.25),
    ('auc', 0.5),
  ]

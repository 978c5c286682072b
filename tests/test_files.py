"""Files of a run: whole or as before, and readable by whom the umask lets."""

import math
import os

import numpy as np
import pytest

from tff_privacy_agg import _files


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

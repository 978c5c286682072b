"""One training at a time in a run directory, and nothing of killed ones."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.run_directory import RunDirectory

_HOLD = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
fcntl.flock(file, fcntl.LOCK_EX)
print('held', flush=True)
sys.stdin.read()
"""


def test_a_second_training_is_refused_until_the_first_has_ended(tmp_path):
  directory = RunDirectory(tmp_path / 'run', {'rounds': 1})
  arguments = [sys.executable, '-c', _HOLD, str(tmp_path / 'run/.lock')]
  with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
    assert other.stdout.readline() == b'held\n'
    with pytest.raises(ConfigurationError, match='Another training runs in'), directory.locked():
      pass
    other.kill()
  with directory.locked():
    again = RunDirectory(tmp_path / 'run', {'rounds': 1})
    with pytest.raises(ConfigurationError, match='Another training runs in'), again.locked():
      pass
  with directory.locked():
    pass


def test_a_file_system_without_locks_refuses_nobody(tmp_path, monkeypatch):
  def fails(*unused):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

  monkeypatch.setattr(fcntl, 'flock', fails)
  with RunDirectory(tmp_path / 'run', {'rounds': 1}).locked():
    pass


def test_what_killed_saves_left_is_removed_at_the_next_start(tmp_path):
  directory = RunDirectory(tmp_path / 'run', {'rounds': 1})
  checkpoints = tmp_path / 'run/checkpoints'
  kept = checkpoints / 'program_state_3'
  for folder in (kept, checkpoints / 'program_state_4_temp1234'):
    folder.mkdir(parents=True)
    (folder / 'saved_model.pb').write_bytes(b'x')
  (tmp_path / 'run/.config.json.abc').write_text('{')
  with directory.locked():
    assert [folder.name for folder in checkpoints.iterdir()] == ['program_state_3']
    assert (kept / 'saved_model.pb').exists()
    assert not (tmp_path / 'run/.config.json.abc').exists()


def test_the_name_of_a_half_written_checkpoint_is_what_tff_gives_it(tmp_path, monkeypatch):
  import numpy as np
  import tensorflow as tf

  directory = RunDirectory(tmp_path / 'run', {'rounds': 1})

  def killed(*unused):
    raise KeyboardInterrupt

  monkeypatch.setattr(tf.io.gfile, 'rename', killed)
  with pytest.raises(KeyboardInterrupt):
    directory.save(np.int32(1), 1)
  monkeypatch.undo()
  checkpoints = tmp_path / 'run/checkpoints'
  assert list(checkpoints.iterdir())
  with directory.locked():
    assert not list(checkpoints.iterdir())

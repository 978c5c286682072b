"""Waiting for processes to end, and for whatever else takes a while."""

import pathlib
import time


def is_gone(pid):
  """Whether a process has ended; who started it may not have taken note yet."""
  try:
    return pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] == 'Z'
  except OSError:
    return True


def wait_for(condition, seconds):
  """Whether a condition holds within so many seconds."""
  deadline = time.monotonic() + seconds
  while time.monotonic() < deadline:
    if condition():
      return True
    time.sleep(0.05)
  return False


def are_gone(pids, seconds):
  """Whether all of the processes have ended within so many seconds."""
  return wait_for(lambda: all(map(is_gone, pids)), seconds)

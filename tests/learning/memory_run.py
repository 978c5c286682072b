"""Trains 1,000 small rounds, and prints the resident megabytes of all its processes after each."""

import os
import pathlib
import sys

from test_training import process_with, train

import tff_privacy_agg as tpa


def resident_bytes() -> int:
  """Of this process and its children: the TFF worker is one of them."""
  page, total = os.sysconf('SC_PAGE_SIZE'), 0
  for directory in pathlib.Path('/proc').iterdir():
    try:
      parent = int((directory / 'stat').read_text().rsplit(')', 1)[1].split()[1])
      if os.getpid() in (parent, int(directory.name)):
        total += page * int((directory / 'statm').read_text().split()[1])
    except (OSError, ValueError, IndexError):
      continue
  return total


def report(line: str) -> None:
  if line.startswith('round '):
    print(resident_bytes() / 1e6, flush=True)


with tpa.runtime.simulation_context():
  train(process_with(delta=1e-3), int(sys.argv[2]), pathlib.Path(sys.argv[1]), report=report)

"""A training of 1,000 rounds holds no more memory at its end than at its half."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROUNDS, WARM = 1000, 450
# Megabytes over 500 rounds; the worker's own size moves by about 10 from round to round.
MOST_GROWTH = 25


@pytest.mark.slow
def test_memory_stays_flat_over_a_thousand_rounds(tmp_path):
  done = subprocess.run(
    [sys.executable, 'memory_run.py', str(tmp_path / 'run'), str(ROUNDS)],
    cwd=pathlib.Path(__file__).parent,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    timeout=1800,
    check=True,
    text=True,
  )
  sizes = [float(line) for line in done.stdout.split()]
  assert len(sizes) == ROUNDS
  early, late = (np.median(sizes[i : i + 50]) for i in (WARM, ROUNDS - 50))
  assert late - early < MOST_GROWTH

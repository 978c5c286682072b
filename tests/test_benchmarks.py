"""Benchmarks still run: each ends well in its smallest size, and writes what it found."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / 'benchmarks'


@pytest.mark.slow
@pytest.mark.parametrize(
  'command',
  [
    'central.py --seeds 1 --rounds 1',
    'fedavg.py --clients 10 --rounds 1 --cnn-rounds 0',
    'kernels.py',
    'ledger.py --rounds 200',
    'rounds.py --quick --rounds 1',
    'runtime.py --only grpc --rounds 2',
    'secagg.py --cases --repeat 1',
    'served.py --only waiting --waiting 8',
    'utility.py --seeds 1 --bits 16 --rounds 1',
    'weights.py --dims 100',
  ],
  ids=lambda command: command.split('.')[0],
)
def test_a_benchmark_runs(command, tmp_path):
  script, *options = command.split()
  results = tmp_path / 'results.json'
  done = subprocess.run(
    [sys.executable, BENCHMARKS / script, *options, '--json', results],
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
    timeout=500,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-2000:]
  assert json.loads(results.read_text(encoding='utf-8'))

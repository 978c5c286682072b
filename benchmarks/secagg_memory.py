"""Peak memory and time of a round of `SecAggContext` with large vectors, in processes of their own.

python benchmarks/secagg_memory.py [--json FILE] [--times 5]
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

from _measure import environment, table, write_json

ONE_ROUND = pathlib.Path(__file__).with_name('_secagg_memory.py')
# A process whose vectors take nothing.
IDLE = (10, 1_000)
# TensorFlow's pool for large tensors, and no pool.
ALLOCATORS = {'pool': '0', 'system': '1'}
CELLS = ((20, 10_000_000), (10, 10_000_000), (10, 20_000_000))
# Rings: a client has 8 neighbours among 50 clients and 16 among 100.
GROWTH = ((50, 1_000_000), (100, 1_000_000), (50, 2_000_000))
MANY = (1_000, 1_000_000)


def one_round(cell: tuple[int, int], allocator: str) -> dict:
  """What `_secagg_memory.py` prints of a round of so many clients and values."""
  command = [sys.executable, ONE_ROUND, *map(str, cell)]
  variables = os.environ | {'TF_ONEDNN_USE_SYSTEM_ALLOCATOR': ALLOCATORS[allocator]}
  done = subprocess.run(command, capture_output=True, text=True, check=True, env=variables)
  return json.loads(done.stdout.splitlines()[-1]) | {'allocator': allocator}


def peaks(runs: list[dict]) -> dict:
  """Median peak above an idle process, over one client's values, by cell and allocator."""
  found = {}
  for allocator in ALLOCATORS:
    for cell in CELLS:
      idle = statistics.median(run['megabytes_peak'] for run in of(runs, IDLE, allocator))
      own = of(runs, cell, allocator)
      peak = statistics.median(run['megabytes_peak'] for run in own) - idle
      found[f'{cell[0]} x {cell[1]:,}, {allocator}'] = round(
        peak / own[0]['megabytes_of_one_value'], 2
      )
  return found


def growth(runs: list[dict]) -> dict:
  """Wall time and CPU for twice as much over that before: medians, lowest and highest."""
  once, clients, values = (
    [run['seconds_wall_cpu'] for run in of(runs, cell, 'pool')] for cell in GROWTH
  )
  found = {}
  for name, twice in (('clients', clients), ('values', values)):
    ratios = [[b / a for a, b in zip(*pair, strict=True)] for pair in zip(once, twice, strict=True)]
    found[name] = [round(statistics.median(column), 2) for column in zip(*ratios, strict=True)]
    wall = [ratio[0] for ratio in ratios]
    found[f'{name}, spread of wall'] = [round(min(wall), 2), round(max(wall), 2)]
  return found


def of(runs: list[dict], cell: tuple[int, int], allocator: str) -> list[dict]:
  return [
    run for run in runs if ((run['clients'], run['values']), run['allocator']) == (cell, allocator)
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json')
  parser.add_argument('--times', type=int, default=5)
  args = parser.parse_args()
  runs = []
  for _ in range(args.times):
    for allocator in ALLOCATORS:
      runs += [one_round(cell, allocator) for cell in (IDLE, *CELLS)]
    runs += [one_round(cell, 'pool') for cell in GROWTH]
  runs += [one_round(cell, 'pool') for cell in (IDLE, MANY)]
  found = {
    'environment': environment(),
    'peak_over_one_value': peaks(runs),
    'growth': growth(runs),
    'growth_of': [f'{clients} x {values:,}' for clients, values in GROWTH],
    'runs': runs,
  }
  for name in ('peak_over_one_value', 'growth'):
    print(table([name, ''], list(found[name].items())))
  write_json(args.json, found)


if __name__ == '__main__':
  main()

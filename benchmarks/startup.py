"""How long a party takes to start, in units of `import tensorflow`, and the report of many rounds.

python benchmarks/startup.py [--json FILE] [--times 5] [--rounds 10000]
"""

import argparse
import csv
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

from _measure import environment, table, write_json

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / 'examples' / 'hospitals'), str(ROOT / 'tests' / 'reports')]

# A party ends where it would begin to wait for the others.
SERVER = """
import os, sys, time
from tff_privacy_agg.deployment import coordinator
listen = coordinator.Coordinator.__init__
def init(self, **kwargs):
  listen(self, **kwargs)
  print('CPU', time.process_time(), flush=True)
  os._exit(0)
coordinator.Coordinator.__init__ = init
from tff_privacy_agg.cli import main
main(['serve', '--config', sys.argv[1]])
"""
CLIENT = """
import os, sys, time
from tff_privacy_agg.deployment import participant
def serve(self, work):
  print('CPU', time.process_time(), flush=True)
  os._exit(0)
participant.Participant.serve = serve
from tff_privacy_agg.cli import main
main(['client', '--config', sys.argv[1]])
"""
IMPORT = "import time, {}; print('CPU', time.process_time())"


def starts(directory: pathlib.Path, times: int) -> dict:
  """Seconds of wall and CPU from a process's begin until it listens, or asks the server."""
  import run as hospitals

  hospitals.prepare(directory, 1)
  commands = {
    'import tensorflow': [IMPORT.format('tensorflow')],
    'import tensorflow_federated': [IMPORT.format('tensorflow_federated')],
    'server': [SERVER, str(directory / 'server.toml')],
    'client': [CLIENT, str(directory / 'north.toml')],
  }
  found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
  for _ in range(times):
    for name, command in commands.items():
      begun = time.perf_counter()
      done = subprocess.run(
        [sys.executable, '-c', *command], capture_output=True, text=True, check=False
      )
      cpu = float(done.stdout.rpartition('CPU ')[2])
      found[name].append((time.perf_counter() - begun, cpu))
  medians = {
    name: [round(statistics.median(column), 3) for column in zip(*values, strict=True)]
    for name, values in found.items()
  }
  base = medians['import tensorflow']
  over = {
    name: [round(one / other, 3) for one, other in zip(values, base, strict=True)]
    for name, values in medians.items()
  }
  return {'seconds_wall_cpu': medians, 'over_import_tensorflow': over}


def report(directory: pathlib.Path, rounds: int) -> dict:
  """The page of a training of so many rounds: CPU of the whole command, and its size."""
  from report_runs import CONFIG, PrivacyLedger, facts, write_json as write

  directory.mkdir()
  write(directory / 'config.json', CONFIG)
  write(directory / 'privacy.json', {'private': True})
  chance = random.Random(0)
  with PrivacyLedger(directory / 'ledger.jsonl', facts()) as ledger:
    for number in range(1, rounds + 1):
      charge = ledger.charge(number, planned_survivors=10)
      ledger.settle(
        charge, survivors=chance.choice((8, 9, 10)), counted_by='runtime', accepted=True
      )
  with (directory / 'metrics.csv').open('w', newline='', encoding='utf-8') as file:
    rows = csv.writer(file)
    rows.writerow(['round', 'accuracy', 'loss', 'clipping/norm', 'clipping/below', 'zeroing/above'])
    for number in range(1, rounds + 1):
      noise = chance.random()
      rows.writerow([number, 0.9 * noise, 2 - noise, 1 + noise, 0.8, 0.1])
  code = (
    'import sys, time; from tff_privacy_agg.cli import main; main(["report", sys.argv[1]]); '
    'print("CPU", time.process_time())'
  )
  begun = time.perf_counter()
  done = subprocess.run(
    [sys.executable, '-c', code, directory], capture_output=True, text=True, check=True
  )
  return {
    'rounds': rounds,
    'seconds_wall_cpu': [
      round(time.perf_counter() - begun, 3),
      round(float(done.stdout.rpartition('CPU ')[2]), 3),
    ],
    'megabytes': round((directory / 'report.html').stat().st_size / 1e6, 3),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json')
  parser.add_argument('--times', type=int, default=5)
  parser.add_argument('--rounds', type=int, default=10_000)
  args = parser.parse_args()
  with tempfile.TemporaryDirectory() as folder:
    where = pathlib.Path(folder)
    found = {
      'environment': environment(),
      'start': starts(where / 'hospitals', args.times),
      'report': report(where / 'run', args.rounds),
    }
  rows = [
    (name, *values, *found['start']['over_import_tensorflow'][name])
    for name, values in found['start']['seconds_wall_cpu'].items()
  ]
  print(table(['', 's wall', 's CPU', 'x import tensorflow, wall', 'CPU'], rows))
  print(json.dumps(found['report']))
  write_json(args.json, found)


if __name__ == '__main__':
  main()

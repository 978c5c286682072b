"""Measures how a round grows: with values, clients, memory, new cohort sizes; and pure-Python protobuf."""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import rounds
import tensorflow as tf

import tff_privacy_agg as tpa

MEMORY_DIM, FEW, MANY = 1_000_000, 5, 25
LARGE_DIM = 10_000_000
COMPARED = (rounds.SUM, rounds.EMPTY, rounds.PHILOX, rounds.CHACHA)


def candidate(name: str, dim: int, clients: int):
  process = rounds.factory(name, clients).create(rounds.value_type(dim))
  return rounds.run_in_worker(process, dim, clients)


def growth(small: tuple[int, int], large: tuple[int, int], repeats: int) -> dict:
  """Cost at `large` over that at `small`, (clients, values) each, in turn in one context."""
  found = {}
  with tpa.runtime.simulation_context():
    for name in COMPARED:
      costs, failed = measure.interleave(
        {str(size): candidate(name, size[1], size[0]) for size in (small, large)}, repeats, 1
      )
      if failed:
        raise RuntimeError(f'{name}: {failed}')
      before, after = costs[str(small)], costs[str(large)]
      found[name] = [round(after.wall / before.wall, 2), round(after.cpu / before.cpu, 2)]
      print(f'measured growth of {name}', file=sys.stderr, flush=True)
  return found


def peak_bytes(name: str, dim: int, clients: int) -> int:
  """The worker's largest resident size in three rounds of its own."""
  with tpa.runtime.simulation_context():
    run = candidate(name, dim, clients)
    for _ in range(3):
      run()
    (pid,) = measure.worker_pids()
    status = pathlib.Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
  (line,) = (line for line in status.splitlines() if line.startswith('VmHWM'))
  return 1024 * int(line.split()[1])


def memory() -> dict:
  """Bytes of a further client over those of its value; and a whole large round over its values."""
  found = {}
  for name in COMPARED:
    few, many = (peak_bytes(name, MEMORY_DIM, clients) for clients in (FEW, MANY))
    large = peak_bytes(name, LARGE_DIM, 10)
    found[name] = {
      'per_client_over_value': round((many - few) / (MANY - FEW) / (4 * MEMORY_DIM), 2),
      'peak_of_10_x_10m_over_values': round(large / (4 * LARGE_DIM * 10), 2),
      'peak_of_10_x_10m_bytes': large,
    }
    print(f'measured memory of {name}', file=sys.stderr, flush=True)
  return found


def new_cohort_size(repeats: int, dim: int = 10_000) -> dict:
  """Extra time of the first round with a number of clients that was not there before, medians.

  Over that of TFF's own inner factory; wall, and the CPU time of this process and the worker.
  Each in a context of its own: what TFF sets up for a number of clients serves all programs.
  """
  medians = {}
  for name in (rounds.SUM, rounds.EMPTY, rounds.PHILOX, rounds.CHACHA, rounds.UPSTREAM):
    extra = []
    with tpa.runtime.simulation_context():
      pids = [os.getpid(), *measure.worker_pids()]
      process = rounds.factory(name, 100).create(rounds.value_type(dim))
      state = process.initialize()
      for clients in range(4, 5 + repeats):
        values = rounds.client_values(dim, clients)
        spent = []
        for _ in range(4):
          cpu, wall = sum(map(measure.cpu_seconds, pids)), time.perf_counter()
          state = process.next(state, values).state
          wall = time.perf_counter() - wall
          spent.append((wall, sum(map(measure.cpu_seconds, pids)) - cpu))
        if clients > 4:  # the very first also compiles
          first, *again = spent
          usual = [statistics.median(kind) for kind in zip(*again, strict=True)]
          extra.append([one - other for one, other in zip(first, usual, strict=True)])
    medians[name] = [statistics.median(kind) for kind in zip(*extra, strict=True)]
    print(f'measured a new number of clients of {name}', file=sys.stderr, flush=True)
  theirs = medians[rounds.UPSTREAM]
  return {
    'over_upstream': {
      name: [round(mine / other, 2) for mine, other in zip(pair, theirs, strict=True)]
      for name, pair in medians.items()
    },
    'seconds_here': {n: [round(x, 4) for x in pair] for n, pair in medians.items()},
  }


def alone(name: str, repeats: int) -> dict:
  """create + initialize + first round, and a steady round, for 10 clients of 10,000 values."""
  values = rounds.client_values(10_000, 10)
  tpa.runtime.simulation_context()
  pids = [os.getpid(), *measure.worker_pids()]

  def now():
    return time.perf_counter(), sum(map(measure.cpu_seconds, pids))

  def since(start):
    return [round(b - a, 4) for a, b in zip(start, now(), strict=True)]

  start = now()
  process = rounds.factory(name, 10).create(rounds.value_type(10_000))
  state = process.next(process.initialize(), values).state
  first, steady = since(start), []
  for _ in range(repeats):
    start = now()
    state = process.next(state, values).state
    steady.append(since(start))
  return {
    'first': first,
    'steady': [statistics.median(kind) for kind in zip(*steady, strict=True)],
  }


def python_protobuf(repeats: int) -> dict:
  """TFF's own with protobuf in Python, which has no nesting limit; ours as installed."""

  def run(name, implementation):
    command = [sys.executable, __file__, '--alone', name, '--rounds', str(repeats)]
    environment = dict(os.environ, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)
    output = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    print(f'measured {name} with {implementation} protobuf', file=sys.stderr, flush=True)
    return json.loads(output.stdout.splitlines()[-1])

  theirs = run(rounds.UPSTREAM_FULL, 'python')
  ours = {name: run(name, 'upb') for name in (rounds.PHILOX, rounds.CHACHA)}
  return {
    'seconds_here': {rounds.UPSTREAM_FULL: theirs, **ours},
    'upstream_over_ours': {
      name: {
        part: [round(a / b, 1) for a, b in zip(theirs[part], found[part], strict=True)]
        for part in ('first', 'steady')
      }
      for name, found in ours.items()
    },
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--rounds', type=int, default=7)
  parser.add_argument('--without-python-protobuf', action='store_true', help='minutes less')
  parser.add_argument('--alone', metavar='NAME', help=argparse.SUPPRESS)
  args = parser.parse_args()
  tf.get_logger().setLevel('CRITICAL')
  if args.alone:
    print(json.dumps(alone(args.alone, args.rounds)))
    return 0

  environment = measure.environment()
  print(environment)
  measure.lift_nesting_limit()
  found = {
    'environment': environment,
    'new_cohort_size': new_cohort_size(args.rounds),
    'values_1m_to_10m': growth((10, 1_000_000), (10, LARGE_DIM), max(3, args.rounds // 2)),
    'clients_100_to_1000': growth((100, 10_000), (1000, 10_000), args.rounds),
    'memory': memory(),
  }
  if not args.without_python_protobuf:
    found['python_protobuf'] = python_protobuf(args.rounds)
  found['load_average_after'] = [round(load, 2) for load in os.getloadavg()]
  print(json.dumps(found, indent=2))
  measure.write_json(args.json, found)
  return 0


if __name__ == '__main__':
  sys.exit(main())

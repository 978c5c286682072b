"""What a privacy ledger costs a round, and how that grows with the rounds behind it.

    python benchmarks/ledger.py [--rounds 100000] [--json FILE]

Rounds are charged and settled in ledgers that already hold 0, a tenth and all of the
rounds; then the longest is read, its epsilon computed from the file, and verified. The floor of
reading is the JSON and the SHA-256 of each line; of verifying, those of the register's lines too.
Memory is the most that a process that reads or verifies holds beyond one that does neither. With
`cohort`: 100 ids of 10,000 clients a round, hashed and recorded, and their sampling claimed.
Every line is synced to the disk in what is measured, and in nothing else. Wall time includes
the wait for the disk, CPU time does not.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest.mock
from collections.abc import Callable

import _measure
import numpy as np

from tff_privacy_agg import accounting
from tff_privacy_agg.ledger import LedgerFacts, LedgerRecord, PrivacyLedger, Sampling, verify
from tff_privacy_agg.ledger.costs.rounds import price_of

MEASURED = 100
POPULATION, COHORT = 10_000, 100
CLAIM = Sampling(kind='without_replacement', population=POPULATION, cohort=COHORT)
GOALS = {'round_ms': 10.0, 'read_over_floor': 2.5, 'verify_over_floor': 4.0}


def facts(claim: Sampling) -> LedgerFacts:
  """Discrete Gaussian noise of multiplier 100 on a million coordinates, no further channels."""
  design = accounting.solve(
    noise_multiplier=100.0,
    cohort_maximum=COHORT,
    minimum_honest=80,
    bits=26,
    dimension=2**20,
    mechanism='discrete_gaussian',
  )
  stack = {
    'mechanism': 'discrete_gaussian',
    'adjacency': 'zero_out',
    'holds_against_server': True,
    'noise_multiplier': 0.0,
    'cohort': {
      'expected': COHORT,
      'maximum': COHORT,
      'minimum': 80,
      'colluding_fraction': 0.0,
    },
    'integer_design': dataclasses.asdict(design),
    'channels': [],
    'public': ['number of survivors'],
    'sampler_distance_per_round': 1e-20,
    'layers': [],
  }
  stack['noise_multiplier'] = price_of(stack).noise_multiplier(80)
  return LedgerFacts(
    stack=stack, delta=1e-6, population=POPULATION, minimum_clients=80, sampling=claim
  )


def rounds_of(claim: Sampling) -> Callable[[PrivacyLedger], None]:
  """Runs one round: with a cohort where its sampling is claimed, else of 80 to 100 survivors."""
  rng = np.random.default_rng(0)
  ids = [f'client {number}' for number in range(POPULATION)]

  def run(ledger: PrivacyLedger) -> None:
    number = ledger.state.rounds
    if not claim.claims:
      ledger.settle(ledger.charge(number), survivors=80 + number % 21, counted_by='runtime')
      return
    cohort = [ids[index] for index in rng.choice(POPULATION, COHORT, replace=False)]
    ledger.settle(
      ledger.charge(number, cohort=cohort, drawn=claim), survivors=COHORT, counted_by='runtime'
    )

  return run


def costs_of(action: Callable[[], object], times: int) -> _measure.Cost:
  """Median wall and CPU time of one call, seconds."""
  walls, cpus = [], []
  for _ in range(times):
    wall, cpu = time.monotonic(), time.process_time()
    action()
    walls.append(time.monotonic() - wall)
    cpus.append(time.process_time() - cpu)
  return _measure.Cost(float(np.median(walls)), float(np.median(cpus)))


def ratios(path: pathlib.Path) -> dict:
  """CPU time of reading and of verifying, over the floor; each by turns, the least of three."""
  register = path.with_name(f'{path.name}.participants')
  actions = {
    'floor': lambda: parse(path),
    'read': lambda: LedgerRecord.read(path).epsilon('server'),
    'floor_with_register': lambda: [parse(one) for one in (path, register) if one.exists()],
    'verify': lambda: verify(path),
  }
  cpu = dict.fromkeys(actions, float('inf'))
  for _ in range(3):
    for name, action in actions.items():
      cpu[name] = min(cpu[name], costs_of(action, 1).cpu)
  return {
    'cpu_s': {name: round(seconds, 3) for name, seconds in cpu.items()},
    'read_over_floor': round(cpu['read'] / cpu['floor'], 2),
    'verify_over_floor': round(cpu['verify'] / cpu['floor_with_register'], 2),
  }


def parse(path: pathlib.Path) -> None:
  """The floor: what no reader of JSON lines with hashes can do without."""
  with path.open('rb') as file:
    for line in file:
      json.loads(line)
      hashlib.sha256(line).hexdigest()


def memory(path: pathlib.Path, what: str) -> float:
  """Most memory, in MB, of a process that reads or verifies a ledger, or just its header."""
  script = (
    'import resource, sys, pathlib\n'
    'from tff_privacy_agg import ledger\n'
    'path = pathlib.Path(sys.argv[1])\n'
    "head = path.with_name('header.jsonl')\n"
    "head.write_bytes(path.open('rb').readline())\n"
    "use = {'verify': ledger.verify, 'read': ledger.LedgerRecord.read}.get(sys.argv[2])\n"
    'use(path) if use else ledger.verify(head)\n'
    'print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(path), what], capture_output=True, text=True, check=True
  )
  return int(done.stdout) / 1024


def measure(claim: Sampling, rounds: int, directory: pathlib.Path) -> dict:
  """Costs of one kind of ledger, at several lengths."""
  path = directory / f'{claim.kind}.jsonl'
  run = rounds_of(claim)
  found: dict = {'round_ms': {}}
  with PrivacyLedger(path, facts(claim)) as ledger:
    for length in (0, rounds // 10, rounds):
      with unittest.mock.patch('os.fdatasync', return_value=None):
        while ledger.state.rounds < length:
          run(ledger)
      cost = costs_of(lambda: run(ledger), MEASURED)
      found['round_ms'][str(length)] = [round(1000 * cost.wall, 3), round(1000 * cost.cpu, 3)]
    stated = ledger.epsilon('release')
    found['epsilon_in_memory_ms'] = costs_of(lambda: ledger.epsilon('server'), 20).rounded(6)
  found |= ratios(path)
  found['megabytes'] = round(os.path.getsize(path) / 1e6, 2)
  found['memory_mb'] = {
    name: round(memory(path, name) - memory(path, 'header'), 1) for name in ('read', 'verify')
  }
  if LedgerRecord.read(path).epsilon('release') != stated:
    raise RuntimeError('The file gives another epsilon than the ledger that wrote it.')
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--rounds', type=int, default=100_000)
  parser.add_argument('--json')
  args = parser.parse_args()
  result = {'environment': _measure.environment(), 'rounds': args.rounds, 'goals': GOALS}
  with tempfile.TemporaryDirectory() as directory:
    for name, claim in (('plain', Sampling()), ('cohort', CLAIM)):
      found = measure(claim, args.rounds, pathlib.Path(directory))
      first, *_, last = found['round_ms'].values()
      found['growth_of_cpu'] = round(last[1] / first[1], 2)
      result[name] = found
      print(f'{name}: [wall, CPU]')
      for length, cost in found['round_ms'].items():
        print(f'  one round after {length}: {cost} ms (goal {GOALS["round_ms"]:g} ms)')
      print(f'  CPU time of a round, the last over the first: {found["growth_of_cpu"]}')
      for name in ('read', 'verify'):
        ratio, goal = found[f'{name}_over_floor'], GOALS[f'{name}_over_floor']
        print(f'  {name}: {ratio} times its floor (goal {goal:g}), {found["memory_mb"][name]} MB')
      print(f'  the file has {found["megabytes"]} MB')
  _measure.write_json(args.json, result)


if __name__ == '__main__':
  main()

"""Measures a round of aggregation next to TFF's own aggregators: ratios of one run."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from _round_floors import BITS, EmptyRoundFactory, ModularSumFactory
from tensorflow_federated.python.aggregators import distributed_dp

import tff_privacy_agg as tpa

# TFF's own adaptive clip refuses 1.0 and more for 10 clients.
NOISE_MULTIPLIER = 0.5
SUM, MODULAR, EMPTY = 'tff sum', 'modular sum', 'empty round'
CHACHA, PHILOX = 'ours, chacha20', 'ours, philox'
UPSTREAM, UPSTREAM_MEAN, UPSTREAM_FULL = 'tff ddp sum', 'tff ddp', 'tff ddp + zeroing'
OURS = (CHACHA, PHILOX)
THEIRS = (UPSTREAM, UPSTREAM_MEAN, UPSTREAM_FULL)
LEGEND = f"""\
{SUM}: `tff.aggregators.SumFactory`, the sum in the clear
{MODULAR}: a cast to int32 and one `federated_secure_modular_sum`, nothing else
{EMPTY}: state, broadcast, map, modular sum and map as in ours, with nothing computed: the floor
{CHACHA} and {PHILOX}: Mean, adaptive Zeroing, adaptive Clipping, HadamardRotation, Quantization,
  DiscreteGaussianNoise, SecureModularSum({BITS}), with either generator
{UPSTREAM}: TFF's own `DistributedDpSumFactory` (hd, {BITS} bits, Skellam; fixed clip, no zeroing or mean)
{UPSTREAM_MEAN}: TFF's `tff.learning.ddp_secure_aggregator(zeroing=False)`
{UPSTREAM_FULL}: the same with zeroing: what the full stack above replaces"""

# What the goals in docs/performance.md name: mode, clients, values.
CELLS = (
  'A:10x10000,A:10x100000,A:10x1000000,B:10x10000,B:100x10000,B:1000x10000,B:10x100000,B:10x1000000'
)
_MODES = {
  'A': 'client values are numpy arrays given to `process.next`',
  'B': 'client values are made in the worker, and one number comes back',
}


def stack(clients: int, randomness: str, noise_multiplier: float = NOISE_MULTIPLIER):
  return tpa.compose(
    [
      tpa.Mean(),
      tpa.Zeroing(
        threshold=tpa.AdaptiveQuantile(initial=10.0, target=0.98, multiplier=2.0, increment=1.0)
      ),
      tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=0.1, target=0.5)),
      tpa.HadamardRotation(),
      tpa.Quantization(),
      tpa.DiscreteGaussianNoise(noise_multiplier=noise_multiplier),
      tpa.SecureModularSum(bits=BITS),
    ],
    cohort=tpa.Cohort(expected=clients),
    randomness=randomness,
  )


def factory(name: str, clients: int, noise_multiplier: float = NOISE_MULTIPLIER):
  if name == SUM:
    return tff.aggregators.SumFactory()
  if name == MODULAR:
    return ModularSumFactory()
  if name == EMPTY:
    return EmptyRoundFactory()
  if name in OURS:
    return stack(clients, 'chacha20' if name == CHACHA else 'philox', noise_multiplier)
  if name == UPSTREAM:
    return distributed_dp.DistributedDpSumFactory(
      noise_multiplier=noise_multiplier,
      expected_clients_per_round=clients,
      bits=BITS,
      l2_clip=0.1,
      mechanism='distributed_skellam',
      rotation_type='hd',
    )
  return tff.learning.ddp_secure_aggregator(
    noise_multiplier, clients, bits=BITS, zeroing=name == UPSTREAM_FULL
  )


NAMES = (SUM, MODULAR, EMPTY, CHACHA, PHILOX, *THEIRS)


def value_type(dim: int):
  return tff.TensorType(np.float32, [dim])


def client_values(dim: int, clients: int) -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  return [(rng.standard_normal(dim) * (0.1 / dim**0.5)).astype(np.float32) for _ in range(clients)]


def run_from_python(process, dim: int, clients: int) -> Callable[[], None]:
  values = client_values(dim, clients)
  return measure.stepper(process.initialize(), lambda state: process.next(state, values).state)


def run_in_worker(process, dim: int, clients: int) -> Callable[[], None]:
  @tff.tensorflow.computation(np.int32)
  def make(number):
    return tf.fill([dim], tf.cast(1 + number % 2, tf.float32) * np.float32(0.05 / dim**0.5))

  @tff.tensorflow.computation(process.next.type_signature.result.result.member)
  def one_number(result):
    return tf.reduce_sum(tf.cast(result, tf.float32))

  @tff.federated_computation(
    process.initialize.type_signature.result, tff.FederatedType(np.int32, tff.CLIENTS)
  )
  def next_round(state, numbers):
    output = process.next(state, tff.federated_map(make, numbers))
    return output.state, tff.federated_map(one_number, output.result)

  numbers = [np.int32(i) for i in range(clients)]
  return measure.stepper(process.initialize(), lambda state: next_round(state, numbers)[0])


_RUNNERS = {'A': run_from_python, 'B': run_in_worker}


def cell(mode: str, dim: int, clients: int, rounds: int) -> dict[str, Any]:
  candidates, failed = {}, {}
  for name in NAMES:
    try:
      process = factory(name, clients).create(value_type(dim))
      candidates[name] = _RUNNERS[mode](process, dim, clients)
    except Exception as error:
      failed[name] = measure.first_line(error)
  costs, failed_later = measure.interleave(candidates, rounds)
  base = costs[SUM]
  return {
    'mode': mode,
    'dim': dim,
    'clients': clients,
    'rounds': rounds,
    'wall_over_sum': {name: round(cost.wall / base.wall, 2) for name, cost in costs.items()},
    'cpu_over_sum': {
      name: round(cost.cpu / base.cpu, 2) if base.cpu else None for name, cost in costs.items()
    },
    'seconds_here': {name: round(cost.wall, 4) for name, cost in costs.items()},
    'worker_cpu_seconds_here': {name: round(cost.cpu, 4) for name, cost in costs.items()},
    'failed': {**failed, **failed_later},
  }


def upstream_over_ours(found: dict[str, Any]) -> dict[str, dict[str, float]]:
  """How many times slower each of TFF's own is, wall and worker CPU."""
  return {
    ours: {
      f'{theirs}, {kind}': round(found[key][theirs] / found[key][ours], 2)
      for theirs in THEIRS
      for kind, key in (('wall', 'seconds_here'), ('cpu', 'worker_cpu_seconds_here'))
      if theirs in found[key] and ours in found[key] and found[key][ours]
    }
    for ours in OURS
  }


def as_installed(dim: int = 10_000, clients: int = 10) -> dict[str, str]:
  """Whether TFF's own aggregators run with protobuf's nesting limit in place."""
  found = {}
  for name in (CHACHA, *THEIRS):
    try:
      process = factory(name, clients).create(value_type(dim))
      run_from_python(process, dim, clients)()
      found[name] = 'runs'
    except Exception as error:
      found[name] = measure.first_line(error)
  return found


def first_rounds(dim: int = 10_000, clients: int = 10, repeats: int = 3) -> dict[str, measure.Cost]:
  """What it takes to create, initialize and run the first round: medians.

  The CPU time is that of this process and of the worker together.

  Each repeat has another noise multiplier, so that no table of an earlier one serves.
  """
  walls: dict[str, list[float]] = {name: [] for name in NAMES}
  cpus: dict[str, list[float]] = {name: [] for name in NAMES}
  values = client_values(dim, clients)
  pids = [os.getpid(), *measure.worker_pids()]
  for repeat in range(repeats):
    for position, name in enumerate(NAMES):
      noise_multiplier = NOISE_MULTIPLIER + 0.01 * (1 + repeat) + 0.001 * position
      cpu, started = sum(map(measure.cpu_seconds, pids)), time.perf_counter()
      try:
        process = factory(name, clients, noise_multiplier).create(value_type(dim))
        process.next(process.initialize(), values)
      except Exception:
        continue
      walls[name].append(time.perf_counter() - started)
      cpus[name].append(sum(map(measure.cpu_seconds, pids)) - cpu)
  return {
    name: measure.Cost(statistics.median(walls[name]), statistics.median(cpus[name]))
    for name in NAMES
    if walls[name]
  }


def print_cells(cells: list[dict[str, Any]]) -> None:
  for mode, meaning in _MODES.items():
    chosen = [found for found in cells if found['mode'] == mode]
    if not chosen:
      continue
    print(f'\nMode {mode}: {meaning}.\n')
    rows = []
    for found in chosen:
      row = [f'{found["clients"]} x {found["dim"]:,}']
      for name in NAMES:
        wall, cpu = found['wall_over_sum'].get(name), found['cpu_over_sum'].get(name)
        row.append('failed' if wall is None else f'{wall:.2f} ({"-" if cpu is None else cpu})')
      rows.append(row)
    print(measure.table(['x tff sum: wall (worker CPU)', *NAMES], rows))
    rows = []
    for found in chosen:
      ratios = upstream_over_ours(found)
      row = [f'{found["clients"]} x {found["dim"]:,}']
      for ours in OURS:
        for theirs in THEIRS:
          wall, cpu = (ratios[ours].get(f'{theirs}, {kind}', '-') for kind in ('wall', 'cpu'))
          row.append(f'{wall} ({cpu})')
      rows.append(row)
    header = [f'{theirs} / {ours}' for ours in OURS for theirs in THEIRS]
    print('\n' + measure.table(['wall (worker CPU)', *header], rows))
    for found in chosen:
      for name, error in found['failed'].items():
        print(f'{name} at {found["clients"]} x {found["dim"]:,} failed: {error}')


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quick', action='store_true', help='10 clients, 10,000 values only')
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--cells', default=CELLS, help='MODE:CLIENTSxVALUES, ...')
  parser.add_argument('--rounds', type=int, default=7, help='after two rounds of warm-up')
  args = parser.parse_args()
  wanted = 'A:10x10000,B:10x10000' if args.quick else args.cells

  tf.get_logger().setLevel('CRITICAL')  # TFF's own layers leave unused assertions behind
  environment = measure.environment()
  print(environment)
  print(LEGEND)
  tpa.runtime.simulation_context()
  # TensorFlow, gRPC and the worker warm up on something that is not measured.
  warm = tff.aggregators.SumFactory().create(value_type(1000))
  for _ in range(3):
    warm.next(warm.initialize(), client_values(1000, 10))

  installed = as_installed()
  print('\nAs installed, 10 clients, 10,000 values:')
  for name, outcome in installed.items():
    print(f'  {name}: {outcome}')
  lifted = measure.lift_nesting_limit()
  print(
    'protobuf: its limit of 100 nested messages is lifted from here on, by a private switch, '
    "for TFF's own aggregators."
    if lifted
    else "protobuf: no switch for its nesting limit here; TFF's own aggregators run as they can."
  )

  first = first_rounds()
  print('\ncreate + initialize + first round, 10 clients, 10,000 values, worker warm:\n')
  base = first[CHACHA]
  rows = [
    [name, f'{cost.wall / base.wall:.2f} ({cost.cpu / base.cpu:.2f})', *cost.rounded(2)]
    for name, cost in first.items()
  ]
  header = ['', f'x {CHACHA}: wall (CPU)', 'wall s on this machine', 'CPU s on this machine']
  print(measure.table(header, rows))

  cells = []
  for text in wanted.split(','):
    mode, size = text.split(':')
    clients, dim = map(int, size.split('x'))
    cells.append(cell(mode, dim, clients, args.rounds))
    print(f'measured mode {mode}, {clients} x {dim:,}', file=sys.stderr, flush=True)
  print_cells(cells)
  measure.write_json(
    args.json,
    {
      'environment': environment,
      'load_average_after': [round(load, 2) for load in os.getloadavg()],
      'nesting_limit_lifted': lifted,
      'as_installed': installed,
      'first_round_seconds_here': {name: cost.rounded(3) for name, cost in first.items()},
      'first_round_over_chacha20': {
        name: [round(cost.wall / base.wall, 2), round(cost.cpu / base.cpu, 2)]
        for name, cost in first.items()
      },
      'cells': [{**found, 'upstream_over_ours': upstream_over_ours(found)} for found in cells],
    },
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())

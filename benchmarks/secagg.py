"""Secure aggregation next to its floors: ratios of CPU seconds, and of one core's wall seconds.

python benchmarks/secagg.py [--json FILE] [--repeat 15] [--scaling] [--largest 10000]
                            [--versions | --cases]

All but the comparison of versions is of version 1, keys from X25519 alone. The floors take one core;
`longest thread` is the CPU time of the busiest thread, what an idle machine takes in wall time.
"""

import argparse
import os

# One thread in the matrix product of the shares.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MKL_NUM_THREADS'] = '1'

import json
import pathlib
import platform
import statistics

import _secagg_floors as floors
import cryptography
import numpy as np
from _secagg_session import measured, session

import tff_privacy_agg
from tff_privacy_agg import secagg

# (clients, elements, drop-outs after the shares, goals by name)
CASES = [
  (32, 10**6, 0, {'unmask': 1.7, 'round2': 1.8, 'round2_span': 1.4, 'server_span': 3.1}),
  (32, 10**6, 3, {}),
  (100, 10**5, 10, {'unmask': 3.5}),
]
KERNEL_GOAL = 1.15
TAG_GOAL = 20
# CPU of a client with ML-KEM-768 over one without.
VERSIONS_GOAL = 2.5
EXPANSION_GOALS = [
  ('semi_honest', 'complete', 1.77),
  ('authenticated', 'complete', 1.83),
  ('semi_honest', 'ring', 1.64),
]


def machine():
  lines = pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
  model = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
  flags = next((line for line in lines if line.startswith('flags')), '').split()
  return {
    'tff_privacy_agg': tff_privacy_agg.__version__,
    'python': platform.python_version(),
    'cryptography': cryptography.__version__,
    'numpy': np.__version__,
    'cpu': model[0] if model else 'unknown',
    'cores': len(os.sched_getaffinity(0)),
    'vector_aes': 'vaes' in flags,
    'load_average': [round(load, 2) for load in os.getloadavg()],
  }


def against(goal, value):
  if goal is None:
    return ''
  return f' (goal {goal}: {"met" if value <= goal else "MISSED"})'


def kernels(repeat):
  found = {
    'kernel_ratio': floors.kernel_ratio(repeat),
    'packing_ns': floors.packing_ns(repeat),
    'tag_ns': floors.tag_ns(repeat),
  }
  ratio, tag = found['kernel_ratio'], found['tag_ns']
  print(f'mask kernel / (keystream + add): {ratio:.2f}{against(KERNEL_GOAL, ratio)}')
  print(
    'ns per element: pack {pack:.2f}, unpack into the sum {add_packed:.2f}'.format(
      **found['packing_ns']
    )
  )
  print(f'tag (verify=mac), ns per element: {tag:.1f}{against(TAG_GOAL, tag)}')
  return found


def cases(repeat):
  found = []
  for clients, elements, drops, goals in CASES:
    row = measured(clients, elements, drops, 'complete', repeat)
    found.append({'n': clients, 'd': elements, 'drops': drops} | row)
    print(
      f'n={clients} d={elements} drops={drops}: '
      f'server unmask / keystream {row["unmask_ratio"]:.2f}'
      + against(goals.get('unmask'), row['unmask_ratio'])
      + f' [median {row["unmask_ratio_median"]:.2f}]'
      + f', client round 2 / keystream {row["round2_ratio"]:.2f}'
      + against(goals.get('round2'), row['round2_ratio'])
      + f' [median {row["round2_ratio_median"]:.2f}]'
      + f', receipts / keystream {row["receipts"] / row["keystream_server"]:.2f}'
      + f', server / plain sum {row["server"] / row["plain_sum"]:.0f}'
    )
    for name in ('round2', 'server'):
      value, (low, high) = row[f'{name}_ratio_span'], row[f'{name}_ratio_span_spread']
      print(
        f'  {name}, longest thread / keystream: {value:.2f}'
        + against(goals.get(f'{name}_span'), value)
        + f' [{low:.2f} to {high:.2f}], wall {row[f"{name}_ratio_wall"]:.2f}'
        + f' [median {row[f"{name}_ratio_wall_median"]:.2f}]'
      )
  return found


def ring(repeat):
  row = measured(1000, 10**5, 100, 'ring', repeat)
  print(
    f'ring n=1000 d=100000 drops=100 (k={row["k"]:.0f}): client {row["client"] * 1e3:.1f} ms '
    f'(keystream {row["keystream_client"] * 1e3:.1f}), server {row["server"]:.3f} s, of it unmask '
    f'{row["unmask"]:.3f} (keystream {row["keystream_server"]:.3f})'
  )
  return {'n': 1000, 'd': 10**5, 'drops': 100} | row


def versions(repeat):
  """Versions 1 and 2 in turn, so that other work on the machine falls on both."""
  rows = {1: [], 2: []}
  for _ in range(repeat):
    for version, found in rows.items():
      found.append(session(1000, 10**5, 100, 'ring', version=version))
  figures = {
    f'version_{version}': {name: statistics.median(row[name] for row in found) for name in found[0]}
    for version, found in rows.items()
  }
  for name in ('client', 'server'):
    turns = [two[name] / one[name] for one, two in zip(rows[1], rows[2], strict=True)]
    figures[f'{name}_ratio'] = statistics.median(turns)
    figures[f'{name}_ratio_range'] = [min(turns), max(turns)]
  one, two, ratio = figures['version_1'], figures['version_2'], figures['client_ratio']
  low, high = figures['client_ratio_range']
  print(
    f'ML-KEM-768, ring n=1000 d=100000 drops=100 (k={one["k"]:.0f}), {repeat} turns: client '
    f'{two["client"] * 1e3:.1f} ms over {one["client"] * 1e3:.1f} ms = {ratio:.2f} '
    f'[{low:.2f} to {high:.2f}]{against(VERSIONS_GOAL, ratio)}, server {two["server"]:.2f} s over '
    f'{one["server"]:.2f} s'
  )
  for version in (1, 2):
    cost = secagg.communication_cost(
      1000, 10**5, floors.BITS, dropout_fraction=0.11, version=version
    )
    figures[f'version_{version}'] |= {'bytes_up': sum(cost.up), 'bytes_down': sum(cost.down)}
    print(f'  version {version}: {sum(cost.up):,} bytes up, {sum(cost.down):,} down')
  return figures


def expansion():
  found = []
  for mode, graph, goal in EXPANSION_GOALS:
    one, two = (
      secagg.communication_cost(
        1024, 2**20, 26, mode=mode, graph=graph, dropout_fraction=0.05, version=version
      ).expansion
      for version in (1, 2)
    )
    found.append({'mode': mode, 'graph': graph, 'expansion': one, 'expansion_version_2': two})
    print(f'expansion, {mode}, {graph}: {one:.3f}' + against(goal, one) + f', version 2: {two:.3f}')
  return found


def scaling(largest):
  """Growth with n at 1000 elements, 5 % dropped after the shares."""
  found = []
  print('    n    k  client ms  client us / k  server s  server us / (n k)  bytes up')
  for n in (32, 100, 320, 1000, 3200, 10_000):
    if n > largest:
      continue
    row = session(n, 1000, n // 20, 'auto', dropout_fraction=0.1)
    up = sum(secagg.communication_cost(n, 1000, floors.BITS, version=1).up)
    found.append({'n': n, 'd': 1000, 'drops': n // 20, 'bytes_up': up} | row)
    k, client, server = row['k'], row['client'], row['server']
    print(
      f'{n:5d} {k:4d}  {client * 1e3:9.2f}  {client / k * 1e6:13.1f}  {server:8.3f}  '
      f'{server / n / k * 1e6:17.2f}  {up:8d}'
    )
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--json', help='write all figures to this file')
  parser.add_argument('--repeat', type=int, default=15, help='sessions for each case')
  parser.add_argument('--scaling', action='store_true', help='also the table over n')
  parser.add_argument('--largest', type=int, default=10_000, help='largest n of that table')
  parser.add_argument('--versions', action='store_true', help='only versions 1 and 2 in turn')
  parser.add_argument('--cases', action='store_true', help='only kernels and complete graphs')
  options = parser.parse_args()
  figures = {'machine': machine(), 'unit': 'CPU seconds; ..._wall: wall seconds'}
  if not options.versions:
    figures |= kernels(options.repeat)
    figures['cases'] = cases(options.repeat)
  if not (options.versions or options.cases):
    figures['ring'] = ring(min(3, options.repeat))
  if not options.cases:
    figures['versions'] = versions(min(5, options.repeat))
    figures['expansion'] = expansion()
  if options.scaling:
    figures['scaling'] = scaling(options.largest)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()

"""Secure aggregation beside its floors and beside others. CPU-time ratios of one run, one thread.

python benchmarks/secagg.py [--json FILE] [--repeat 15] [--scaling] [--largest 10000] [--peers DIR]
"""

import argparse
import os

# One thread, also in the matrix product of the shares, here and in the peers.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MKL_NUM_THREADS'] = '1'

import json
import pathlib
import platform

import _secagg_floors as floors
import _secagg_peers as peers
import cryptography
import numpy as np
from _secagg_session import measured, session

import tff_privacy_agg
from tff_privacy_agg import secagg

# (clients, elements, drop-outs after the shares, goals by name)
CASES = [
  (32, 10**6, 0, {'unmask': 1.7, 'round2': 1.8}),
  (32, 10**6, 3, {}),
  (100, 10**5, 10, {'unmask': 3.5}),
]
KERNEL_GOAL = 1.15
TAG_GOAL = 20
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
  return found


def ring(repeat):
  row = measured(1000, 10**5, 100, 'ring', repeat)
  print(
    f'ring n=1000 d=100000 drops=100 (k={row["k"]:.0f}): client {row["client"] * 1e3:.1f} ms '
    f'(keystream {row["keystream_client"] * 1e3:.1f}), server {row["server"]:.3f} s, of it unmask '
    f'{row["unmask"]:.3f} (keystream {row["keystream_server"]:.3f})'
  )
  return {'n': 1000, 'd': 10**5, 'drops': 100} | row


def expansion():
  found = []
  for mode, graph, goal in EXPANSION_GOALS:
    cost = secagg.communication_cost(1024, 2**20, 26, mode=mode, graph=graph, dropout_fraction=0.05)
    found.append({'mode': mode, 'graph': graph, 'expansion': cost.expansion})
    print(f'expansion, {mode}, {graph}: {cost.expansion:.3f}' + against(goal, cost.expansion))
  return found


def scaling(largest):
  """Growth with n at 1000 elements, 5 % dropped after the shares."""
  found = []
  print('    n    k  client ms  client us / k  server s  server us / (n k)  bytes up')
  for n in (32, 100, 320, 1000, 3200, 10_000):
    if n > largest:
      continue
    row = session(n, 1000, n // 20, 'auto', dropout_fraction=0.1)
    up = sum(secagg.communication_cost(n, 1000, floors.BITS).up)
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
  parser.add_argument('--peers', help='also Flower and declearn, installed into this folder')
  options = parser.parse_args()
  figures = {'machine': machine(), 'unit': 'CPU seconds; ..._wall: wall seconds'}
  figures |= kernels(options.repeat)
  figures['cases'] = cases(options.repeat)
  figures['ring'] = ring(min(3, options.repeat))
  figures['expansion'] = expansion()
  if options.scaling:
    figures['scaling'] = scaling(options.largest)
  if options.peers:
    figures['peers'] = peers.compare(options.peers, min(3, options.repeat), print)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()

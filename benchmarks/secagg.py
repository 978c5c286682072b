"""Secure aggregation beside its floors: the AES keystream and the plain sum. Ratios of one run.

python benchmarks/secagg.py [--json FILE] [--repeat 5] [--scaling] [--largest 10000]
"""

import argparse
import os

# One thread, also in the matrix product of the shares.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MKL_NUM_THREADS'] = '1'

import json
import pathlib
import statistics
import time

import cryptography
import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import packing, prg, verify

BITS = 20
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


def timed(call, *args):
  start = time.perf_counter()
  result = call(*args)
  return time.perf_counter() - start, result


def keep(seconds, spent, result):
  seconds.append(spent)
  return result


def keystream_seconds(expansions, elements, itemsize):
  """The keystream of so many masks, by the loop of `prg.add_masks` without its additions."""
  scratch = memoryview(bytearray(prg.SEGMENT + 16))
  streams = [prg.Stream(os.urandom(32)) for _ in range(expansions)]
  sizes = [
    min(prg.SEGMENT, itemsize * elements - start)
    for start in range(0, itemsize * elements, prg.SEGMENT)
  ]
  start = time.perf_counter()
  for segment, size in enumerate(sizes):
    for stream in streams:
      stream.fill(0, segment, scratch, size)
  return time.perf_counter() - start


def addition_seconds(expansions, elements, itemsize):
  """The additions of so many masks, from one segment that stays in cache."""
  total = np.zeros(elements, f'<u{itemsize}')
  mask = np.frombuffer(os.urandom(prg.SEGMENT), total.dtype)
  step = mask.size
  start = time.perf_counter()
  for first in range(0, elements, step):
    piece = total[first : first + step]
    for _ in range(expansions):
      np.add(piece, mask[: piece.size], out=piece)
  return time.perf_counter() - start


def plain_sum_seconds(clients, elements):
  """The sum of so many vectors in the clear."""
  vector, total = np.ones(elements, np.uint32), np.zeros(elements, np.uint32)
  start = time.perf_counter()
  for _ in range(clients):
    np.add(total, vector, out=total)
  return time.perf_counter() - start


def session(clients, elements, drops, graph, mode='semi_honest', dropout_fraction=None):
  """Runs one session and returns its seconds by step, and the number of expansions."""
  fraction = dropout_fraction or max(0.1, round(drops / clients + 0.005, 2))
  params = secagg.SessionParams(
    task='benchmark',
    round_number=1,
    mode=mode,
    graph=graph,
    leaves=[secagg.Leaf('v', (elements,), BITS)],
    dropout_fraction=fraction,
  )
  identities = secagg.generate_identities(list(range(clients)))
  roster = secagg.roster_of(identities) if mode == 'authenticated' else None
  server = secagg.Server(params, roster)
  members = {
    c: secagg.Client(params, c, identities[c] if roster else None, roster) for c in range(clients)
  }
  values = {'v': np.random.default_rng(0).integers(0, 2**BITS, elements)}
  by_client = {c: 0.0 for c in members}
  round2, server_seconds, receipts = [], 0.0, []
  make_receipts = server._receipts
  server._receipts = lambda heard: keep(receipts, *timed(make_receipts, heard))
  incoming = dict.fromkeys(members)
  while server.result is None:
    now = server.round
    for c, message in incoming.items():
      if now >= 2 and c < drops:
        continue
      if now == 2:
        members[c].provide(values)
      call = (members[c].start,) if message is None else (members[c].receive, message)
      seconds, answer = timed(*call)
      by_client[c] += seconds
      if now == 2:
        round2.append(seconds)
      server_seconds += timed(server.receive, c, answer)[0]
    seconds, incoming = timed(server.close_round)
    server_seconds += seconds
    closing = seconds
  expected = values['v'] * (clients - drops) % 2**BITS
  if not np.array_equal(server.result.values['v'], expected):
    raise RuntimeError('The sum is wrong.')
  k = server._parameters.k
  graph_rows = server._graph.neighbours
  alive = np.arange(clients) >= drops
  expansions = clients - drops + int(alive[graph_rows[:drops]].sum())
  return {
    'k': k,
    't': server._parameters.t,
    'expansions': expansions,
    'client': statistics.median(by_client[c] for c in range(drops, clients)),
    'round2': statistics.median(round2),
    'server': server_seconds,
    'unmask': closing - receipts[0],
    'receipts': receipts[0],
  }


def median_of(rows):
  return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def measure(clients, elements, drops, graph, repeat):
  """Sessions and floors in turn; medians."""
  rows = []
  for _ in range(repeat):
    row = session(clients, elements, drops, graph)
    row['keystream_server'] = keystream_seconds(row['expansions'], elements, 4)
    row['keystream_client'] = keystream_seconds(row['k'] + 1, elements, 4)
    row['plain_sum'] = plain_sum_seconds(clients - drops, elements)
    row['unmask_ratio'] = row['unmask'] / row['keystream_server']
    row['round2_ratio'] = row['round2'] / row['keystream_client']
    rows.append(row)
  return median_of(rows)


def kernel(repeat, elements=10**6, masks=32):
  """The mask kernel over keystream plus additions."""
  vector = np.zeros(elements, np.uint32)
  seeds = [os.urandom(32) for _ in range(masks)]
  ratios = []
  for _ in range(repeat):
    whole = timed(prg.add_masks, [vector], seeds, [])[0]
    floor = keystream_seconds(masks, elements, 4) + addition_seconds(masks, elements, 4)
    ratios.append(whole / floor)
  return statistics.median(ratios)


def packing_ns(repeat, elements=10**6):
  words = packing.pad(np.arange(elements) % 2**BITS, BITS)
  packed = packing.pack(words, BITS)
  pack = min(timed(packing.pack, words, BITS)[0] for _ in range(repeat))
  unpack = min(timed(packing.unpack, packed, BITS)[0] for _ in range(repeat))
  return {'pack': pack / elements * 1e9, 'unpack': unpack / elements * 1e9}


def tag_ns(repeat, elements=10**6):
  words = packing.pad(np.arange(elements) % 2**BITS, BITS)
  seconds = min(timed(verify.tag, bytes(32), 0, words, BITS)[0] for _ in range(repeat))
  return seconds / elements * 1e9


def against(goal, value):
  if goal is None:
    return ''
  return f' (goal {goal}: {"met" if value <= goal else "MISSED"})'


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--json', help='write all figures to this file')
  parser.add_argument('--repeat', type=int, default=5, help='sessions for each case')
  parser.add_argument('--scaling', action='store_true', help='also the table over n')
  parser.add_argument('--largest', type=int, default=10_000, help='largest n of that table')
  options = parser.parse_args()
  figures = {
    'cryptography': cryptography.__version__,
    'numpy': np.__version__,
    'keystream': prg.Stream.__name__,
    'bits': BITS,
    'load_average': os.getloadavg()[0],
    'cases': [],
  }
  prg.keystream(bytes(32), 0, 0)
  figures['kernel_ratio'] = kernel(options.repeat)
  print(
    f'mask kernel / (keystream + add): {figures["kernel_ratio"]:.2f}'
    + against(KERNEL_GOAL, figures['kernel_ratio'])
  )
  figures['packing_ns'] = packing_ns(options.repeat)
  print(
    'packing, ns per element: pack {pack:.2f}, unpack {unpack:.2f}'.format(**figures['packing_ns'])
  )
  figures['tag_ns'] = tag_ns(options.repeat)
  print(
    f'tag (verify=mac), ns per element: {figures["tag_ns"]:.1f}'
    + against(TAG_GOAL, figures['tag_ns'])
  )
  for clients, elements, drops, goals in CASES:
    row = measure(clients, elements, drops, 'complete', options.repeat)
    figures['cases'].append({'n': clients, 'd': elements, 'drops': drops} | row)
    print(
      f'n={clients} d={elements} drops={drops}: '
      f'server unmask / keystream {row["unmask_ratio"]:.2f}'
      + against(goals.get('unmask'), row['unmask_ratio'])
      + f', client round 2 / keystream {row["round2_ratio"]:.2f}'
      + against(goals.get('round2'), row['round2_ratio'])
      + f', receipts / keystream {row["receipts"] / row["keystream_server"]:.2f}'
      + f', server / plain sum {row["server"] / row["plain_sum"]:.0f}'
    )
  row = measure(1000, 10**5, 100, 'ring', 1)
  figures['ring'] = {'n': 1000, 'd': 10**5, 'drops': 100} | row
  print(
    f'ring n=1000 d=100000 drops=100 (k={row["k"]:.0f}): client {row["client"] * 1e3:.1f} ms '
    f'(keystream {row["keystream_client"] * 1e3:.1f}), server {row["server"]:.3f} s, of it unmask '
    f'{row["unmask"]:.3f} (keystream {row["keystream_server"]:.3f})'
  )
  figures['expansion'] = []
  for mode, graph, goal in EXPANSION_GOALS:
    cost = secagg.communication_cost(1024, 2**20, 26, mode=mode, graph=graph, dropout_fraction=0.05)
    figures['expansion'].append({'mode': mode, 'graph': graph, 'expansion': cost.expansion})
    print(f'expansion, {mode}, {graph}: {cost.expansion:.3f}' + against(goal, cost.expansion))
  if options.scaling:
    figures['scaling'] = []
    print('    n    k  client ms  server s  server ms / client  bytes up')
    for n in (32, 100, 320, 1000, 3200, 10_000):
      if n > options.largest:
        continue
      row = session(n, 1000, n // 20, 'auto', dropout_fraction=0.1)
      up = sum(secagg.communication_cost(n, 1000, BITS).up)
      figures['scaling'].append({'n': n, 'bytes_up': up} | row)
      print(
        f'{n:5d} {row["k"]:4d}  {row["client"] * 1e3:9.2f}  {row["server"]:8.3f}  '
        f'{row["server"] / n * 1e3:18.3f}  {up:8d}'
      )
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()

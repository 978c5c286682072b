"""Secure sums in Python side by side: seconds, bytes, messages, drop-outs. CPU time, one thread.

python benchmarks/peers.py --folder DIR [--json FILE] [--repeat 3] [--small | --case N | --large]

`make bench-peers` runs this. Each peer has an environment of its own in DIR, which is kept.
"""

import argparse
import os

# One thread, also in the matrix product of the shares, here and in the peers.
os.environ['OPENBLAS_NUM_THREADS'] = '1'
os.environ['OMP_NUM_THREADS'] = '1'
os.environ['MKL_NUM_THREADS'] = '1'

import json
import pathlib
import subprocess

import _secagg_peers as peers
from secagg import machine

# (clients, elements, drop-outs after the shares): values of 20 bits, the same for all.
CASES = [(32, 10**6, 0), (50, 10**5, 5)]
LARGE = [(100, 10**5, 10)]
SMALL = [(10, 2000, 1)]


def run(case, folder, repeat):
  """One row for each program in one case, printed as it comes; what cannot run has `failed`."""
  where = {'n': case[0], 'd': case[1], 'asked_drops': case[2]}
  rows = []

  def add(found):
    for row in found:
      rows.append(where | row)
      print('  ' + shown(rows[-1]), flush=True)

  add(peers.ours(case, repeat))
  for name in peers.SCRIPTS:
    try:
      add(peers.measured(name, peers.environment(name, folder), case))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
      add([{'name': name, 'failed': str(error)}])
  return rows


def shown(row):
  if 'failed' in row:
    return f'{row["name"]}: not measured: {row["failed"]}'
  return (
    f'{row["name"]}: client {row["client"]:.3g} s, server {row["server"]:.3g} s, '
    f'{row["up"] / row["d"]:.2f} bytes an element up, {row["down"] / row["d"]:.2f} down, '
    f'{row["rounds"]} messages, {row["drops"]} dropped'
  )


def against_goals(rows, case):
  """Prints and returns theirs over ours (X25519 alone), next to the goals there are."""
  (ours,) = (row for row in rows if row['name'] == peers.PEER_LIKE)
  found = []
  for row in rows:
    for key, goal in peers.GOALS.get((row['name'], case[0]), {}).items():
      if 'failed' in row:
        continue
      ratio = row[key] / ours[peers.OURS.get(key, key)]
      # On as many cores as are there, for the longest thread alone counts.
      spread = row[key] / ours[peers.OURS.get(key, key) + '_span']
      found.append({'name': row['name'], 'figure': key, 'n': case[0], 'goal': goal})
      found[-1] |= {'ratio': ratio, 'ratio_span': spread}
      met = 'met' if ratio >= goal else 'met on two cores' if spread >= goal else 'MISSED'
      print(f'  {row["name"]} over ours, {key}: {ratio:.3g} ({spread:.3g}), goal {goal}: {met}')
  return found


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--folder', required=True, help='where environments are made and kept')
  parser.add_argument('--json', help='write all figures to this file')
  parser.add_argument('--repeat', type=int, default=3, help='our own sessions for each case')
  parser.add_argument('--small', action='store_true', help='one small case, to try it out')
  parser.add_argument('--case', type=int, help='only the first (0) or the second (1)')
  parser.add_argument('--large', action='store_true', help='only 100 clients: Flower takes minutes')
  options = parser.parse_args()
  cases = SMALL if options.small else LARGE if options.large else CASES
  if options.case is not None:
    cases = [cases[options.case]]
  figures = {'machine': machine(), 'unit': 'CPU seconds, bytes', 'rows': [], 'ratios': []}
  for case in cases:
    print(f'{case[0]} clients x {case[1]} elements, {case[2]} dropped', flush=True)
    rows = run(case, options.folder, options.repeat)
    figures['rows'] += rows
    figures['ratios'] += against_goals(rows, case)
  if options.json:
    pathlib.Path(options.json).write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')


if __name__ == '__main__':
  main()

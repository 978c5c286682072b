"""Writes what the results say of secure sums into docs/performance.md and docs/comparison.md.

python benchmarks/secagg_tables.py [--write]
"""

import argparse
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'benchmarks' / 'results'
BEGIN, END = '<!-- begin: python benchmarks/secagg_tables.py -->', '<!-- end -->'
# What a sum hides and from whom, read in the versions of `secagg_peers/*.txt`.
PROTECTS = {
  'ours, X25519': 'vectors, from a semi-honest server and fewer than t clients together; AES-256 masks',
  'ours, X25519 and ML-KEM-768': 'the same, also later from whoever records today and gets a quantum computer',
  'Flower SecAgg+': 'as ours in design; masks from a Mersenne Twister with seeds of 32 bits',
  'declearn masking': "vectors, from the server; masks from numpy's statistical generator",
  'Fed-BioMed LOM': 'vectors, from the server; ChaCha20 masks under keys of which 16 of 32 bytes are zero',
  'Fed-BioMed Joye-Libert': 'vectors, from the server; Paillier-like, under a modulus of 1024 bits',
  'FedML LightSecAgg': "vectors, from clients; masks from numpy's Mersenne Twister, their shares "
  'pass the server unencrypted',
}
NOT_RUN = [
  ('Flamingo', 'no package: the name belongs to a generator of static sites'),
  ('threshold Joye-Libert', "no package: Fed-BioMed's module names it and has the plain scheme"),
]


def load(name):
  return json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8'))


def table(header, rows, words_last=False):
  """The first two columns hold words, and the last if so said; the others numbers."""
  rule = ['---'] * 2 + ['---:'] * (len(header) - 2)
  if words_last:
    rule[-1] = '---'
  lines = [header, rule, *rows]
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def goals():
  """Ratios of the protocol to its floor, next to the goals."""
  figures = load('secagg')
  by_size = {(row['n'], row['d'], row['drops']): row for row in figures['cases']}
  large, many = by_size[32, 10**6, 0], by_size[100, 10**5, 10]
  rows = []

  def add(what, goal, value, spread='', wall=''):
    met = (
      '' if goal is None else f'at most {goal:g}, ' + ('met' if value <= goal else '**not met**')
    )
    rows.append([what, met, f'{value:.2f}', spread, wall])

  def threads(what, goal, row, name):
    low, high = row[f'{name}_ratio_span_spread']
    wall = f'{row[f"{name}_ratio_wall_median"]:.2f}'
    add(what, goal, row[f'{name}_ratio_span'], f'{low:.2f} to {high:.2f}', wall)

  threads('client round 2, 32 x 1,000,000, longest thread', 1.4, large, 'round2')
  threads('server, all rounds, 32 x 1,000,000, longest thread', 3.1, large, 'server')
  for what, goal, row, name in (
    ('client round 2, 32 x 1,000,000, CPU', 1.8, large, 'round2'),
    ('server unmask, 32 x 1,000,000, CPU', 1.7, large, 'unmask'),
    ('server unmask, 100 x 100,000, 10 dropped, CPU', 3.5, many, 'unmask'),
  ):
    low, high = row[f'{name}_ratio_spread']
    add(what, goal, row[f'{name}_ratio'], f'{low:.2f} to {high:.2f}')
  add('mask kernel over keystream and additions, on one core, CPU', 1.15, figures['kernel_ratio'])
  header = ["over one core's keystream", 'goal', 'found', 'spread', 'wall, median']
  return table(header, rows)


def record():
  """Every secure sum that runs here, and why the others do not."""
  rows = []
  for row in load('peers')['rows']:
    size = f'{row["n"]} x {row["d"]:,}'
    if 'failed' in row:
      rows.append([row['name'], size, '', '', '', '', '', '', f'failed: {row["failed"]}'])
      continue
    scaled = '*' if 'scaled_from' in row else ''
    rows.append(
      [
        row['name'],
        size,
        f'{row["client"]:.3g}{scaled}',
        f'{row["server"]:.3g}{scaled}',
        f'{row["up"] / row["d"]:.1f}',
        f'{row["down"] / row["d"]:.1f}',
        str(row['rounds']),
        f'{row["drops"]} of {row["asked_drops"]}',
        PROTECTS[row['name']],
      ]
    )
  rows += [[name, '', '', '', '', '', '', '', why] for name, why in NOT_RUN]
  header = ['secure sum', 'clients x values', 'client s', 'server s', 'bytes up', 'down']
  return table([*header, 'messages', 'drop-outs survived', 'protects'], rows, words_last=True)


PAGES = {'performance.md': goals, 'comparison.md': record}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--write', action='store_true', help='into docs/, else print')
  write = parser.parse_args().write
  for name, make in PAGES.items():
    if not write:
      print(make())
      continue
    page = ROOT / 'docs' / name
    before, rest = page.read_text(encoding='utf-8').split(BEGIN)
    after = rest.split(END, 1)[1]
    page.write_text(f'{before}{BEGIN}\n{make()}\n{END}{after}', encoding='utf-8')


if __name__ == '__main__':
  main()

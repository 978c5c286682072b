"""Writes what `results/scaleout.json` says into docs/performance.md.

python benchmarks/scaleout_tables.py [--write]
"""

import argparse
import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'benchmarks' / 'results' / 'scaleout.json'
PAGE = ROOT / 'docs' / 'performance.md'
BEGIN, END = '<!-- begin: python benchmarks/scaleout_tables.py{} -->', '<!-- end -->'

WHAT = ('work alone', 'round, version 1', 'round, version 2')


def load():
  return json.loads(RESULTS.read_text(encoding='utf-8'))


def table(header, rows):
  rule = ['---'] + ['---:'] * (len(header) - 1)
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [header, rule, *rows])


def link(cell):
  return f'{cell["megabits"]} Mbit/s, {cell["milliseconds"]} ms'


def per_client():
  """What a client takes of each process."""
  found = load()['rounds']
  killed = found['worker_killed']
  cells = [*found['cells'], killed]
  rows = [['wall, s', *(f'{cell["wall_seconds"]:.1f}' for cell in cells)]]
  for name in cells[0]['cpu_ms_a_client']:
    rows.append([f'CPU, ms: {name}', *(f'{c["cpu_ms_a_client"][name]:.2f}' for c in cells)])
  for name in cells[0]['kilobytes_a_client']:
    rows.append([f'KB {name}', *(f'{cell["kilobytes_a_client"][name]:.1f}' for cell in cells)])
  for name in cells[0]['memory_kilobytes_a_client']:
    rows.append(
      [f'KB of memory, {name}', *(f'{c["memory_kilobytes_a_client"][name]:.0f}' for c in cells)]
    )
  rows.append(['survivors', *(f'{cell["survivors"]:,}' for cell in cells)])
  equal = 'yes' if found['models_equal_bit_for_bit'] else '**not all**'
  rows.append(['model of one process without a cluster, bit for bit', *[equal] * len(cells)])
  sizes = [f'{cell["clients"]:,} clients, version {cell["version"]}' for cell in cells]
  sizes[-1] += ', a worker killed'
  return table(['a client', *sizes], rows)


def cost_model():
  """Each cell, and what the model says of it."""
  found = load()['cost_model']
  rows = []
  for use in ('fitted', 'checked'):
    for cell in found[use]:
      measured, predicted = cell['measured_seconds'], cell['predicted_seconds']
      rows.append(
        [
          f'{WHAT[cell["version"]]}, {cell["clients"]:,} clients, {cell["workers"]} workers, {link(cell)}',
          'fit' if use == 'fitted' else '**check**',
          f'{measured:.1f}',
          f'{predicted:.1f}',
          f'{100 * (predicted / measured - 1):+.0f} %',
          cell['limit'],
        ]
      )
  return table(['cell', 'used for', 'wall, s', 'model, s', 'error', 'limit'], rows)


def asked():
  """What the model predicts for many hosts."""
  found = load()['cost_model']['asked']
  columns = [found[name] for name in ('work', 'version 1', 'version 2')]
  rows = [
    [f'{name}, s', *(f'{one["seconds_by_resource"][name]:.1f}' for one in columns)]
    for name in ('head', 'scheduler', 'network', 'workers')
  ]
  rows += [
    [what, *(form.format(one[name]) for one in columns)]
    for what, name, form in (
      ('protocol before and after, s', 'protocol_before_and_after_seconds', '{:.0f}'),
      ('**a round, s**', 'predicted_seconds', '**{:.0f}**'),
      ('limit', 'limit', '{}'),
      ('hosts that these clients keep busy', 'hosts_kept_busy', '{:.1f}'),
      (
        f'work of a client that keeps {found["hosts"]} hosts busy, s',
        'work_of_a_client_that_keeps_all_busy_seconds',
        '{:.2f}',
      ),
    )
  ]
  size = f'{found["clients"]:,} clients, {found["hosts"]} hosts, {link(found)}'
  return table([size, *WHAT], rows)


TABLES = {'': per_client, ', model': cost_model, ', hosts': asked}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--write', action='store_true', help='into docs/, else print')
  write = parser.parse_args().write
  text = PAGE.read_text(encoding='utf-8')
  for name, make in TABLES.items():
    if not write:
      print(make(), end='\n\n')
      continue
    begin = BEGIN.format(name)
    before, rest = text.split(begin)
    text = f'{before}{begin}\n{make()}\n{END}{rest.split(END, 1)[1]}'
  if write:
    PAGE.write_text(text, encoding='utf-8')


if __name__ == '__main__':
  main()

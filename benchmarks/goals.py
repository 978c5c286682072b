"""Puts the committed results next to the goals: a table in docs/performance.md, and a plot."""

import argparse
import json
import pathlib
import sys

import matplotlib
from matplotlib.figure import Figure

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'benchmarks' / 'results'
DOCUMENT = ROOT / 'docs' / 'performance.md'
README = ROOT / 'README.md'
PLOT = ROOT / 'docs' / 'performance.svg'
BEGIN, END = '<!-- begin: python benchmarks/goals.py -->', '<!-- end -->'
SERVED = '<!-- begin: python benchmarks/goals.py, served -->'
AVERAGING = '<!-- begin: python benchmarks/goals.py, averaging -->'
SPEED = '<!-- begin: python benchmarks/goals.py, speed -->'
KINDS = ('philox', 'chacha20')
INNER, DDP, WHOLE = 'tff ddp sum', 'tff ddp', 'tff ddp + zeroing'


def load(name: str) -> dict:
  return json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8'))


# Clients and values of a round made in the worker; goals for Philox and ChaCha20.
TIMES_FASTER = (
  (10, 10_000, 2, 1.7),
  (100, 10_000, 3, 2.2),
  (1000, 10_000, 3.5, 2.5),
  (10, 100_000, 2.5, 1.7),
  (10, 1_000_000, 3, 1.5),
)


class Goals:
  """Rows of the table: what, then for each generator the goal and what was measured."""

  def __init__(self):
    self.rounds, self.growth = load('rounds'), load('growth')
    self.fedavg, self.kernels = load('fedavg'), load('kernels')
    self.startup, self.memory = load('startup'), load('secagg-memory')
    self.rows: list[list[str]] = []
    self.bars: list[tuple[str, float, dict[str, float]]] = []

  def add(self, what: str, goals: dict[str, float | None], found: dict, at_least: bool) -> None:
    """`found` has wall and CPU, or one number, by generator; a goal of None is only reported."""
    row = [what]
    for kind in KINDS:
      if kind not in found:
        row.append('')
        continue
      values = found[kind] if isinstance(found[kind], list) else [found[kind]]
      text = f'{values[0]:.2f}' + (f' ({values[1]:.2f})' if len(values) > 1 else '')
      goal = goals.get(kind)
      if goal is None:
        row.append(text)
        continue
      sign = '>=' if at_least else '<='
      met = [value >= goal if at_least else value <= goal for value in values]
      verdict = 'met' if met[0] else 'met by CPU' if met[-1] else '**not met**'
      row.append(f'{sign} {goal:g}: {text}, {verdict}')
    self.rows.append(row)

  def cell(self, mode: str, clients: int, dim: int) -> dict:
    (found,) = (
      c for c in self.rounds['cells'] if (c['mode'], c['clients'], c['dim']) == (mode, clients, dim)
    )
    return found

  def times_faster(self, theirs, mode, clients, dim, philox, chacha20) -> None:
    cell = self.cell(mode, clients, dim)
    found = {
      kind: [
        cell['upstream_over_ours'][f'ours, {kind}'][f'{theirs}, {clock}']
        for clock in ('wall', 'cpu')
      ]
      for kind in KINDS
    }
    where = 'from Python' if mode == 'A' else 'made in the worker'
    what = f'times faster than `{theirs}`, {clients} x {dim:,} values {where}'
    self.add(what, {'philox': philox, 'chacha20': chacha20}, found, True)
    if mode == 'B':
      self.bars.append((f'{clients} x {dim:,}', philox, {k: found[k][0] for k in KINDS}))

  def over_sum(self, mode, dim, philox, chacha20) -> None:
    cell = self.cell(mode, 10, dim)
    found = {
      kind: [cell[key][f'ours, {kind}'] for key in ('wall_over_sum', 'cpu_over_sum')]
      for kind in KINDS
    }
    where = 'from Python' if mode == 'A' else 'made in the worker'
    floor = cell['wall_over_sum']['empty round']
    what = f'over a plain sum, 10 x {dim:,} values {where} (an empty round: {floor:.2f})'
    self.add(what, {'philox': philox, 'chacha20': chacha20}, found, False)

  def collect(self) -> None:
    for clients, dim, philox, chacha20 in TIMES_FASTER:
      self.times_faster(INNER, 'B', clients, dim, philox, chacha20)
    for dim, philox, chacha20 in ((10_000, 3.5, 3), (100_000, 2.8, 2), (1_000_000, 1.7, 1.3)):
      self.times_faster(DDP, 'A', 10, dim, philox, chacha20)
    self._python_protobuf()
    for dim in (10_000, 100_000, 1_000_000):
      self.over_sum('A', dim, 2.2, 2.6)
    for dim, philox, chacha20 in ((10_000, 3, 3.5), (100_000, 5, 7), (1_000_000, 8, 14)):
      self.over_sum('B', dim, philox, chacha20)
    self._fedavg()
    self._kernels()
    self._growth()
    self._startup()

  def _python_protobuf(self) -> None:
    for part, what in (('steady', 'a round'), ('first', 'create and first round')):
      found = {
        kind: self.growth['python_protobuf']['upstream_over_ours'][f'ours, {kind}'][part]
        for kind in KINDS
      }
      goal = 50 if part == 'steady' else 100
      self.add(
        f'times faster than `ddp_secure_aggregator` with protobuf in Python, 10 x 10,000, {what}',
        dict.fromkeys(KINDS, goal),
        found,
        True,
      )

  def _fedavg(self) -> None:
    for cell in self.fedavg['cells']:
      cnn = cell['model'] == 'cnn'
      found = {
        kind: [cell[key][f'ours, {kind}'] for key in ('wall_over_none', 'cpu_over_none')]
        for kind in KINDS
      }
      goals = {'philox': 1.5, 'chacha20': 1.8} if cnn else {'philox': 1.15, 'chacha20': 1.2}
      model = 'a CNN of 1.2 M weights' if cnn else 'the digits'
      what = f'federated averaging of {model}, {cell["clients"]} clients, over no aggregator'
      self.add(what, goals, found, False)
    for cell in self.fedavg['cells']:
      if cell['model'] == 'cnn' or cell['clients'] < 100:
        continue
      default = cell['wall_over_none']['no aggregator, reduce loop']
      ours = {kind: cell['wall_over_none'][f'ours, {kind}'] for kind in KINDS}
      what = (
        f"a round of the digits over TFF's default loop without privacy, {cell['clients']} clients"
      )
      self.add(what, dict.fromkeys(KINDS, 0.45), {k: v / default for k, v in ours.items()}, False)
    (cell,) = (cell for cell in self.fedavg['cells'] if cell['clients'] == 300)
    secure = cell['wall_over_none']['ours, chacha20, SecAggContext']
    found = {'chacha20': secure / cell['wall_over_none']['ours, chacha20']}
    what = 'a round of the digits in `SecAggContext` over the simulated one, 300 clients'
    self.add(what, {'chacha20': 1.5}, found, False)

  def _kernels(self) -> None:
    over = self.kernels['cpu_over_normal']
    for sigmas, goal in (
      ((5, 50, 100, 200, 250, 1000, 3500), 1.15),
      ((6400, 10_000, 100_000), 2.2),
    ):
      found = {k: max(over[f'noise {sigma}, {k}'] for sigma in sigmas) for k in KINDS}
      what = f'noise over `tf.random.normal`, deviation {sigmas[0]} to {sigmas[-1]}, worst'
      self.add(what, {'philox': goal}, found, False)
    for name in ('rotation', 'rotation, without signs and padding'):
      self.add(f'{name}, over `tf.random.normal`', {'philox': 0.35}, {'philox': over[name]}, False)
    worst = 100 * max(self.kernels['padding'].values())
    self.add('padding, %', {'philox': 10}, {'philox': worst}, False)
    ratio = self.kernels['chacha20_word_over_philox_word']
    self.add('a ChaCha20 word over a Philox word', {'chacha20': 6}, {'chacha20': ratio}, False)
    bits = max(b for s, b in self.kernels['secret_bits_of_noise'].items() if int(s) <= 200)
    self.add('secret bits a value, deviation <= 200', {'chacha20': 24}, {'chacha20': bits}, False)

  def _growth(self) -> None:
    for key, what, goal in (
      ('values_1m_to_10m', 'growth from 10^6 to 10^7 values', 13),
      ('clients_100_to_1000', 'growth from 100 to 1000 clients of 10,000 values', 12),
    ):
      found = {kind: self.growth[key][f'ours, {kind}'] for kind in KINDS}
      self.add(what, dict.fromkeys(KINDS, goal), found, False)
    for key, what in (
      ('per_client_over_value', "memory of a further client over its value's, 10^6 values"),
      ('peak_of_10_x_10m_over_values', 'peak memory of 10 x 10^7 over the values'),
    ):
      memory = self.growth['memory']
      found = {kind: memory[f'ours, {kind}'][key] for kind in KINDS}
      what += f' (an empty round: {memory["empty round"][key]:.2f})'
      self.add(what, dict.fromkeys(KINDS, 5), found, False)
    extra = self.growth['new_cohort_size']['over_upstream']
    found = {kind: extra[f'ours, {kind}'] for kind in KINDS}
    floor = extra['empty round'][0]
    what = (
      f'extra time of a new number of clients over that of `{INNER}` (an empty round: {floor:.2f})'
    )
    self.add(what, dict.fromkeys(KINDS, 0.6), found, False)

  def _startup(self) -> None:
    for party in ('server', 'client'):
      _, cpu = self.startup['start']['over_import_tensorflow'][party]
      found = {'chacha20': cpu}
      what = f'start of a {party} of `examples/hospitals` over `import tensorflow`, CPU'
      self.add(what, {'chacha20': 2}, found, False)
    report = self.startup['report']
    of = f'`report` of {report["rounds"]:,} rounds'
    self.add(f'{of}, CPU s', {'chacha20': 5}, {'chacha20': report['seconds_wall_cpu'][1]}, False)
    self.add(f'{of}, MB', {'chacha20': 5}, {'chacha20': report['megabytes']}, False)

    of = 'a round of `SecAggContext`'
    for allocator, said in (('pool', ''), ('system', ', without the pool of TensorFlow')):
      peak = self.memory['peak_over_one_value'][f'20 x 10,000,000, {allocator}']
      what = f'peak memory of {of}, 20 x 10^7, over one of the values{said}'
      self.add(what, {'chacha20': 4}, {'chacha20': peak}, False)
    for doubled in ('clients', 'values'):
      what = f'time of {of} for twice the {doubled}, 50 x 10^6 before'
      self.add(what, {'chacha20': 2.1}, {'chacha20': self.memory['growth'][doubled]}, False)

  def table(self) -> str:
    lines = ['| wall (CPU) | philox | chacha20 |', '| --- | --- | --- |']
    return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in self.rows])

  def plot(self) -> None:
    figure = Figure(figsize=(8, 3.6))
    axes = figure.subplots()
    for position, (_, goal, found) in enumerate(self.bars):
      for shift, kind in ((-0.2, 'philox'), (0.2, 'chacha20')):
        color = {'philox': '#8fb8de', 'chacha20': '#1f4e79'}[kind]
        label = kind if position == 0 else None
        axes.bar(position + shift, found[kind], width=0.38, color=color, label=label)
      axes.hlines(goal, position - 0.4, position, color='black', linestyle=':')
    axes.axhline(1, color='gray', linewidth=0.8)
    axes.set_xticks(range(len(self.bars)), [name for name, *_ in self.bars])
    axes.set_ylabel(f'times faster than {INNER}')
    axes.set_xlabel('clients x values, made in the worker; dotted: the goal with philox')
    axes.legend()
    figure.tight_layout()
    with matplotlib.rc_context({'svg.hashsalt': 'tff_privacy_agg'}):
      figure.savefig(PLOT, metadata={'Date': None})


def goals_table() -> str:
  """All goals of the aggregation, met or missed."""
  goals = Goals()
  goals.collect()
  return goals.table()


def served_table() -> str:
  """The goals of a coordinator under load."""
  found = load('served')
  waiting, flower = found['waiting'], found['flower']
  rows = [
    _below(f'MB of memory, {waiting["clients"]:,} clients that wait', 1000, waiting['megabytes'])
  ]
  for cell in found['sessions']['cells']:
    mode = cell['mode'].replace('_', '-')
    size = f'a session ({mode}) of {cell["clients"]:,} clients with {cell["elements"]:,} values'
    for who, words in (('all_parties', 'all parties'), ('server', 'the server alone')):
      what = f"CPU of {size} over the protocol's, {words}"
      rows.append(_below(what, 1.5, cell[f'served_over_protocol_{who}']))
  peer = (
    f'Flower {flower["version"]}, {flower["clients"]} clients with {flower["elements"]:,} values'
  )
  cell = next(c for c in found['sessions']['cells'] if c['clients'] == flower['clients'])
  ours = cell['cpu_seconds_server']['served']
  rows += [
    ['KB of the server a client that waits', '', f'{waiting["kilobytes_a_client"]:g}'],
    [f'the same, {peer}', '', f'{flower["kilobytes_a_client"]:g}'],
    [
      f'CPU seconds of the server a session ({cell["mode"]}), {cell["clients"]} clients',
      '',
      f'{ours:g}',
    ],
    [f'the same, {peer}, in the clear', '', f'{flower["cpu_seconds_server"]:g}'],
  ]
  lines = ['| what | goal | found |', '| --- | --- | ---: |']
  return '\n'.join(lines + ['| ' + ' | '.join(row) + ' |' for row in rows])


def averaging_table() -> str:
  """Rounds of federated averaging, next to those of TFF without an aggregator."""
  columns = ('no aggregator, reduce loop', 'ours, chacha20', 'ours, philox', 'tff ddp + zeroing')
  header = ['x no aggregator: wall (worker CPU)', *columns, 'ours, `SecAggContext`']
  lines = [header, ['---', *['---:'] * (len(header) - 1)]]
  for cell in load('fedavg')['cells']:
    wall, cpu = cell['wall_over_none'], cell['cpu_over_none']
    ratios = [f'{wall[name]:.2f} ({cpu[name]:.2f})' for name in columns]
    secure = f'{wall["ours, chacha20, SecAggContext"]:.2f}'
    lines.append([f'{cell["model"]}, {cell["clients"]} clients', *ratios, secure])
  return '\n'.join('| ' + ' | '.join(line) + ' |' for line in lines)


def speed_table() -> str:
  """How many times faster than TFF's own, with all of its layers, a round is."""
  lines = [
    '| clients x values | ChaCha20 noise (default) | Philox (simulations) |',
    '|---|---:|---:|',
  ]
  goals = Goals()
  for clients, dim, *_ in TIMES_FASTER:
    ratios = goals.cell('B', clients, dim)['upstream_over_ours']
    found = (f'{ratios[f"ours, {kind}"][f"{WHOLE}, wall"]:.1f}' for kind in ('chacha20', 'philox'))
    lines.append(f'| {clients:,} x {dim:,} | ' + ' | '.join(found) + ' |')
  return '\n'.join(lines)


# What stands after each mark of a page.
TABLES = {
  (DOCUMENT, BEGIN): goals_table,
  (DOCUMENT, SERVED): served_table,
  (DOCUMENT, AVERAGING): averaging_table,
  (README, SPEED): speed_table,
}


def _below(what: str, goal: float, value: float) -> list[str]:
  return [what, f'at most {goal:g}', f'{value:g}, {"met" if value <= goal else "**not met**"}']


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--write', action='store_true', help='into docs/, else print')
  args = parser.parse_args()
  if not args.write:
    print(*(table() for table in TABLES.values()), sep='\n\n')
    return 0
  for (page, begin), table in TABLES.items():
    before, rest = page.read_text(encoding='utf-8').split(begin)
    after = rest.split(END, 1)[1]
    page.write_text(f'{before}{begin}\n{table()}\n{END}{after}', encoding='utf-8')
  goals = Goals()
  goals.collect()
  goals.plot()
  return 0


if __name__ == '__main__':
  sys.exit(main())

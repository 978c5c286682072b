"""One timed session of the secure aggregation protocol, step by step."""

import statistics

import _secagg_floors as floors
import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.primitives import prg


class _Clock:
  """CPU and wall seconds by name."""

  def __init__(self):
    self.cpu, self.wall = {}, {}

  def run(self, names, call, *args):
    cpu, wall, result = floors.timed(call, *args)
    for name in names:
      self.cpu[name] = self.cpu.get(name, 0.0) + cpu
      self.wall[name] = self.wall.get(name, 0.0) + wall
    return result


def session(
  clients,
  elements,
  drops,
  graph='complete',
  *,
  bits=floors.BITS,
  dropout_fraction=None,
  version=1,
):
  """Runs one session; `drops` clients vanish after they shared their secrets.

  Returns:
    CPU seconds by step (`..._wall`: wall seconds), medians over the surviving clients, with
    k, t and the number of masks that the server expands.
  """
  params = secagg.SessionParams(
    task='benchmark',
    round_number=1,
    graph=graph,
    version=version,
    leaves=[secagg.Leaf('v', (elements,), bits)],
    dropout_fraction=dropout_fraction or max(0.1, round(drops / clients + 0.005, 2)),
  )
  server, clock = secagg.Server(params), _Clock()
  policy = secagg.Policy(version=version)
  members = {c: secagg.Client(params, c, policy=policy) for c in range(clients)}
  values = {'v': np.random.default_rng(0).integers(0, 2**bits, elements)}
  receipts = server._receipts
  server._receipts = lambda heard: clock.run(['receipts'], receipts, heard)
  incoming = dict.fromkeys(members)
  while server.result is None:
    now = server.round
    for c, message in incoming.items():
      if now >= 2 and c < drops:
        continue
      names = [('client', c)]
      if now == 2:
        clock.run(names, members[c].provide, values)
        names.append(('round2', c))
      call = (members[c].start,) if message is None else (members[c].receive, message)
      answer = clock.run(names, *call)
      clock.run(['server'], server.receive, c, answer)
    last = ['server', 'closing'] if now == 4 else ['server']
    incoming = clock.run(last, server.close_round)
  if not np.array_equal(server.result.values['v'], values['v'] * (clients - drops) % 2**bits):
    raise RuntimeError('The sum is wrong.')
  alive = np.arange(clients) >= drops
  found = {
    'k': server._parameters.k,
    't': server._parameters.t,
    'expansions': clients - drops + int(alive[server._graph.neighbours[:drops]].sum()),
  }
  for suffix, seconds in (('', clock.cpu), ('_wall', clock.wall)):
    for name in ('client', 'round2'):
      each = [seconds[name, c] for c in range(drops, clients)]
      found[name + suffix] = statistics.median(each)
    found['server' + suffix] = seconds['server']
    found['unmask' + suffix] = seconds['closing'] - seconds['receipts']
    found['receipts' + suffix] = seconds['receipts']
  return found


def measured(clients, elements, drops, graph, repeat):
  """Sessions and floors in turn.

  Returns:
    Medians of all seconds. The ratios are of the least seconds of each: what other work on the
    machine adds to either is not the protocol's. `..._median`: medians of the turns' ratios.
  """
  rows = []
  itemsize = prg.word_dtype(floors.BITS).itemsize
  for _ in range(repeat):
    row = session(clients, elements, drops, graph)
    for party, expansions in (('server', row['expansions']), ('client', row['k'] + 1)):
      cpu, wall = floors.keystream(expansions, elements, itemsize)
      row |= {f'keystream_{party}': cpu, f'keystream_{party}_wall': wall}
    row['plain_sum'] = floors.plain_sum(clients - drops, elements)
    rows.append(row)
  found = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
  for name, step, floor in (
    ('unmask_ratio', 'unmask', 'keystream_server'),
    ('round2_ratio', 'round2', 'keystream_client'),
  ):
    found[name] = min(row[step] for row in rows) / min(row[floor] for row in rows)
    found[name + '_median'] = statistics.median(row[step] / row[floor] for row in rows)
  return found

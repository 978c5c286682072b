"""One timed session of the secure aggregation protocol, step by step."""

import statistics
import time

import _secagg_floors as floors
import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.primitives import parallel, prg


class _Clock:
  """Seconds by name: of CPU, of wall time, and of the longest thread's CPU where several work.

  The last, `span`, is the wall time of a machine whose cores have nothing else to do.
  """

  def __init__(self):
    self.cpu, self.wall, self.span = {}, {}, {}
    self._beside = 0.0
    self._share = parallel.share

  def __enter__(self):
    parallel.share = self._timed_share
    return self

  def __exit__(self, *_):
    parallel.share = self._share

  def _timed_share(self, work, items, size):
    threads = []

    def timed_work(some):
      start = time.thread_time()
      work(some)
      threads.append(time.thread_time() - start)

    self._share(timed_work, items, size)
    self._beside += sum(threads) - max(threads)

  def run(self, names, call, *args):
    before = self._beside
    cpu, wall, result = floors.timed(call, *args)
    span = cpu - (self._beside - before)
    for name in names:
      for seconds, one in ((self.cpu, cpu), (self.wall, wall), (self.span, span)):
        seconds[name] = seconds.get(name, 0.0) + one
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
    CPU seconds by step (`..._wall`: wall seconds, `..._span`: the longest thread's), medians over
    the surviving clients, with k, t and the number of masks that the server expands.
  """
  params = secagg.SessionParams(
    task='benchmark',
    round_number=1,
    graph=graph,
    version=version,
    leaves=[secagg.Leaf('v', (elements,), bits)],
    dropout_fraction=dropout_fraction or max(0.1, round(drops / clients + 0.005, 2)),
  )
  with _Clock() as clock:
    return _timed_session(params, clients, drops, bits, clock)


def _timed_session(params, clients, drops, bits, clock):
  server, elements = secagg.Server(params), params.leaves[0].size
  policy = secagg.Policy(version=params.version)
  members = {c: secagg.Client(params, c, policy=policy) for c in range(clients)}
  values = {'v': np.random.default_rng(0).integers(0, 2**bits, elements)}
  receipts = server._collected._receipts
  server._collected._receipts = lambda heard: clock.run(['receipts'], receipts, heard)
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
    'k': server._collected._parameters.k,
    't': server._collected._parameters.t,
    'expansions': clients - drops + int(alive[server._collected._graph.neighbours[:drops]].sum()),
  }
  for suffix, seconds in (('', clock.cpu), ('_wall', clock.wall), ('_span', clock.span)):
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
    machine adds to either is not the protocol's. `..._median` and `..._spread` are of the turns'
    ratios. `..._span` and `..._wall` are over the keystream of one core.
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
    ('server_ratio', 'server', 'keystream_server'),
  ):
    for suffix, unit in (('', ''), ('_span', ''), ('_wall', '_wall')):
      turns = sorted(row[step + suffix] / row[floor + unit] for row in rows)
      found[name + suffix] = min(row[step + suffix] for row in rows) / min(
        row[floor + unit] for row in rows
      )
      found[name + suffix + '_median'] = statistics.median(turns)
      # Without the tenth at either end.
      found[name + suffix + '_spread'] = [turns[repeat // 10], turns[-1 - repeat // 10]]
  return found

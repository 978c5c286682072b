"""A coordinator under load: clients that wait, whole sessions, and Flower's server next to it.

python benchmarks/served.py [--only waiting sessions flower] [--json FILE] [--waiting 10000] [--peers DIR]

Clients are many to a process, each with a certificate and a TLS connection of its own.
"""

import argparse
import contextlib
import json
import pathlib
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import _secagg_peers
import _served_party as party
from _measure import environment, write_json

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.deployment.keys.roster import Roster

HERE = pathlib.Path(__file__).parent
MODE = 'authenticated'
# Clients, mode and repetitions of sessions. With 1,000 clients the authenticated mode would have a
# complete graph of half a million pairs.
SESSIONS = ((100, 'authenticated', 3), (100, 'semi_honest', 3), (1000, 'semi_honest', 1))
PROCESSES = 4


class Parties:
  """A server, and clients in a few processes."""

  def __init__(self, keys, clients, **options):
    self.options = {'clients': clients, **options}
    self._keys, self._clients = keys, clients
    self.server = subprocess.Popen(
      [sys.executable, party.__file__, 'server', str(keys), json.dumps(self.options)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.address = json.loads(self.server.stdout.readline())['address']
    self.crowds = []

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in [*self.crowds, self.server]:
      process.kill()
      process.wait()

  def come(self):
    """Starts the clients."""
    each = -(-self._clients // PROCESSES)
    for first in range(0, self._clients, each):
      span = [str(first), str(min(self._clients, first + each))]
      command = [sys.executable, party.__file__, 'clients', str(self._keys), self.address, *span]
      self.crowds.append(
        subprocess.Popen(
          [*command, json.dumps(self.options)],
          stdin=subprocess.DEVNULL,
          stdout=subprocess.PIPE,
          text=True,
        )
      )

  def ask(self, what):
    self.server.stdin.write(f'{what}\n')
    self.server.stdin.flush()
    return json.loads(self.server.stdout.readline())

  def end(self):
    """CPU seconds of the clients' processes, once the server has said that it ends."""
    self.server.stdin.close()
    return sum(json.loads(crowd.communicate()[0])['cpu'] for crowd in self.crowds)


@contextlib.contextmanager
def keys_of(clients):
  """Keys in memory, where there is such a directory: they are 3 small files a client."""
  memory = pathlib.Path('/dev/shm')
  with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
    names = [f'client-{index}' for index in range(clients)]
    yield make_keys(pathlib.Path(directory) / 'keys', names)


def waiting(clients):
  """What a server holds when so many clients wait for a session."""
  with keys_of(clients) as keys, Parties(keys, clients, mode=MODE) as parties:
    before = parties.ask('count')
    parties.come()
    found = [before]
    while found[-1]['came'] < clients:
      time.sleep(1.0)
      found.append(parties.ask('count'))
    # As long as three polls: memory that grows from one to the next shows.
    for _ in range(60):
      time.sleep(1.0)
      found.append(parties.ask('count'))
    most = max(one['bytes'] for one in found)
    return {
      'clients': clients,
      # One whose poll has just ended is on its way back.
      'most_waiting_at_once': max(one['waiting'] for one in found),
      'megabytes_before': round(before['bytes'] / 1e6, 1),
      'megabytes': round(most / 1e6, 1),
      'kilobytes_a_client': round((most - before['bytes']) / clients / 1e3, 1),
      'cpu_seconds_a_minute_of_waiting': round(found[-1]['cpu'] - found[-61]['cpu'], 1),
    }


def protocol(clients, mode):
  """CPU seconds of a session of the protocol alone: (server, all parties)."""
  with keys_of(clients) as keys:
    roster = Roster.read(keys / 'roster.json')
    identities = {
      index: tls.read_identity(str(keys / f'client-{index}.identity')) for index in range(clients)
    }
  authenticated = mode == 'authenticated'
  params = party.params(mode)
  server = secagg.Server(params, roster.keys if authenticated else None)
  start, own = time.process_time(), 0.0
  members = {}
  for index in range(clients):
    arguments = (identities[index], roster.keys) if authenticated else (None, None)
    members[index] = secagg.Client(params, index, *arguments)
    members[index].provide(party.VALUES)
  incoming = dict.fromkeys(members)
  while server.result is None:
    for index, message in incoming.items():
      client = members[index]
      answer = client.start() if message is None else client.receive(message)
      turn = time.process_time()
      server.receive(index, answer)
      own += time.process_time() - turn
    turn = time.process_time()
    incoming = server.close_round()
    own += time.process_time() - turn
  return own, time.process_time() - start


def served(keys, clients, mode, repeat):
  """CPU seconds of a served session: (server, all parties), less what it takes to come."""
  with Parties(keys, clients, mode=mode) as parties:
    parties.come()
    rows = [parties.ask('session') for _ in range(repeat)]
    together = parties.end()
  with Parties(keys, clients, mode=mode) as parties:
    parties.come()
    while parties.ask('count')['waiting'] < clients:
      time.sleep(0.2)
    apart = parties.end()
  if not all(row['right'] and row['survivors'] == clients for row in rows):
    raise SystemExit('A sum is wrong.')
  own = statistics.median(row['cpu'] for row in rows)
  return own, own + (together - apart) / repeat


def floor(keys, clients, repeat):
  """CPU seconds of as many calls with as many bytes to a server that computes nothing."""
  found = []
  for sessions in (1, 1 + repeat):
    with Parties(keys, clients, mode='floor', sessions=sessions) as parties:
      before = parties.ask('cpu')['cpu']
      parties.come()
      for crowd in parties.crowds:
        found.append(json.loads(crowd.communicate()[0])['cpu'])
      found.append(parties.ask('cpu')['cpu'] - before)
  half = len(found) // 2
  servers = (found[-1] - found[half - 1]) / repeat
  return servers, (sum(found[half:]) - sum(found[:half])) / repeat


def sessions():
  rows = []
  for clients, mode, repeat in SESSIONS:
    with keys_of(clients) as keys:
      row = {
        'clients': clients,
        'elements': party.ELEMENTS,
        'bits': party.BITS,
        'mode': mode,
        'sessions': repeat,
      }
      seconds = {
        'protocol': protocol(clients, mode),
        'served': served(keys, clients, mode, repeat),
        'grpc_alone': floor(keys, clients, repeat),
      }
    for position, who in enumerate(('server', 'all_parties')):
      row[f'cpu_seconds_{who}'] = {name: round(one[position], 3) for name, one in seconds.items()}
      row[f'served_over_protocol_{who}'] = round(
        seconds['served'][position] / seconds['protocol'][position], 2
      )
    rows.append(row)
    print(json.dumps(row), flush=True)
  return {'cells': rows}


def flower(folder, clients=100):
  """Flower's server with as many clients and values: no secure sum, and no client's certificate."""
  python = _secagg_peers.environment('flower_server', folder)
  script = str(HERE / 'secagg_peers' / 'flower_server.py')
  sizes = [str(clients), str(party.ELEMENTS)]
  with socket.create_server(('127.0.0.1', 0)) as free:
    address = f'localhost:{free.getsockname()[1]}'
  with keys_of(1) as keys:
    server = subprocess.Popen(
      [python, script, 'server', *sizes, address, str(keys)], stdout=subprocess.PIPE, text=True
    )
    time.sleep(5)
    count = str(clients // PROCESSES)
    command = [python, script, 'clients', address, str(keys / 'ca.pem'), count, sizes[1]]
    crowds = [subprocess.Popen(command) for _ in range(PROCESSES)]
    try:
      found = json.loads(server.communicate(timeout=600)[0].splitlines()[-1])
    finally:
      for process in [*crowds, server]:
        process.kill()
        process.wait()
  return {'clients': clients, 'elements': party.ELEMENTS, **found}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parts = ('waiting', 'sessions', 'flower')
  parser.add_argument('--only', nargs='*', choices=parts, default=parts)
  parser.add_argument('--json', help='file to write; parts that are not run are kept')
  parser.add_argument('--waiting', type=int, default=10_000)
  parser.add_argument('--peers', help="folder for Flower's environment; without it, no Flower")
  args = parser.parse_args()
  hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
  resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
  found = {}
  if args.json and pathlib.Path(args.json).exists():
    found = json.loads(pathlib.Path(args.json).read_text(encoding='utf-8'))
  runs = {
    'waiting': lambda: waiting(args.waiting),
    'sessions': sessions,
    'flower': lambda: flower(args.peers),
  }
  for name in args.only:
    if name == 'flower' and not args.peers:
      continue
    found[name] = {'environment': environment(), **runs[name]()}
    print(json.dumps({name: found[name]}), flush=True)
    write_json(args.json, found)


if __name__ == '__main__':
  main()

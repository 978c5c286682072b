"""The processes of `served.py`: a server, and clients by the hundred on one event loop.

python _served_party.py server KEYS OPTIONS        prints its address; obeys lines on its input
python _served_party.py clients KEYS ADDRESS FROM TO OPTIONS

Clients run the protocol's own `secagg.Client` over calls as a `Participant` makes them: a thread
for each of a thousand clients would measure Python's threads.
"""

import asyncio
import concurrent.futures
import itertools
import json
import os
import pathlib
import sys
import time

import grpc
import grpc.aio
import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, coordinator, event_loop, framing, served_session
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.roster import Roster

TASK, SCHEMA, ELEMENTS, BITS = 'benchmark', 'vector', 10**4, 20
BROADCAST = [np.zeros(1, np.float32)]
VALUES = {'vector': np.arange(ELEMENTS) % 2**BITS}
# Calls of a client in a session, in the authenticated mode: to join, and one a round.
CALLS = 1 + len(secagg.Round)


def params(mode, number=1):
  return secagg.SessionParams(
    task=TASK,
    round_number=number,
    leaves=[secagg.Leaf('vector', (ELEMENTS,), BITS)],
    mode=mode,
    dropout_fraction=0.1,
    context=secagg.context_digest(BROADCAST),
  )


def files(keys, name):
  return [str(keys / one) for one in ('ca.pem', f'{name}.pem', f'{name}.key')]


def status(field):
  """A line of /proc/self/status, in bytes."""
  lines = pathlib.Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
  return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def tell(**values):
  print(json.dumps(values), flush=True)


class Echo:
  """A server of the same calls that computes nothing: what gRPC and TLS cost by themselves."""

  def __init__(self, credentials, connections):
    self.waiting = {}
    self.port = event_loop.call(self._listen(credentials, connections))
    self.address = f'127.0.0.1:{self.port}'

  async def _listen(self, credentials, connections):
    self._grpc = framing.server(self._answer, self._answer, connections)
    port = self._grpc.add_secure_port('127.0.0.1:0', credentials)
    await self._grpc.start()
    return port

  async def _answer(self, _, context):
    await context.read()
    await context.write(next(framing.frames({'state': 'message'}, b'')))


def serve(keys, options):
  roster = Roster.read(keys / 'roster.json')
  credentials = tls.server_credentials(*files(keys, 'server'))
  mode, clients = options['mode'], options['clients']
  if mode == 'floor':
    server = Echo(credentials, 2 * clients)
  else:
    server = coordinator.Coordinator(
      address='127.0.0.1:0',
      credentials=credentials,
      clients=roster.ids,
      task=TASK,
      schema=SCHEMA,
      deadlines=served_session.Deadlines(join=1800, work=1800, round=1800),
      roster=roster.keys if mode == 'authenticated' else None,
    )
  tell(address=server.address)
  number = itertools.count(1)
  for line in sys.stdin:
    if line.strip() == 'count':
      came, waiting = len(server._service.room.known), len(server._service.room.waiting)
      tell(came=came, waiting=waiting, bytes=status('VmRSS'), cpu=time.process_time())
    elif line.strip() == 'cpu':
      tell(cpu=time.process_time())
    elif line.strip() == 'session':
      cohort = server.gather(clients, clients)
      cpu, wall = time.process_time(), time.perf_counter()
      result = server.run(params(mode, next(number)), arrays.encode(BROADCAST), cohort)
      cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
      right = np.array_equal(result.values['vector'], VALUES['vector'] * clients % 2**BITS)
      tell(cpu=cpu, wall=wall, survivors=len(result.survivors), right=right)
    else:
      break
  if mode != 'floor':
    server.close()


class Crowd:
  """Clients on one event loop, each with a connection and a certificate of its own."""

  def __init__(self, keys, address, options):
    self.keys, self.address, self.options = keys, address, options
    self.roster = Roster.read(keys / 'roster.json')
    self.handshakes = asyncio.Semaphore(32)
    # Off the event loop, which answers the server's pings meanwhile.
    self.arithmetic = concurrent.futures.ThreadPoolExecutor(1)
    self.cpu = 0.0

  async def client(self, index):
    credentials = tls.channel_credentials(*files(self.keys, f'client-{index}'))
    options = framing.CLIENT_OPTIONS
    async with grpc.aio.secure_channel(self.address, credentials, options=options) as channel:
      async with self.handshakes:
        await asyncio.wait_for(channel.channel_ready(), 300)
      join, exchange = (
        channel.unary_stream(f'/{framing.SERVICE}/{method}')
        for method in (framing.JOIN, framing.EXCHANGE)
      )
      if self.options['mode'] == 'floor':
        await self.floor(exchange)
      else:
        await self.sessions(index, join, exchange)

  async def floor(self, exchange):
    for _ in range(self.options['sessions'] * CALLS):
      await ask(exchange, {}, bytes(BITS * ELEMENTS // 8 // CALLS))

  async def sessions(self, index, join, exchange):
    greeting = framing.hello(TASK, SCHEMA)
    while True:
      head, payload = await ask(join, greeting)
      if head['state'] == 'end':
        return
      if head['state'] == 'session':
        await self.session(index, head['session'], payload, exchange)

  async def session(self, index, session, payload, exchange):
    size = int.from_bytes(payload[:4], 'little')
    offered = secagg.SessionParams.from_bytes(payload[4 : 4 + size])
    identity = self.keys / f'client-{index}.identity'
    client = secagg.Client(
      offered,
      index,
      tls.read_identity(str(identity)) if offered.authenticated else None,
      self.roster.keys if offered.authenticated else None,
    )
    client.provide(VALUES)
    message = await self.computed(client.start)
    rounds = [at for at in secagg.Round if offered.authenticated or at != secagg.Round.CONSISTENCY]
    for at in rounds:
      last = at == rounds[-1]
      head = {'session': session, 'round': at, 'last': last}
      _, answer = await ask(exchange, head, message)
      if not last:
        message = await self.computed(client.receive, answer) or b''

  async def computed(self, function, *arguments):
    return await asyncio.get_running_loop().run_in_executor(self.arithmetic, function, *arguments)


async def ask(call, head, payload=b''):
  frames = [frame async for frame in call(next(framing.frames(head, payload)), timeout=3600)]
  return framing.gather(frames, 2**26)


async def take_part(keys, address, indices, options):
  crowd = Crowd(keys, address, options)
  await asyncio.gather(*map(crowd.client, indices))
  tell(cpu=time.process_time())


if __name__ == '__main__':
  kind, keys, *arguments = sys.argv[1:]
  if kind == 'server':
    serve(pathlib.Path(keys), json.loads(arguments[0]))
  else:
    address, first, end, options = arguments
    indices = range(int(first), int(end))
    asyncio.run(take_part(pathlib.Path(keys), address, indices, json.loads(options)))
    # As it ends, gRPC waits for ever if more events are left than the socket to its loop holds.
    os._exit(0)

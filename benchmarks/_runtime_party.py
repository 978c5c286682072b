"""The processes of `runtime.py --only grpc`: a server, 16 clients, one killed in round 2."""

import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from concurrent import futures

import grpc
import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import (
  arrays,
  coordinator,
  framing,
  participant,
  served_session,
)
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.deployment.keys.member import Member
from tff_privacy_agg.deployment.keys.roster import Roster
from tff_privacy_agg.deployment.round_numbers import RoundBook

CLIENTS, DIMENSION, BITS, KILLED, DEADLINE = 16, 10**6, 20, 7, 5.0
NAMES = [f'client-{index}' for index in range(CLIENTS)]
LEAVES = [secagg.Leaf('vector', (DIMENSION,), BITS)]
BROADCAST = [np.zeros(1, np.float32)]


def files(keys, name):
  return [str(keys / one) for one in ('ca.pem', f'{name}.pem', f'{name}.key')]


class Killed(participant.Participant):
  def _exchange(self, offer, at, message, *, last=False):
    if at == 2:
      os.kill(os.getpid(), signal.SIGKILL)
    return super()._exchange(offer, at, message, last=last)


def take_part(keys, address, index):
  roster = Roster.read(keys / 'roster.json')
  identity = tls.read_identity(str(keys / f'{NAMES[index]}.identity'))
  vector = np.random.default_rng(index).integers(0, 2**BITS, DIMENSION)
  client = (Killed if index == KILLED else participant.Participant)(
    address=address,
    credentials=tls.channel_credentials(*files(keys, NAMES[index])),
    member=Member(name=NAMES[index], client_id=index, identity=identity, roster=roster.keys),
    task='benchmark',
    schema='vector',
    book=RoundBook(keys.parent / f'{NAMES[index]}.json'),
  )
  client.serve(lambda broadcast, leaves: {'vector': vector})


def session(keys, mode, number):
  """One session; returns its wall time beyond the deadline that was waited for."""
  roster = Roster.read(keys / 'roster.json')
  server = coordinator.Coordinator(
    address='127.0.0.1:0',
    credentials=tls.server_credentials(*files(keys, 'server')),
    clients=roster.ids,
    task='benchmark',
    schema='vector',
    deadlines=served_session.Deadlines(join=60, work=60, round=DEADLINE),
    roster=roster.keys if mode == 'authenticated' else None,
  )
  command = [sys.executable, __file__, str(keys), server.address]
  clients = [subprocess.Popen([*command, str(index)]) for index in range(CLIENTS)]
  try:
    cohort = server.gather(CLIENTS, CLIENTS)
    time.sleep(1.0)
    params = secagg.SessionParams(
      task='benchmark',
      round_number=number,
      leaves=LEAVES,
      mode=mode,
      context=secagg.context_digest(BROADCAST),
    )
    start = time.perf_counter()
    result = server.run(params, arrays.encode(BROADCAST), cohort)
    seconds = time.perf_counter() - start - DEADLINE
  finally:
    server.close()
    for client in clients:
      client.wait(30)
  kept = [index for index in range(CLIENTS) if index != KILLED]
  want = sum(np.random.default_rng(index).integers(0, 2**BITS, DIMENSION) for index in kept)
  if not np.array_equal(result.values['vector'], want % 2**BITS):
    raise SystemExit('the sum is wrong')
  return seconds


def floor(keys):
  """Seconds to move the survivors' vectors, one after another, over one such connection."""
  limit = BITS * DIMENSION // 8
  pool = futures.ThreadPoolExecutor(2)

  def take(stream, context):
    framing.gather(stream, limit)
    yield from framing.frames({})

  server = grpc.server(pool)
  handlers = {framing.EXCHANGE: grpc.stream_stream_rpc_method_handler(take)}
  server.add_generic_rpc_handlers(
    (grpc.method_handlers_generic_handler(framing.SERVICE, handlers),)
  )
  port = server.add_secure_port('127.0.0.1:0', tls.server_credentials(*files(keys, 'server')))
  server.start()
  credentials = tls.channel_credentials(*files(keys, NAMES[0]))
  with grpc.secure_channel(f'127.0.0.1:{port}', credentials, framing.CLIENT_OPTIONS) as channel:
    call = channel.stream_stream(f'/{framing.SERVICE}/{framing.EXCHANGE}')
    payload = bytes(limit)
    framing.gather(call(framing.frames({}, payload)), limit)
    start = time.perf_counter()
    for _ in range(CLIENTS - 1):
      framing.gather(call(framing.frames({}, payload)), limit)
    seconds = time.perf_counter() - start
  server.stop(None)
  return seconds


def measure(repeat):
  with tempfile.TemporaryDirectory() as directory:
    keys = make_keys(pathlib.Path(directory) / 'keys', NAMES)
    numbers = itertools.count(1)  # clients keep the last one that they served
    found = {
      'clients': CLIENTS,
      'elements': DIMENSION,
      'bits': BITS,
      'killed_in_round': 2,
      'seconds_beyond_deadline': {
        mode: sorted(round(session(keys, mode, next(numbers)), 3) for _ in range(repeat))
        for mode in ('semi_honest', 'authenticated')
      },
      'seconds_floor': sorted(round(floor(keys), 3) for _ in range(repeat)),
    }
  print(json.dumps(found))
  return found


if __name__ == '__main__':
  take_part(pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

"""One client, or an outsider, that takes all it can get: what the others notice of it."""

import asyncio
import contextlib
import gc
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time

import deployments
import grpc
import grpc.aio
import party
import pytest
from deployments import NAMES, Deployment, Running, client_of, running

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import framing, limits, served_session
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.roster import Roster

HERE = pathlib.Path(__file__).parent
OTHERS = [name for name in NAMES if name != 'north']


@contextlib.contextmanager
def connected(keys, address, count):
  """So many connections with north's certificate."""
  credentials = tls.channel_credentials(
    *(str(keys / file) for file in ('ca.pem', 'north.pem', 'north.key'))
  )
  channels = [
    grpc.secure_channel(address, credentials, framing.CLIENT_OPTIONS) for _ in range(count)
  ]
  try:
    yield channels
  finally:
    for channel in channels:
      channel.close()


def call_of(channel, method):
  return channel.stream_stream(f'/{framing.SERVICE}/{method}')


def hello():
  return next(framing.frames(framing.hello(deployments.TASK, deployments.SCHEMA)))


@contextlib.contextmanager
def served(keys, state, **options):
  """A server in a process of its own, for one session of the other four: (process, address)."""
  arguments = [str(keys), str(state), '127.0.0.1:0', json.dumps({'sessions': 1, **options})]
  server = subprocess.Popen(
    [sys.executable, str(HERE / 'party.py'), 'server', *arguments],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    yield server, server.stdout.readline().strip()
  finally:
    server.kill()
    server.communicate()


def resident(pid):
  """Bytes of memory that a process holds."""
  fields = pathlib.Path(f'/proc/{pid}/statm').read_text().split()
  return int(fields[1]) * 4096


class Elsewhere:
  """What `client_of` needs of a deployment whose server is another process."""

  def __init__(self, keys, state, address):
    self.keys, self.state = keys, state
    self.roster = Roster.read(keys / 'roster.json')
    self.coordinator = type('Known', (), {'address': address})

  def files(self, name):
    return Deployment.files(self, name)

  def close(self):
    """The server ends by itself."""


def test_a_client_that_holds_calls_costs_nobody_a_round(keys, tmp_path):
  deployment = Deployment(keys, tmp_path, limits=deployments.deadlines(work=4.0))
  offered, flooded, released = threading.Event(), threading.Event(), threading.Event()

  def half():
    released.wait(30)
    yield from ()

  def waits(client_id):
    def work(broadcast, leaves):
      offered.set()
      flooded.wait(20)
      return deployments.work_of(client_id)(broadcast, leaves)

    return work

  with connected(keys, deployment.coordinator.address, 10) as channels:
    join = call_of(channels[0], framing.JOIN)(iter([hello()]))
    ids = deployment.roster.ids
    clients = [Running(client_of(deployment, name), waits(ids[name])) for name in OTHERS]
    results = []
    session = threading.Thread(target=lambda: results.append(deployment.session()), daemon=True)
    session.start()
    framing.gather(join, 2**20)
    assert offered.wait(10)
    calls = [call_of(one, framing.EXCHANGE)(half()) for one in channels for _ in range(2)]
    time.sleep(0.5)
    flooded.set()
    session.join(30)
    released.set()
    for call in calls:
      call.cancel()
  deployment.close()
  assert [client.join() for client in clients] == [1] * 4
  assert results[0].survivors == (1, 2, 3, 4)


def test_calls_beyond_the_limit_end_at_once_and_are_told_once(keys, tmp_path):
  deployment = Deployment(keys, tmp_path)
  held = deployment.coordinator._service.limits.calls
  released = threading.Event()
  codes = []

  def nothing():
    released.wait(30)
    yield from ()

  with connected(keys, deployment.coordinator.address, 4) as channels:
    calls = [
      call_of(channel, framing.JOIN)(nothing()) for channel in channels for _ in range(limits.CALLS)
    ]
    for call in calls:
      call.add_done_callback(lambda call: codes.append(call.code()))
    beyond = 3 * limits.CALLS
    _wait(lambda: len(codes) >= beyond)
    assert codes == [grpc.StatusCode.RESOURCE_EXHAUSTED] * beyond
    assert held == {0: limits.CALLS}
    assert deployment.log.of('limited') == [
      {'name': 'north', 'reason': f'more than {limits.CALLS} open calls'}
    ]
    released.set()
    for call in calls:
      call.cancel()
    _wait(lambda: not held)
  deployment.close()


def test_a_call_that_says_nothing_ends(keys, tmp_path, monkeypatch):
  monkeypatch.setattr(limits, 'HELLO_SECONDS', 0.5)
  deployment = Deployment(keys, tmp_path)
  released = threading.Event()

  def nothing():
    released.wait(30)
    yield from ()

  with connected(keys, deployment.coordinator.address, 1) as channels:
    call = call_of(channels[0], framing.JOIN)(nothing())
    with pytest.raises(grpc.RpcError) as raised:
      next(call)
    assert raised.value.code() is grpc.StatusCode.CANCELLED
    released.set()
  deployment.close()


def test_the_bytes_of_one_client_are_bounded():
  held = limits.Limits()
  with held.message(0, 100, 100), held.message(0, 100, 100):
    with pytest.raises(limits.TooMuch, match='200 bytes in flight'), held.message(0, 1, 100):
      pass
    with held.message(1, 100, 100):
      assert held.held == {0: 200, 1: 100}
  assert not held.held


class Abroad:
  """A call whose client is gone before it is answered."""

  def __init__(self, pem, frames):
    self._pem, self._frames = pem, iter(frames)

  async def read(self):
    return next(self._frames, grpc.aio.EOF)

  def auth_context(self):
    return {'x509_pem_cert': [self._pem]}


def test_what_a_client_left_behind_counts_and_is_heard(keys, tmp_path):
  deployment = Deployment(keys, tmp_path)
  service, computing, done = deployment.coordinator._service, threading.Event(), threading.Event()
  server = secagg.Server(deployment.params())
  session = served_session.LiveSession(server, b'', frozenset(range(5)))

  def slow(client, head, message):
    computing.set()
    done.wait(20)

  session.receive = slow

  async def leave():
    service.room.session = session
    frames = framing.frames({'session': session.id, 'round': 0}, bytes(200))
    context = Abroad((keys / 'north.pem').read_bytes(), frames)
    call = asyncio.ensure_future(service.exchange(None, context))
    while not computing.is_set():
      await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.sleep(0.1)
    # Calls that are given up at once would otherwise pile up what they have sent.
    assert service.limits.held == {0: 200}
    assert service.limits.calls == {0: 1}
    session.heard.clear()
    done.set()
    await asyncio.wait({call})
    assert call.cancelled()
    # Whoever waits for the round looks again: it may have been the last that was missing.
    assert session.heard.is_set()
    assert not service.limits.held
    assert not service.limits.calls

  try:
    deployments.event_loop.call(leave())
  finally:
    done.set()
    deployment.close()


def test_a_flood_of_refusals_does_not_fill_the_log(keys, tmp_path):
  deployment = Deployment(keys, tmp_path)
  stranger = next(framing.frames(framing.hello('another task', deployments.SCHEMA)))
  gc.disable()  # No call may wait for it to end: the connection would soon have too many.
  try:
    with connected(keys, deployment.coordinator.address, 1) as channels:
      for _ in range(limits.LINES + 10):
        head, _ = framing.gather(call_of(channels[0], framing.JOIN)(iter([stranger])), 2**10)
        assert head['what'] == 'task'
  finally:
    gc.enable()
  assert len(deployment.log.of('refused')) == limits.LINES
  deployment.close()


def test_a_closed_coordinator_leaves_no_thread(keys, tmp_path):
  before = set(threading.enumerate())
  deployment = Deployment(keys, tmp_path)
  deployments.event_loop.call(deployment.coordinator._service._arithmetic.run(int))
  computing = {one for one in threading.enumerate() if one.name.startswith('protocol')} - before
  assert computing
  deployment.close()
  for thread in computing:
    thread.join(10)
    assert not thread.is_alive()


def test_announced_messages_are_counted_while_they_come(keys, tmp_path):
  deployment = Deployment(keys, tmp_path, limits=deployments.deadlines(work=5.0))
  service = deployment.coordinator._service
  released, codes = threading.Event(), []
  leaves = [secagg.Leaf('vector', (2**18,), 20), deployments.LEAVES[1]]

  def announced():
    # All but its last frame, of the largest size.
    head = {'session': service.room.session.id, 'round': 0, 'last': False}
    frames = list(framing.frames(head, bytes(service.room.session.limit)))
    yield from frames[:-1]
    released.wait(30)

  with connected(keys, deployment.coordinator.address, 1) as channels:
    join = call_of(channels[0], framing.JOIN)(iter([hello()]))
    with running(deployment, OTHERS, work=party.large_work(0, 2**18)):
      session = threading.Thread(target=deployment.session, kwargs={'leaves': leaves}, daemon=True)
      session.start()
      framing.gather(join, 2**20)
      calls = [call_of(channels[0], framing.EXCHANGE)(announced()) for _ in range(5)]
      for call in calls:
        call.add_done_callback(lambda call: codes.append(call.code()))
      _wait(lambda: len(codes) >= 3)
      assert codes[:3] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 3
      assert service.limits.held[0] == limits.MESSAGES * service.room.session.limit
      released.set()
      session.join(20)
  assert deployment.log.of('result')[0]['survivors'] == 'south, east, west, centre'


def test_joins_without_end_cost_no_memory(keys, tmp_path):
  padding = {'padding': 'x' * 60_000}
  greeting = {**framing.hello(deployments.TASK, deployments.SCHEMA), **padding}
  request = next(framing.frames(greeting))
  with (
    served(keys, tmp_path, clients=4, deadlines={'join': 60}) as (server, address),
    connected(keys, address, 20) as channels,
  ):
    for channel in channels:
      grpc.channel_ready_future(channel).result(20)
    before = resident(server.pid)
    calls = [call_of(one, framing.JOIN)(iter([request])) for one in channels for _ in range(250)]
    time.sleep(3.0)
    grown = resident(server.pid) - before
    for call in calls:
      call.cancel()
  # The requests are 300 MB; a connection costs some 0.2 MB.
  assert grown < 40e6, grown


def test_connections_without_a_handshake_leave_descriptors_and_end(keys, tmp_path):
  files = 200
  with served(keys, tmp_path, clients=4, files=files, hello=2.0) as (server, address):
    host, _, port = address.rpartition(':')
    with contextlib.ExitStack() as stack:
      for _ in range(2 * files):
        stack.enter_context(socket.create_connection((host, int(port)), 5.0))
      time.sleep(0.5)
      used = len(list(pathlib.Path(f'/proc/{server.pid}/fd').iterdir()))
      # What the run writes, as its ledger, finds a descriptor.
      assert used <= files - 50
      # The connections stay open at the other side; clients get in all the same.
      with running(Elsewhere(keys, tmp_path, address), OTHERS, reconnect_seconds=30.0):
        told = json.loads(server.stdout.readline())
  assert told['survivors'] == [1, 2, 3, 4]


def test_arithmetic_does_not_hold_up_calls(keys, tmp_path):
  deployment = Deployment(keys, tmp_path)
  service, released = deployment.coordinator._service, threading.Event()
  deployments.event_loop.call(_begin(service._arithmetic.run(released.wait, 30)))
  with connected(keys, deployment.coordinator.address, 1) as channels:
    calls = [call_of(channels[0], framing.JOIN)(iter([hello()])) for _ in range(2)]
    # Of two calls of a client the first is sent away, by the loop, while the thread computes.
    _wait(lambda: len(service.limits.calls) == 1 and sum(service.limits.calls.values()) == 1)
    assert not released.is_set()
    for call in calls:
      call.cancel()
  released.set()
  deployment.close()


_begun = set()


async def _begin(coroutine):
  _begun.add(asyncio.ensure_future(coroutine))


def _wait(condition, seconds=10.0):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)

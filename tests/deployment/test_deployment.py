"""A server and clients over gRPC with mutual TLS on loopback, clients as threads."""

import asyncio
import dataclasses
import json
import re
import threading
import time

import deployments
import grpc
import numpy as np
import pytest
from deployments import BROADCAST, NAMES, Running, assert_sum, client_of, running, stop

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, connection, framing, participant
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
@pytest.mark.parametrize('verify', [None, 'mac'])
def test_a_deployment_runs_one_session_after_another(mode, verify, deploy):
  deployment = deploy(mode=mode)
  with running(deployment) as clients:
    for _ in range(2):
      assert_sum(deployment.session(verify=verify), range(5))
  assert [client.outcome for client in clients.values()] == [2] * 5
  assert [fields['verdicts'] for fields in deployment.log.of('result')] == ['5 of 5 good'] * 2


class Leaves(participant.Participant):
  """Vanishes in one protocol round, as a killed process does."""

  at = 0

  def _exchange(self, offer, at, message, *, last=False):
    if at == self.at:
      self.close()
      raise SystemExit
    return super()._exchange(offer, at, message, last=last)


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
@pytest.mark.parametrize('at', range(6))
def test_a_client_that_vanishes_costs_one_deadline_and_its_own_input_at_most(at, mode, deploy):
  if mode == 'semi_honest' and at == 3:
    return  # There is no such round.
  deployment = deploy(mode=mode, limits=deployments.deadlines(work=1.0, round=1.0))
  Running(client_of(deployment, 'west', type('LeavesAt', (Leaves,), {'at': at})))
  started = time.monotonic()
  with running(deployment, [name for name in NAMES if name != 'west']):
    result = deployment.session()
  assert_sum(result, [0, 1, 2, 4] if at < 3 else range(5))
  # One deadline is waited for, for the one that vanished, and no more.
  assert time.monotonic() - started < 6.0
  if at < 5:
    closed = [{'protocol_round': at, 'missing': 'west'}]
    assert deployment.log.of('round closed') == closed


def test_a_client_that_comes_late_is_in_the_next_session(deploy):
  deployment = deploy()
  with running(deployment, NAMES[:4]) as clients:
    assert_sum(deployment.session(expected=4), range(4))
    late = Running(client_of(deployment, 'centre'))
    assert_sum(deployment.session(), range(5))
  assert late.join() == 1
  assert clients['north'].outcome == 2


def test_a_client_that_lost_its_connection_sends_again(deploy):
  class Stutters(participant.Participant):
    def _exchange(self, offer, at, message, *, last=False):
      if at == 2:
        # The message arrives; the connection breaks before the answer.
        head = {'session': offer.session, 'round': at, 'last': False}
        call = self._connection._exchange_call(framing.frames(head, message), timeout=10.0)
        time.sleep(0.5)
        call.cancel()
      return super()._exchange(offer, at, message, last=last)

  deployment = deploy()
  stuttering = Running(client_of(deployment, 'west', Stutters))
  with running(deployment, [name for name in NAMES if name != 'west']):
    assert_sum(deployment.session(), range(5))
  assert stuttering.join() == 1


RUBBISH = {
  'bytes': b'rubbish',
  'empty': b'',
  'large': bytes(2**20),
  'another round': None,
}


@pytest.mark.parametrize('kind', RUBBISH)
def test_a_client_that_sends_rubbish_is_out(kind, deploy):
  class Rubbish(participant.Participant):
    def _exchange(self, offer, at, message, *, last=False):
      if at == 1:
        message = RUBBISH[kind] if RUBBISH[kind] is not None else self.first
      self.first = message
      return super()._exchange(offer, at, message, last=last)

  deployment = deploy()
  bad = Running(client_of(deployment, 'west', Rubbish))
  started = time.monotonic()
  with running(deployment, [name for name in NAMES if name != 'west']):
    result = deployment.session()
  assert_sum(result, [0, 1, 2, 4])
  assert time.monotonic() - started < 8.0 or kind == 'large'
  assert bad.join() == 0
  assert deployment.log.of('refused')


def test_a_client_that_does_not_end_its_message_is_cut_off(deploy):
  class Stalls(participant.Participant):
    def _exchange(self, offer, at, message, *, last=False):
      if at != 2:
        return super()._exchange(offer, at, message, last=last)
      released = threading.Event()

      def half():
        released.wait(20)
        yield from framing.frames({'session': offer.session}, message)

      call = self._connection._exchange_call(half(), timeout=20)
      with pytest.raises(grpc.RpcError):
        list(call)
      released.set()
      raise secagg.SessionAborted('cut off')

  deployment = deploy(limits=deployments.deadlines(round=1.0))
  stalling = Running(client_of(deployment, 'west', Stalls))
  with running(deployment, [name for name in NAMES if name != 'west']):
    assert_sum(deployment.session(), [0, 1, 2, 4])
    deployment.coordinator.gather(1, 1, frozenset([3]))
  assert stalling.join(10) == 0


@pytest.mark.parametrize('deadline', [0, -1, float('inf'), float('nan'), 1e9, 'x', None])
def test_a_client_refuses_deadlines_without_end(deadline, deploy):
  deployment = deploy()
  client = client_of(deployment, 'north')
  params = deployment.params().to_bytes()
  head = {'session': 'x', 'deadlines': [1.0] * 5 + [deadline]}
  with pytest.raises(secagg.InvalidMessage, match='deadline'):
    client._read_offer(head, len(params).to_bytes(4, 'little') + params)
  client.close()


def test_a_client_refuses_less_than_its_policy(deploy):
  deployment = deploy(mode='semi_honest', limits=deployments.deadlines(work=600.0))
  strict = secagg.Policy(authenticated=True)
  started = time.monotonic()
  with running(deployment, NAMES[:4]) as clients:
    one = client_of(deployment, 'centre')
    one._member = dataclasses.replace(one._member, policy=strict)
    refusing = Running(one)
    assert_sum(deployment.session(), range(4))
  assert refusing.join() == 0
  assert 'UnsafeParameters' in one._events.of('session failed')[0]['reason']
  # It says so, and why, and nobody waits for the deadline.
  assert time.monotonic() - started < 300.0
  (declined,) = deployment.log.of('declined')
  assert declined['name'] == 'centre'
  assert 'authenticated' in declined['reason']
  assert clients['north'].outcome == 1


@pytest.mark.parametrize('what', ['task', 'schema'])
def test_another_task_or_schema_is_refused_in_a_sentence(what, deploy):
  deployment = deploy()
  client = client_of(deployment, 'north', **{what: 'something else'})
  with pytest.raises(ConfigurationError, match=f'it has {what} .*this client something else'):
    client.serve(None)
  client.close()


def test_a_client_refuses_another_model_than_the_others_got(deploy):
  deployment = deploy()
  original = deployment.coordinator._service.room.wait
  other = arrays.encode([np.arange(3, dtype=np.float32) + 1])

  async def swap(client, *told):
    session = await original(client, *told)
    if session is None or client != 4:
      return session
    kept = session.offer[: len(session.offer) - len(arrays.encode(BROADCAST))]
    copy = object.__new__(type(session))
    copy.__dict__ = {**session.__dict__, 'offer': kept + other}
    return copy

  deployment.coordinator._service.room.wait = swap
  # The other four cannot open the shares of the fifth.
  with running(deployment) as clients, pytest.raises(secagg.SecAggError):
    deployment.session(minimum_clients=5)
  assert clients['centre'].outcome == 0


def test_too_few_clients_are_named(deploy):
  deployment = deploy(limits=deployments.deadlines(join=0.5))
  told = pytest.raises(secagg.RoundTimeout, match=r'3 clients were waited for 0.5 s.*north, east')
  with running(deployment, ['north', 'east']), told:
    deployment.session()


def test_work_that_fails_costs_its_client_only(deploy):
  def fails(broadcast, leaves):
    raise ZeroDivisionError('a patient is named Smith')

  deployment = deploy()
  bad = Running(client_of(deployment, 'west'), fails)
  with running(deployment, [name for name in NAMES if name != 'west']):
    assert_sum(deployment.session(), [0, 1, 2, 4])
  assert bad.join() == 0
  # What failed is told at the client; the server learns that, not why.
  assert 'Smith' in str(bad.client._events.seen)
  assert 'Smith' not in str(deployment.log.seen)


def test_a_server_that_comes_back_goes_on_and_takes_nothing_old(deploy, keys, tmp_path):
  deployment = deploy()
  port = deployment.coordinator.port
  late = {}

  class Keeps(participant.Participant):
    def _exchange(self, offer, at, message, *, last=False):
      late.setdefault(at, (offer, message))
      return super()._exchange(offer, at, message, last=last)

  clients = [Running(client_of(deployment, name, Keeps)) for name in NAMES]
  assert_sum(deployment.session(), range(5))
  deployment.coordinator.gather(5, 5)
  # As a killed server: no goodbye.
  stop(deployment.coordinator)
  # gRPC waits longer and longer before it tries a lost server again.
  limits = deployments.deadlines(join=60.0)
  again = deploy(address=f'127.0.0.1:{port}', limits=limits)
  cohort = again.coordinator.gather(5, 5)
  client = client_of(again, 'north')
  with pytest.raises(secagg.SessionAborted, match='refused the message'):
    client._exchange(late[2][0], 2, late[2][1])
  client.close()
  params = again.params()
  assert params.round_number == 2
  assert_sum(again.coordinator.run(params, arrays.encode(BROADCAST), cohort), range(5))
  again.close()
  assert [client.join() for client in clients] == [2] * 5


def test_a_server_that_answers_no_more_is_looked_for_anew(deploy, monkeypatch):
  monkeypatch.setattr(connection, '_JOIN_SECONDS', 1.0)
  frozen = deploy()
  callers = []

  async def answers_nothing(context):
    callers.append(context.peer())
    await asyncio.sleep(20)

  monkeypatch.setattr(frozen.coordinator._service, '_caller', answers_nothing)
  clients = [Running(client_of(frozen, name, reconnect_seconds=20.0)) for name in NAMES]
  deadline = time.monotonic() + 20
  while len(set(callers)) < 10 and time.monotonic() < deadline:
    time.sleep(0.05)
  # Each has come again, over another connection: the first may lead to a server that is no more.
  assert len(set(callers)) >= 10
  port = frozen.coordinator.port
  stop(frozen.coordinator)
  again = deploy(address=f'127.0.0.1:{port}')
  assert_sum(again.session(), range(5))
  again.close()
  assert [client.join() for client in clients] == [1] * 5


def test_an_address_has_one_server(deploy):
  first = deploy()
  with pytest.raises(RuntimeUnavailableError, match='Choose another address'):
    deploy(address=f'127.0.0.1:{first.coordinator.port}')


def test_patience_is_counted_from_the_loss(deploy):
  client = client_of(deploy(), 'north', reconnect_seconds=0.3)
  calls = []

  class Lost(grpc.RpcError):
    def code(self):
      return grpc.StatusCode.UNAVAILABLE

    def details(self):
      return 'reset'

  def call():
    calls.append(time.monotonic())
    if len(calls) == 1:
      time.sleep(0.5)  # Connected, waiting for others: longer than the patience.
      raise Lost
    return 'answer'

  assert client._connection.patiently(call, 0.3, 'to answer') == 'answer'
  client.close()


def test_a_round_number_is_served_once(deploy):
  deployment = deploy(limits=deployments.deadlines(work=2.0))
  with running(deployment) as clients:
    deployment.session()
    with pytest.raises(secagg.NotEnoughClients):
      deployment.session(round_number=1)
  assert {client.outcome for client in clients.values()} == {1}


def test_no_event_tells_a_value(deploy):
  deployment = deploy(mode='authenticated')
  with running(deployment) as clients:
    deployment.session()
  told = json.dumps([deployment.log.seen, *(c.client._events.seen for c in clients.values())])
  assert 'result' in told
  assert not re.search(r'(?<![\d.:])31(?![\d.])', told)  # the sum; ports hold it by chance
  for secret in ('array', deployment.roster.keys[0].hex()):
    assert secret not in told

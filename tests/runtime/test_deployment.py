"""A server and clients over gRPC with mutual TLS on loopback, clients as threads."""

import dataclasses
import itertools
import json
import os
import re
import threading
import time

import deployments
import grpc
import numpy as np
import pytest
from deployments import BROADCAST, NAMES, SCHEMA, Deployment, Running, client_of, running

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError
from tff_privacy_agg.runtime import arrays, framing, participant, tls
from tff_privacy_agg.runtime.round_book import RoundBook


@pytest.fixture(scope='module')
def keys(tmp_path_factory):
  return tls.make_keys(tmp_path_factory.mktemp('pki') / 'keys', NAMES)


@pytest.fixture
def deploy(keys, tmp_path):
  made = []

  def make(**arguments):
    made.append(Deployment(keys, tmp_path, **arguments))
    return made[-1]

  yield make
  for deployment in made:
    deployment.close()


def assert_sum(result, clients):
  assert result.survivors == tuple(clients)
  np.testing.assert_array_equal(result.values['vector'], sum(2**client for client in clients))
  assert result.values['count'] == len(clients)


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
@pytest.mark.parametrize('verify', [None, 'mac'])
def test_sessions_in_a_row(mode, verify, deploy):
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
def test_a_client_that_vanishes(at, mode, deploy):
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
        call = self._exchange_call(framing.frames(head, message), timeout=10.0)
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


def test_a_client_that_stops_in_the_middle_of_its_message_is_cut_off(deploy):
  class Stalls(participant.Participant):
    def _exchange(self, offer, at, message, *, last=False):
      if at != 2:
        return super()._exchange(offer, at, message, last=last)
      released = threading.Event()

      def half():
        yield from itertools.islice(framing.frames({'session': offer.session}, message), 1)
        released.wait(20)

      call = self._exchange_call(half(), timeout=20)
      with pytest.raises(grpc.RpcError):
        list(call)
      released.set()
      raise secagg.SessionAborted('cut off')

  deployment = deploy(limits=deployments.deadlines(round=1.0))
  stalling = Running(client_of(deployment, 'west', Stalls))
  with running(deployment, [name for name in NAMES if name != 'west']):
    assert_sum(deployment.session(), [0, 1, 2, 4])
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
  deployment = deploy(mode='semi_honest', limits=deployments.deadlines(work=1.0))
  strict = secagg.Policy(authenticated=True)
  with running(deployment, NAMES[:4]) as clients:
    one = client_of(deployment, 'centre')
    one._member = dataclasses.replace(one._member, policy=strict)
    refusing = Running(one)
    assert_sum(deployment.session(), range(4))
  assert refusing.join() == 0
  assert 'UnsafeParameters' in one._events.of('session failed')[0]['reason']
  assert clients['north'].outcome == 1


def test_another_clients_message_is_refused(deploy):
  # East holds north's certificate, and speaks as itself.
  deployment = deploy(limits=deployments.deadlines(join=1.0, work=1.0, round=1.0))
  thief = Running(client_of(deployment, 'east', certificate='north'))
  with running(deployment, ['south', 'west', 'centre']):
    with pytest.raises(secagg.NotEnoughClients):
      deployment.session(expected=4, minimum_clients=4)
    assert any('SenderMismatch' in fields['reason'] for fields in deployment.log.of('refused'))
  assert thief.join() == 0


def test_certificates_are_asked_for(deploy, keys, tmp_path):
  deployment = deploy()
  ca = (keys / 'ca.pem').read_bytes()
  stranger_keys = tls.make_keys(tmp_path / 'others', ['north', 'x', 'y'])
  without = grpc.ssl_channel_credentials(ca)
  foreign = tls.channel_credentials(
    str(keys / 'ca.pem'), *(str(stranger_keys / f'north.{kind}') for kind in ('pem', 'key'))
  )
  for credentials in (without, foreign):
    client = client_of(deployment, 'north', credentials=credentials, reconnect_seconds=0.5)
    with pytest.raises(secagg.RoundTimeout, match='does not take this certificate'):
      client.serve(None)
    client.close()
  # The server's own certificate is of the authority, but no client's.
  own = client_of(deployment, 'north', certificate='server', reconnect_seconds=0.5)
  with pytest.raises((RuntimeUnavailableError, secagg.RoundTimeout)):
    own.serve(None)
  own.close()
  assert not deployment.log.of('joined')


def test_a_client_does_not_talk_to_a_server_of_another_authority(deploy, keys, tmp_path):
  deployment = deploy()
  others = tls.make_keys(tmp_path / 'others', NAMES)
  credentials = tls.channel_credentials(
    str(others / 'ca.pem'), *(str(keys / f'north.{kind}') for kind in ('pem', 'key'))
  )
  client = client_of(deployment, 'north', credentials=credentials, reconnect_seconds=0.5)
  with pytest.raises(secagg.RoundTimeout):
    client.serve(None)
  client.close()


@pytest.mark.parametrize('what', ['task', 'schema'])
def test_another_task_or_schema_is_refused_in_a_sentence(what, deploy):
  deployment = deploy()
  client = client_of(deployment, 'north', **{what: 'something else'})
  with pytest.raises(ConfigurationError, match=f'it has {what} .*this client something else'):
    client.serve(None)
  client.close()


def test_a_client_refuses_another_model_than_the_others_got(deploy):
  deployment = deploy()
  original = deployment.coordinator._service._await_session
  other = arrays.encode([np.arange(3, dtype=np.float32) + 1])

  def swap(client, context):
    session = original(client, context)
    if session is None or client != 4:
      return session
    kept = session.offer[: len(session.offer) - len(arrays.encode(BROADCAST))]
    copy = object.__new__(type(session))
    copy.__dict__ = {**session.__dict__, 'offer': kept + other}
    return copy

  deployment.coordinator._service._await_session = swap
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
  deployment.coordinator._grpc.stop(None).wait()
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
  monkeypatch.setattr(participant, '_JOIN_SECONDS', 1.0)
  frozen = deploy()
  callers, released = [], threading.Event()

  def answers_nothing(client, context):
    callers.append(context.peer())
    released.wait(20)

  monkeypatch.setattr(frozen.coordinator._service, '_await_session', answers_nothing)
  clients = [Running(client_of(frozen, name, reconnect_seconds=20.0)) for name in NAMES]
  deadline = time.monotonic() + 20
  while len(set(callers)) < 10 and time.monotonic() < deadline:
    time.sleep(0.05)
  # Each has come again, over another connection: the first may lead to a server that is no more.
  assert len(set(callers)) >= 10
  port = frozen.coordinator.port
  stopped = frozen.coordinator._grpc.stop(None)
  released.set()
  stopped.wait()
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

  assert client._patiently(call, 0.3, 'to answer') == 'answer'
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


def test_frames_are_bounded():
  params = secagg.SessionParams(task='t', round_number=1, leaves=deployments.LEAVES)
  limit = framing.largest_message(params, 5)
  assert limit < 2**14
  head, payload = framing.gather(framing.frames({'a': 1}, bytes(1000)), limit)
  assert head == {'a': 1, 'bytes': 1000}
  assert payload == bytes(1000)
  for stream in (
    framing.frames({}, bytes(limit + 1)),
    [],
    [b'[]'],
    [b'{"bytes": 5}', b'123'],
    [b'{"bytes": 5}', b'123456'],
    [b'{"bytes": 5}', b'', b'12345'],
    [b'{"bytes": -1}'],
    [b'{"bytes": true}', b'1'],
    [b'{"bytes": 0.0}'],
    [b'\xff'],
    [b'[' * 60_000],
  ):
    with pytest.raises(secagg.InvalidMessage):
      framing.gather(stream, limit)


def test_what_a_client_sends_fits_the_bound():
  rows = [(1, 3), (65, 62), (10**5, 20)]
  for count, bits in rows:
    leaves = [secagg.Leaf('x', (count,), bits)]
    for mode, verify in (('semi_honest', None), ('authenticated', 'mac')):
      params = secagg.SessionParams(
        task='t', round_number=1, leaves=leaves, mode=mode, verify=verify, graph='complete'
      )
      cost = secagg.communication_cost(
        100, count, bits, mode=mode, verify_mode=verify, graph='complete'
      )
      assert max(cost.up + cost.down) < framing.largest_message(params, 100)


def test_arrays_travel():
  values = [
    np.arange(6, dtype='>i4').reshape(2, 3),
    np.float64(2),
    np.zeros([0, 4]),
    np.bytes_('x'),
  ]
  data = arrays.encode(values)
  for one, other in zip(arrays.decode(data), values, strict=True):
    np.testing.assert_array_equal(one, other)
  assert secagg.context_digest(arrays.decode(data)) == secagg.context_digest(values)
  for bad in (data[:-1], data + b'x', b'', b'\xff' * 20, arrays.encode([])[:2]):
    with pytest.raises(secagg.InvalidMessage):
      arrays.decode(bad)
  with pytest.raises(secagg.InvalidMessage):
    arrays.encode([np.array(['text', None], object)])


def test_keys_are_kept_from_others(keys, tmp_path):
  for path in keys.iterdir():
    private = path.suffix in ('.key', '.identity')
    assert path.stat().st_mode & 0o777 == (0o600 if private else 0o644), path
  assert not (keys / 'ca.key').exists()
  with pytest.raises(ConfigurationError, match='never overwritten'):
    tls.make_keys(keys, ['a'])
  copy = tmp_path / 'copy.identity'
  copy.write_bytes((keys / 'north.identity').read_bytes())
  os.chmod(copy, 0o644)
  with pytest.raises(ConfigurationError, match='chmod 600'):
    tls.read_identity(str(copy))
  with pytest.raises(ConfigurationError, match='PKCS8'):
    tls.read_identity(str(keys / 'north.key'))


@pytest.mark.parametrize('names', [[], ['a', 'a'], ['server'], ['a b'], ['../x'], ['é']])
def test_names_of_clients_are_checked(names, tmp_path):
  with pytest.raises(ConfigurationError, match='clients'):
    tls.make_keys(tmp_path / 'keys', names)
  assert not (tmp_path / 'keys').exists()


def test_a_round_book_only_grows(tmp_path):
  file = tmp_path / 'deep' / 'book.json'
  book = RoundBook(file)
  assert book.last('a') is None
  assert [book.draw('a'), book.draw('a')] == [1, 2]
  book.record('a', 1)
  assert RoundBook(file).last('a') == 2
  assert [path.name for path in file.parent.iterdir()] == ['book.json']
  file.write_text('[]')
  with pytest.raises(ConfigurationError, match='Restore it'):
    RoundBook(file)


def test_deadlines_are_positive():
  with pytest.raises(ConfigurationError):
    deployments.Deadlines(round=0)
  assert dataclasses.asdict(deployments.Deadlines()) == {
    'join': 60.0,
    'work': 600.0,
    'round': 30.0,
  }
  assert SCHEMA

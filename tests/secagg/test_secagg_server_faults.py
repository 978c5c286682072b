"""What the server does with messages that are late, doubled, forged or broken."""

import pickle
import struct

import pytest
from secagg_sessions import MODES, Session, body_of, params, rewrap, server_refuses

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.primitives import keys
from tff_privacy_agg.secagg.primitives.packed_sum import PackedSum


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('in_round', range(5))
def test_a_message_sent_again_counts_once_and_another_one_is_refused(mode, in_round):
  if mode == 'semi_honest' and in_round == 3:
    in_round = 4
  session = Session(mode=mode)
  while session.server.round < in_round:
    session.step()
  session.step(close=False)
  for client, message in session.sent.items():
    session.server.receive(client, message)  # the same bytes: nothing happens
    other = bytearray(message)
    other[-1] ^= 1
    server_refuses(session, client, bytes(other), secagg.DuplicateMessage)
  session.incoming = session.server.close_round()
  session.finish().assert_exact(range(1, 9))
  assert session.server.refused['DuplicateMessage'] == 8


@pytest.mark.parametrize('mode', MODES)
def test_a_message_of_an_earlier_round_is_late_in_every_later_one(mode):
  """All recorded messages, replayed in every round: refused, and the sum is right."""
  session = Session(5, mode=mode, dropout_fraction=0.2)
  recorded = []
  while session.server.result is None:
    now = session.server.round
    for kind, message in recorded:
      with pytest.raises(secagg.SecAggError) as caught:
        session.server.receive(1, message)
      assert isinstance(caught.value, secagg.LateMessage)
      assert kind < now
    session.step(close=False)
    recorded.append((now, session.sent[1]))
    session.incoming = session.server.close_round()
  session.assert_exact(range(1, 6))


@pytest.mark.parametrize('mode', MODES)
def test_messages_of_later_rounds_are_ignored(mode):
  first, second = Session(4, mode=mode), Session(4, mode=mode)
  future = []
  while first.server.result is None:
    first.step()
    future.append(first.sent[2])
  for message in future[1:]:
    # The second session has its own id, which comes before the round.
    forged = rewrap(message, body_of(message), session=second.params.session_id)
    server_refuses(second, 2, forged, secagg.WrongRound)
  second.finish().assert_exact(range(1, 5))


def test_downward_messages_do_not_go_up():
  session = Session(4).step()
  message = session.incoming[1]
  server_refuses(session, 1, rewrap(message, body_of(message), number=1), secagg.WrongRound)


def test_late_vector_is_dropped_unread():
  session = Session().steps(2)
  late = {}
  session.step(up=lambda c, m: late.setdefault(c, m) and None if c == 3 else m)
  server_refuses(session, 3, late[3], secagg.LateMessage)
  # Of a client that has gone, nothing but lateness is worth a word.
  garbage = rewrap(late[3], b'garbage')
  server_refuses(session, 3, garbage, secagg.LateMessage)
  server_refuses(session, 3, rewrap(late[3], b'', kind=wire.Kind.UNMASK), secagg.UnknownClient)
  server_refuses(
    session, 9, rewrap(late[3], b'', kind=wire.Kind.ADVERTISE, number=9), secagg.LateMessage
  )
  session.finish().assert_exact([1, 2, 4, 5, 6, 7, 8])


def test_a_second_vector_of_a_survivor_is_late():
  session = Session().steps(3)
  server_refuses(session, 3, session.sent[3], secagg.LateMessage)
  session.finish().assert_exact(range(1, 9))


def test_a_message_in_the_name_of_another_client_is_refused():
  session = Session()
  message = session.clients[2].start()
  server_refuses(session, 1, message, secagg.SenderMismatch)
  # Neither of the two is shut out.
  session.server.receive(2, message)
  session.incoming.pop(2)
  session.step(close=False)
  session.incoming = session.server.close_round()
  session.finish().assert_exact(range(1, 9))


@pytest.mark.parametrize('client', [-1, 2**32, 9, 'one', None, True, 1.0])
def test_names_that_are_no_client_are_refused(client):
  session = Session(4, mode='authenticated')
  message = session.clients[1].start()
  server_refuses(session, client, message, secagg.UnknownClient)


def test_a_message_replayed_into_another_session_is_refused():
  first = Session(4, mode='authenticated').step()
  second = Session(4, mode='authenticated')
  message = first.sent[1]
  server_refuses(second, 1, message, secagg.InvalidMessage)
  third = Session(4, mode='authenticated')
  forged = rewrap(message, body_of(message), session=third.params.session_id)
  server_refuses(third, 1, forged, secagg.SignatureInvalid)


@pytest.mark.parametrize('in_round', range(3))
def test_signatures_are_checked(in_round):
  session = Session(6, mode='authenticated').steps(in_round)

  def forge(client, message):
    return message[:-1] + bytes([message[-1] ^ 1]) if client == 4 else message

  session.step(up=forge)
  assert type(session.refused[4]) is secagg.SignatureInvalid
  assert session.refused[4].clients == (4,)
  session.finish().assert_exact([1, 2, 3, 5, 6])


def test_a_signature_on_other_survivors_is_refused():
  session = Session(6, mode='authenticated').steps(3)

  def forge(client, message):
    digest = bytes(32)
    key = keys.signing_key(session.identities[client])
    return rewrap(message, keys.sign(key, session.params.salt(), 3, client, digest))

  session.step(up=lambda c, m: forge(c, m) if c == 4 else m)
  assert type(session.refused[4]) is secagg.SignatureInvalid
  session.finish().assert_exact(range(1, 7))


def masked_variants(message, leaves):
  body = body_of(message)
  (count, bits) = struct.unpack_from('<IB', body, 8)
  yield body[:-1]
  yield body + b'\0'
  yield body[:8]
  yield b''
  yield struct.pack('<II', leaves + 1, 0) + body[8:]
  yield struct.pack('<II', leaves, 1) + body[8:]
  yield body[:8] + struct.pack('<IB', count + 1, bits) + body[13:]
  yield body[:8] + struct.pack('<IB', count, bits - 1) + body[13:]
  yield body[:13] + b'\1' + body[14:]
  yield struct.pack('<II', leaves, 1) + body[8:] + b'\0'  # complaints of nobody
  yield struct.pack('<II', leaves, 1) + body[8:] + b'\x80'  # pad bit of 7 neighbours


@pytest.mark.parametrize('variant', range(11))
def test_masked_vectors_of_another_schema_are_refused(variant):
  session = Session().steps(2)

  def forge(client, message):
    return rewrap(message, list(masked_variants(message, 1))[variant]) if client == 5 else message

  session.step(up=forge)
  assert type(session.refused[5]) is secagg.InvalidMessage
  session.finish().assert_exact([1, 2, 3, 4, 6, 7, 8])


def test_a_refused_sender_has_no_second_try():
  session = Session()
  message = session.clients[1].start()
  server_refuses(session, 1, message[:-1], secagg.InvalidMessage)
  server_refuses(session, 1, message, secagg.UnknownClient)
  session.incoming.pop(1)
  session.finish().assert_exact(range(2, 9))


def test_broken_bytes_after_a_good_message_change_nothing():
  session = Session()
  message = session.clients[1].start()
  session.server.receive(1, message)
  server_refuses(session, 1, b'TPSA', secagg.InvalidMessage)
  session.incoming.pop(1)
  assert 1 in session.step().incoming


def test_a_client_that_aborts_has_dropped_out():
  session = Session(8).steps(2)
  error = secagg.InputOutOfRange('too large')
  session.step(up=lambda c, m: session.clients[c].abort(error) if c == 4 else m)
  session.finish(skip=(4,)).assert_exact([1, 2, 3, 5, 6, 7, 8])
  assert session.server.refused[f'Abort {secagg.InputOutOfRange.code}'] == 1


def test_abort_after_the_vector_does_not_take_it_back():
  session = Session(8).steps(2).step(close=False)
  session.server.receive(4, session.clients[4].abort(secagg.SessionAborted('going')))
  session.incoming = session.server.close_round()
  session.finish(skip=(4,)).assert_exact(range(1, 9))


@pytest.mark.parametrize('at', ['an upload', 'the close'])
def test_a_sum_that_broke_half_way_is_no_result(at, monkeypatch):
  """Memory that ran out once, with a part of a vector in the sum."""
  leaves = [secagg.Leaf('v', (70,), bits=20), secagg.Leaf('w', (9,), bits=8)]
  session = Session(5, leaves=leaves).steps(2)
  name = 'add' if at == 'an upload' else 'words'
  real, calls = getattr(PackedSum, name), []

  def once(self, *arguments):
    calls.append(name)
    if len(calls) == 2:
      raise MemoryError
    return real(self, *arguments)

  monkeypatch.setattr(PackedSum, name, once)
  with pytest.raises(MemoryError):
    session.step()
  monkeypatch.undo()
  with pytest.raises(secagg.SessionAborted):
    session.server.close_round()
  assert session.server.result is None


def test_a_finished_session_takes_one_verdict_of_each_client_only():
  session = Session(4).finish()
  with pytest.raises(secagg.WrongRound):
    session.server.close_round()
  session.incoming.pop(1)
  for client, message in session.incoming.items():
    verdict = session.clients[client].receive(message)
    session.server.receive(client, verdict)
    server_refuses(session, client, rewrap(verdict, b'\2'), secagg.DuplicateMessage)
  server_refuses(session, 1, rewrap(verdict, b'\2', number=1), secagg.InvalidMessage)
  assert session.server.verdicts == dict.fromkeys(range(2, 5), True)


def test_server_needs_a_roster_and_is_not_pickled():
  with pytest.raises(ConfigurationError):
    secagg.Server(params(mode='authenticated'))
  with pytest.raises(ConfigurationError):
    secagg.Server(params(), roster={1: b'short'})
  with pytest.raises(TypeError):
    pickle.dumps(secagg.Server(params()))
  assert repr(secagg.Server(params())) == "<Server of task 'test', round 0>"


def test_errors_say_what_and_where():
  found = {
    cls.code
    for cls in vars(secagg).values()
    if isinstance(cls, type) and issubclass(cls, secagg.SecAggError)
  }
  assert found == set(range(24))
  error = secagg.NotEnoughShares('17 shares for client 9, 19 needed', round=4, clients=(9,))
  assert str(error) == 'NotEnoughShares(round=4): 17 shares for client 9, 19 needed'
  assert isinstance(error, PrivacyAggError)
  again = pickle.loads(pickle.dumps(error))
  assert (str(again), again.round, again.clients) == (str(error), 4, (9,))


def test_stated_sizes_take_no_memory_before_they_are_checked():
  session = Session(4).steps(2)
  huge = struct.pack('<II', 1, 0) + struct.pack('<IB3s', 2**32 - 1, 62, bytes(3))
  message = wire.encode(wire.Kind.MASKED, session.params.session_id, 1, huge)
  server_refuses(session, 1, message, secagg.InvalidMessage)
  many = struct.pack('<II', 2**32 - 1, 2**32 - 1)
  message = wire.encode(wire.Kind.MASKED, session.params.session_id, 2, many)
  server_refuses(session, 2, message, secagg.InvalidMessage)
  assert sum(upload._total.nbytes for upload in session.server._collected._uploads) == 2 * 64 * 4


def test_invented_abort_codes_take_no_memory():
  session = Session(4).step(close=False)
  before = len(session.server.refused)
  for code in range(1000, 1100):
    session.server.receive(
      1, wire.encode(wire.Kind.ABORT, session.params.session_id, 1, struct.pack('<HB', code, 0))
    )
  assert len(session.server.refused) == before + 1
  assert session.server.refused['Abort'] == 100


def test_an_abort_forgets_the_vectors():
  session = Session(7).steps(2).step(close=False)
  assert session.server._collected._uploads[0]._waiting
  session.server.abort()
  assert session.server._collected._uploads == []


def test_a_buffer_may_be_used_again_once_it_was_received():
  session = Session(8).steps(2)

  def receive(client, message):
    buffer = bytearray(message)
    session.server.receive(client, buffer)
    buffer[-100:] = bytes(100)

  session.step(up=receive, close=False)
  session.incoming = session.server.close_round()
  session.finish().assert_exact(range(1, 9))


def test_an_abort_forgets_the_shares():
  session = Session(8).steps(3).step(close=False)
  assert session.server._collected._answers is not None
  session.server.abort()
  assert session.server._collected._answers is None
  assert session.server._collected._sum == []


def test_numbers_of_the_refused_are_kept():
  session = Session(4)
  for _ in range(3):
    with pytest.raises(secagg.UnknownClient):
      session.server.receive(-1, b'')
  assert session.server.refused == {'UnknownClient': 3}


@pytest.mark.parametrize(('came', 'text'), [(0, '0 clients'), (1, '1 client'), (2, '2 clients')])
def test_too_few_clients_are_counted_in_words(came, text):
  sent = ['sent keys', 'shared their secrets', 'sent a masked vector', 'signed the survivors']
  for closed, what in enumerate(sent):
    session = Session(5, mode='authenticated', dropout_fraction=0.2).steps(closed)
    with pytest.raises(secagg.NotEnoughClients, match=rf': {text} {what}, [34] needed$'):
      session.step(skip=range(came + 1, 6))

"""What the server does with messages that are late, doubled, forged or broken."""

import pickle
import struct

import pytest
from hypothesis import given, settings, strategies as st
from secagg_sessions import Session, body_of, params, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.primitives import keys, shamir

MODES = ('semi_honest', 'authenticated')


def refused(session, client, message, error):
  before = session.server.refused[error.__name__]
  with pytest.raises(error) as caught:
    session.server.receive(client, message)
  assert type(caught.value) is error
  assert caught.value.round is not None
  assert caught.value.code == error.code
  assert session.server.refused[error.__name__] == before + 1
  return caught.value


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('in_round', range(5))
def test_duplicates(mode, in_round):
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
    refused(session, client, bytes(other), secagg.DuplicateMessage)
  session.incoming = session.server.close_round()
  session.finish().assert_exact(range(1, 9))
  assert session.server.refused['DuplicateMessage'] == 8


@pytest.mark.parametrize('mode', MODES)
def test_every_message_in_every_round(mode):
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
    refused(second, 2, forged, secagg.WrongRound)
  second.finish().assert_exact(range(1, 5))


def test_downward_messages_do_not_go_up():
  session = Session(4).step()
  message = session.incoming[1]
  refused(session, 1, rewrap(message, body_of(message), number=1), secagg.WrongRound)


def test_late_vector_is_dropped_unread():
  session = Session().steps(2)
  late = {}
  session.step(up=lambda c, m: late.setdefault(c, m) and None if c == 3 else m)
  refused(session, 3, late[3], secagg.LateMessage)
  # Of a client that has gone, nothing but lateness is worth a word.
  garbage = rewrap(late[3], b'garbage')
  refused(session, 3, garbage, secagg.LateMessage)
  refused(session, 3, rewrap(late[3], b'', kind=wire.Kind.UNMASK), secagg.UnknownClient)
  refused(session, 9, rewrap(late[3], b'', kind=wire.Kind.ADVERTISE, number=9), secagg.LateMessage)
  session.finish().assert_exact([1, 2, 4, 5, 6, 7, 8])


def test_late_vector_of_a_survivor():
  session = Session().steps(3)
  refused(session, 3, session.sent[3], secagg.LateMessage)
  session.finish().assert_exact(range(1, 9))


def test_sender_mismatch():
  session = Session()
  message = session.clients[2].start()
  refused(session, 1, message, secagg.SenderMismatch)
  # Neither of the two is shut out.
  session.server.receive(2, message)
  session.incoming.pop(2)
  session.step(close=False)
  session.incoming = session.server.close_round()
  session.finish().assert_exact(range(1, 9))


@pytest.mark.parametrize('client', [-1, 2**32, 9, 'one', None, True, 1.0])
def test_unknown_clients(client):
  session = Session(4, mode='authenticated')
  message = session.clients[1].start()
  refused(session, client, message, secagg.UnknownClient)


def test_replay_into_another_session():
  first = Session(4, mode='authenticated').step()
  second = Session(4, mode='authenticated')
  message = first.sent[1]
  refused(second, 1, message, secagg.InvalidMessage)
  third = Session(4, mode='authenticated')
  forged = rewrap(message, body_of(message), session=third.params.session_id)
  refused(third, 1, forged, secagg.SignatureInvalid)


LOW_ORDER = [
  bytes(32),
  (1).to_bytes(32, 'little'),
  bytes.fromhex('e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800'),
  bytes.fromhex('5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157'),
  (2**255 - 20).to_bytes(32, 'little'),
]
# Second spellings of keys: X25519 ignores the top bit, and reduces modulo 2**255 - 19.
NOT_CANONICAL = [
  (2**255 - 19).to_bytes(32, 'little'),
  (2**255 - 18).to_bytes(32, 'little'),
  (2**255 - 10).to_bytes(32, 'little'),
  (2**255 - 1).to_bytes(32, 'little'),
  (2**255 + 9).to_bytes(32, 'little'),
  bytes([255]) * 32,
]


@pytest.mark.parametrize('key', LOW_ORDER + NOT_CANONICAL)
@pytest.mark.parametrize('role', [0, 1])
def test_low_order_keys(key, role):
  session = Session(5)

  def forge(client, message):
    body = body_of(message)
    at = role * session.params.layout.public_bytes
    body[at : at + 32] = key
    return rewrap(message, body) if client == 2 else message

  session.step(up=forge)
  assert type(session.refused[2]) is secagg.InvalidPublicKey
  session.finish().assert_exact([1, 3, 4, 5])


def test_a_copied_key_in_another_spelling():
  session = Session(5)
  first = session.clients[1].start()
  session.server.receive(1, first)
  session.incoming.pop(1)
  copied = bytearray(body_of(first)[:32])
  copied[31] |= 0x80

  def forge(client, message):
    body = body_of(message)
    at = session.params.layout.public_bytes
    body[at : at + 32] = copied
    return rewrap(message, body) if client == 2 else message

  session.step(up=forge)
  assert type(session.refused[2]) is secagg.InvalidPublicKey
  session.clients[3]._custody._mask.meet(1, bytes(body_of(first)[:32]))


def test_copied_keys():
  session = Session(5)
  first = session.clients[1].start()
  session.server.receive(1, first)
  body = body_of(session.clients[2].start())
  # Offsets and sizes of X25519 and ML-KEM keys, in the roles cipher and mask.
  roles = (0, session.params.layout.public_bytes)
  parts = [(a, b, 32) for a in roles for b in roles]
  parts += [(32 + a, 32 + b, 1184) for a in roles for b in roles]
  for start, source, size in parts:
    forged = bytearray(body)
    forged[start : start + size] = body_of(first)[source : source + size]
    other = Session(5, session_id=session.params.session_id)
    other.server.receive(1, first)
    refused(other, 2, rewrap(first, forged, number=2), secagg.InvalidPublicKey)
  doubled = bytearray(body)
  doubled[roles[1] : roles[1] + 32] = doubled[:32]
  refused(session, 2, rewrap(first, doubled, number=2), secagg.InvalidPublicKey)


@pytest.mark.parametrize('in_round', range(3))
def test_signatures_are_checked(in_round):
  session = Session(6, mode='authenticated').steps(in_round)

  def forge(client, message):
    return message[:-1] + bytes([message[-1] ^ 1]) if client == 4 else message

  session.step(up=forge)
  assert type(session.refused[4]) is secagg.SignatureInvalid
  assert session.refused[4].clients == (4,)
  session.finish().assert_exact([1, 2, 3, 5, 6])


def test_signature_on_other_survivors():
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
def test_masked_vectors_of_another_schema(variant):
  session = Session().steps(2)

  def forge(client, message):
    return rewrap(message, list(masked_variants(message, 1))[variant]) if client == 5 else message

  session.step(up=forge)
  assert type(session.refused[5]) is secagg.InvalidMessage
  session.finish().assert_exact([1, 2, 3, 4, 6, 7, 8])


def test_a_refused_sender_has_no_second_try():
  session = Session()
  message = session.clients[1].start()
  refused(session, 1, message[:-1], secagg.InvalidMessage)
  refused(session, 1, message, secagg.UnknownClient)
  session.incoming.pop(1)
  session.finish().assert_exact(range(2, 9))


def test_broken_bytes_after_a_good_message_change_nothing():
  session = Session()
  message = session.clients[1].start()
  session.server.receive(1, message)
  refused(session, 1, b'TPSA', secagg.InvalidMessage)
  session.incoming.pop(1)
  assert 1 in session.step().incoming


def test_complaints_of_clients_that_shared_nothing():
  session = Session(6).step().step(skip=(6,))

  def forge(client, message):
    body = body_of(message)
    return (
      rewrap(message, struct.pack('<II', 1, 1) + body[8:] + bytes([1 << 4]))
      if client == 1
      else message
    )

  session.step(up=forge, close=False)
  assert type(session.refused[1]) is secagg.InvalidMessage
  assert session.refused[1].clients == (1,)


def test_answers_that_a_client_cannot_have():
  session = Session(6).step().step(skip=(6,)).step()

  def forge(client, message):
    body = body_of(message)
    body[0] |= 1 << 4  # neighbour 6 of client 1 shared nothing
    return rewrap(message, body + bytes(shamir.SHARE_BYTES)) if client == 1 else message

  session.step(up=forge, close=False)
  assert type(session.refused[1]) is secagg.InvalidMessage


def test_shares_beyond_the_field():
  session = Session(6).steps(3)

  def forge(client, message):
    body = body_of(message)
    body[1:3], body[33] = b'\1\0', body[33] | 1  # 65537
    return rewrap(message, body) if client == 1 else message

  session.step(up=forge, close=False)
  assert type(session.refused[1]) is secagg.InvalidMessage


def test_not_enough_clients_in_each_round():
  for rounds, error in enumerate(
    [secagg.NotEnoughClients, secagg.NotEnoughClients, secagg.NotEnoughClients]
  ):
    session = Session(4, minimum_clients=4).steps(rounds)
    with pytest.raises(error) as caught:
      session.step(skip=(1,))
    assert (caught.value.round, caught.value.clients) == (rounds, (2, 3, 4))
    assert '3 clients' in str(caught.value)
    assert '4 needed' in str(caught.value)
    assert session.server.result is None


def test_not_enough_shares_names_round_have_and_need():
  session = Session(8).steps(3)  # t = 8 - 2 - 1 = 5
  with pytest.raises(secagg.NotEnoughShares) as caught:
    session.step(skip=(1, 2, 3))
  assert str(caught.value) == 'NotEnoughShares(round=4): 4 shares for client 4, 5 needed'
  assert caught.value.clients == (4,)
  assert session.server.result is None
  with pytest.raises(secagg.SessionAborted):
    session.server.close_round()
  with pytest.raises(secagg.SessionAborted):
    session.server.receive(1, b'')
  assert not session.server._sum


def test_exactly_the_threshold_is_enough():
  session = Session(8).steps(3)
  session.step(skip=(1, 2)).assert_exact(range(1, 9))


def test_unsafe_cohorts_are_refused_at_round_0():
  session = Session(4, colluding_fraction=0.75)
  with pytest.raises(secagg.UnsafeParameters) as caught:
    session.step()
  assert caught.value.round == 0


def test_complaint_about_one_bad_byte_excludes_nobody():
  session = Session(8).step()

  def forge(client, message):
    body = body_of(message)
    body[32] ^= 1  # the ciphertext of client 1 for client 2
    return rewrap(message, body) if client == 1 else message

  session.step(up=forge)
  session.finish().assert_exact(range(1, 9))


@pytest.mark.parametrize('mode', MODES)
def test_too_many_complaints_name_both_sides(mode):
  session = Session(8, mode=mode).step()
  t = 5

  def break_shares(client, message):
    body = body_of(message)
    for peer in range(2, 2 + 7 - t + 1):  # k - t + 1 = 3 complainers
      body[1] ^= 1 if client == peer else 0
    return rewrap(message, body)

  session.step()
  with pytest.raises(secagg.BadShares) as caught:
    session.step(down=break_shares)
  assert caught.value.blamed == (1, 2, 3, 4)
  assert caught.value.round == 2
  assert session.server.result is None


def test_complaints_and_drops_together():
  session = Session(8).steps(2)

  def break_shares(client, message):
    body = body_of(message)
    body[1] ^= client in (2, 3)
    return rewrap(message, body)

  # t = 5: client 1 has holders 4 .. 8, and 8 does not answer.
  with pytest.raises(secagg.NotEnoughShares) as caught:
    session.step(down=break_shares, skip=(8,))
  assert caught.value.clients == (1,)


def forge_share(n):
  """Changes the share for the first neighbour: client 1."""

  def forge(message):
    body = body_of(message)
    first = wire.bitmap_bytes(n - 1)
    for index in range(first + 2, first + 30):
      body[index] ^= 1 + (body[index - 1] + index) % 250
    return rewrap(message, body)

  return forge


@pytest.mark.parametrize('liars', [[2], [2, 5], [3, 4, 6], [2, 4, 6, 8, 10]])
@pytest.mark.parametrize('dropped', [(), (1,)])
def test_wrong_shares_are_decoded_and_blamed(liars, dropped):
  # n = 13, t = 13 - 5 - 1 = 7, at most 12 shares: 2 wrong ones by decoding, 5 by trying all sets
  # of 7; up to 3 are named.
  session = Session(13, dropout_fraction=0.4).steps(2).step(skip=dropped)
  forge = forge_share(13)
  session.step(up=lambda c, m: forge(m) if c in liars else m)
  session.assert_exact([c for c in range(1, 14) if c not in dropped])
  assert session.server.result.blamed == {1: tuple(liars) if len(liars) <= 3 else ()}


@pytest.mark.parametrize('dropped', [(), (1,)])
def test_more_wrong_shares_than_can_be_told(dropped):
  # n = 20, t = 12 of 19: C(19, 12) sets are too many to try; 4 wrong ones too many to decode.
  session = Session(20, dropout_fraction=0.35).steps(2).step(skip=dropped)
  forge = forge_share(20)
  with pytest.raises(secagg.BadShares) as caught:
    session.step(up=lambda c, m: forge(m) if c in range(2, 7) else m)
  assert caught.value.clients == (1,)
  assert caught.value.blame == secagg.Blame(disputes=((1, ()),))
  assert not caught.value.unopened
  assert session.server.result is None


def test_one_wrong_share_is_found_with_one_to_spare():
  # m = t + 1: no room for decoding, but the commitment tells.
  session = Session(8).steps(3)
  forge = forge_share(8)
  session.step(skip=(8,), up=lambda c, m: forge(m) if c == 2 else m)
  session.assert_exact(range(1, 9))
  assert session.server.result.blamed == {1: (2,)}


def test_wrong_shares_without_one_to_spare():
  session = Session(8).steps(3)
  forge = forge_share(8)
  with pytest.raises(secagg.BadShares):
    session.step(skip=(7, 8), up=lambda c, m: forge(m) if c == 2 else m)


def test_wrong_commitment_is_found():
  session = Session(8).step()

  def forge(client, message):
    body = body_of(message)
    body[0] ^= 1
    return rewrap(message, body) if client == 1 else message

  session.step(up=forge).step()
  with pytest.raises(secagg.BadShares) as caught:
    session.step()
  assert caught.value.clients == (1,)


def test_client_abort_is_a_drop_out():
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


def test_session_ends_when_it_ends():
  session = Session(4).finish()
  with pytest.raises(secagg.WrongRound):
    session.server.close_round()
  session.incoming.pop(1)
  for client, message in session.incoming.items():
    verdict = session.clients[client].receive(message)
    session.server.receive(client, verdict)
    refused(session, client, rewrap(verdict, b'\2'), secagg.DuplicateMessage)
  refused(session, 1, rewrap(verdict, b'\2', number=1), secagg.InvalidMessage)
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


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_fuzzed_messages(data):
  """Any change of any client's message: only SecAggError, and the sum stays right."""
  mode = data.draw(st.sampled_from(MODES))
  session = Session(6, mode=mode, dropout_fraction=0.34)
  target = data.draw(st.integers(0, 5))

  def fuzz(client, message):
    if client != 3 or session.server.round != target:
      return message
    kind = data.draw(st.sampled_from(['cut', 'grow', 'flip', 'noise', 'type', 'header']))
    changed = bytearray(message)
    if kind == 'cut':
      changed = changed[: data.draw(st.integers(0, len(changed)))]
    elif kind == 'grow':
      changed += data.draw(st.binary(min_size=1, max_size=200))
    elif kind == 'flip':
      changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == 'noise':
      changed = bytearray(data.draw(st.binary(max_size=300)))
    elif kind == 'type':
      changed[5] = data.draw(st.integers(0, 255))
    else:
      changed[:48] = data.draw(st.binary(min_size=48, max_size=48))
    return bytes(changed)

  try:
    while session.server.result is None:
      session.step(up=fuzz)
  except secagg.BadShares:
    return  # a changed commitment or share can end a session, but not bend its sum
  # A semi-honest client may change its own vector; nobody else's.
  if session.refused or target != 2 or mode == 'authenticated':
    session.assert_exact()


def test_memory_is_bounded_by_the_session():
  session = Session(4).steps(2)
  huge = struct.pack('<II', 1, 0) + struct.pack('<IB3s', 2**32 - 1, 62, bytes(3))
  message = wire.encode(wire.Kind.MASKED, session.params.session_id, 1, huge)
  refused(session, 1, message, secagg.InvalidMessage)
  many = struct.pack('<II', 2**32 - 1, 2**32 - 1)
  message = wire.encode(wire.Kind.MASKED, session.params.session_id, 2, many)
  refused(session, 2, message, secagg.InvalidMessage)
  assert sum(vector.nbytes for vector in session.server._sum) == 2 * 64 * 4


def test_invented_abort_codes_take_no_memory():
  session = Session(4).step(close=False)
  before = len(session.server.refused)
  for code in range(1000, 1100):
    session.server.receive(
      1, wire.encode(wire.Kind.ABORT, session.params.session_id, 1, struct.pack('<HB', code, 0))
    )
  assert len(session.server.refused) == before + 1
  assert session.server.refused['Abort'] == 100


def test_an_abort_forgets_the_shares():
  session = Session(8).steps(3).step(close=False)
  assert session.server._answers is not None
  session.server.abort()
  assert session.server._answers is None
  assert session.server._sum == []


def test_numbers_of_the_refused_are_kept():
  session = Session(4)
  for _ in range(3):
    with pytest.raises(secagg.UnknownClient):
      session.server.receive(-1, b'')
  assert session.server.refused == {'UnknownClient': 3}

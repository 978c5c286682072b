"""Public keys that are of low order, copied or under another name, at the server and at the clients."""

import struct

import pytest
from secagg_sessions import Session, body_of, client_refuses, rewrap, server_refuses

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.client.states import State
from tff_privacy_agg.secagg.layout import Layout

LAYOUT = Layout(2, None)
ENTRY, PUBLIC = 4 + LAYOUT.advertisement_bytes, LAYOUT.public_bytes
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
def test_keys_of_low_order_and_in_a_second_spelling_are_refused(key, role):
  session = Session(5)

  def forge(client, message):
    body = body_of(message)
    at = role * session.params.layout.public_bytes
    body[at : at + 32] = key
    return rewrap(message, body) if client == 2 else message

  session.step(up=forge)
  assert type(session.refused[2]) is secagg.InvalidPublicKey
  session.finish().assert_exact([1, 3, 4, 5])


def test_a_copied_key_in_another_spelling_is_refused():
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


def test_a_key_copied_from_another_client_or_role_is_refused():
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
    server_refuses(other, 2, rewrap(first, forged, number=2), secagg.InvalidPublicKey)
  doubled = bytearray(body)
  doubled[roles[1] : roles[1] + 32] = doubled[:32]
  server_refuses(session, 2, rewrap(first, doubled, number=2), secagg.InvalidPublicKey)


def put(entry, at, data):
  return entry[:at] + data + entry[at + len(data) :]


def keys_message(session, client, change):
  message = session.incoming[client]
  body = body_of(message)
  size = ENTRY + 64 * session.params.authenticated
  entries = [body[i : i + size] for i in range(0, len(body), size)]
  return rewrap(message, b''.join(change(entries)))


@pytest.mark.parametrize(
  ('change', 'error'),
  [
    (lambda e: e[:-1], secagg.GraphMismatch),
    (
      lambda e: [*e, struct.pack('<I', 9) + bytes(LAYOUT.advertisement_bytes)],
      secagg.GraphMismatch,
    ),
    (lambda e: [*e[:2], struct.pack('<I', 4) + e[2][4:], *e[3:]], secagg.GraphMismatch),
    (lambda e: [e[0][:4] + e[1][4:], *e[1:]], secagg.InvalidPublicKey),
    (lambda e: [e[0][:4] + bytes(32) + e[0][36:], *e[1:]], secagg.InvalidPublicKey),
    (lambda e: [put(e[0], 4 + PUBLIC, bytes(32)), *e[1:]], secagg.InvalidPublicKey),
    (lambda e: [put(e[0], 4, e[0][4 + PUBLIC : 36 + PUBLIC]), *e[1:]], secagg.InvalidPublicKey),
    # The ML-KEM keys: one of another client, one in both roles, one not in canonical form.
    (lambda e: [put(e[0], 36, e[1][36 : 4 + PUBLIC]), *e[1:]], secagg.InvalidPublicKey),
    (lambda e: [put(e[0], 36, e[0][36 + PUBLIC : -16]), *e[1:]], secagg.InvalidPublicKey),
    (lambda e: [put(e[0], 36, bytes([255]) * 1184), *e[1:]], secagg.InvalidPublicKey),
    (lambda e: [*e[:-1], put(e[-1], 36 + PUBLIC, bytes([255]) * 1184)], secagg.InvalidPublicKey),
  ],
)
def test_a_client_refuses_keys_that_its_neighbours_cannot_have(change, error):
  session = Session(6).step()
  # Entries of client 4 are those of clients 1, 2, 3, 5, 6.
  client_refuses(session, 4, keys_message(session, 4, change), error)


@pytest.mark.parametrize(
  'change',
  [
    lambda e: [e[1], e[0], *e[2:]],
    lambda e: [e[0], e[0], *e[2:]],
    lambda e: [*e[:-1], e[-1][:-1]],
    lambda e: [b'\0', *e],
  ],
)
def test_malformed_keys_are_ignored(change):
  session = Session(6).step()
  message = keys_message(session, 4, change)
  client_refuses(session, 4, message, secagg.InvalidMessage, State.ADVERTISED)
  session.finish().assert_exact(range(1, 7))


def test_a_client_refuses_its_own_key_under_another_name():
  session = Session(6).step()
  own = session.clients[4]._custody.advertisement.encode()
  message = keys_message(session, 4, lambda e: [e[0][:4] + own, *e[1:]])
  client_refuses(session, 4, message, secagg.InvalidPublicKey)


def test_substituted_keys_are_refused_where_keys_are_signed():
  session = Session(6, mode='authenticated').step()
  stranger = secagg.Client(session.params, 1, session.identities[1], session.roster)
  size = session.params.layout.advertisement_bytes
  forged = body_of(stranger.start())[:size]
  message = keys_message(session, 4, lambda e: [e[0][:4] + forged + e[0][4 + size :], *e[1:]])
  error = client_refuses(session, 4, message, secagg.SignatureInvalid)
  assert error.clients == (1,)

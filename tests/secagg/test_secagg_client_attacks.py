"""What a client does when the server, or the network, does not follow the protocol."""

import copy
import pickle
import struct

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from secagg_sessions import Session, body_of, params, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import layout, verify, wire
from tff_privacy_agg.secagg.client import State
from tff_privacy_agg.secagg.primitives import keys

LAYOUT = layout.Layout(2, None)
ENTRY, PUBLIC = 4 + LAYOUT.advertisement_bytes, LAYOUT.public_bytes


def refuses(session, client, message, error, state=State.ABORTED):
  target = session.clients[client]
  with pytest.raises(error) as caught:
    target.receive(message)
  assert type(caught.value) is error
  assert target.state is state
  if state is State.ABORTED:
    assert not any(target._custody._mask.seed.data)
    assert not any(target._custody._self_mask.data)
    assert target._values is None
    with pytest.raises(secagg.SessionAborted):
      target.receive(message)
  return caught.value


def ids_bitmap(session, client, alive, *, everyone=False):
  members = [c for c in session.clients if everyone or c != client]
  return wire.encode_bitmap(np.array([c in alive for c in members]))


# Round 0, downward: keys.


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
def test_keys_that_are_no_neighbours(change, error):
  session = Session(6).step()
  # Entries of client 4 are those of clients 1, 2, 3, 5, 6.
  refuses(session, 4, keys_message(session, 4, change), error)


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
  refuses(session, 4, message, secagg.InvalidMessage, State.ADVERTISED)
  session.finish().assert_exact(range(1, 7))


def test_own_key_under_another_name():
  session = Session(6).step()
  own = session.clients[4]._custody.advertisement.encode()
  message = keys_message(session, 4, lambda e: [e[0][:4] + own, *e[1:]])
  refuses(session, 4, message, secagg.InvalidPublicKey)


def test_substituted_keys_in_the_authenticated_mode():
  session = Session(6, mode='authenticated').step()
  stranger = secagg.Client(session.params, 1, session.identities[1], session.roster)
  size = session.params.layout.advertisement_bytes
  forged = body_of(stranger.start())[:size]
  message = keys_message(session, 4, lambda e: [e[0][:4] + forged + e[0][4 + size :], *e[1:]])
  error = refuses(session, 4, message, secagg.SignatureInvalid)
  assert error.clients == (1,)


def test_strangers_are_not_in_the_roster():
  session = Session(5, mode='authenticated')
  client = session.clients[1]
  session.step()
  del client._roster[3]
  error = refuses(session, 1, session.incoming[1], secagg.UnknownClient)
  assert error.clients == (3,)


@pytest.mark.parametrize(
  ('number', 'error'), [(2, secagg.NotEnoughClients), (7, secagg.GraphMismatch)]
)
def test_wrong_number_of_clients(number, error):
  session = Session(6).step()
  message = session.incoming[1]
  refuses(session, 1, rewrap(message, body_of(message), number=number), error)


def test_more_clients_than_the_session_takes():
  session = Session(6, maximum_clients=6).step()
  message = session.incoming[1]
  refuses(session, 1, rewrap(message, body_of(message), number=7), secagg.CapacityError)


@pytest.mark.parametrize('number', [2**32 - 1, 10**6])
def test_absurd_numbers_of_clients_cost_nothing(number):
  session = Session(50, graph='ring', dropout_fraction=0.1).step()
  message = session.incoming[1]
  refuses(session, 1, rewrap(message, body_of(message), number=number), secagg.GraphMismatch)


def test_number_of_clients_must_not_change():
  session = Session(6).steps(2)
  message = session.incoming[1]
  forged = rewrap(message, body_of(message), number=7)
  refuses(session, 1, forged, secagg.InvalidMessage, State.SHARED)


# Round 1, downward: shares.


def test_too_few_clients_shared():
  session = Session(8).steps(2)
  size = session.params.layout.sealed_bytes
  body = bytes([0b1111]) + bytes(body_of(session.incoming[1])[1 : 1 + 4 * size])
  message = rewrap(session.incoming[1], body)
  error = refuses(session, 1, message, secagg.NotEnoughClients)
  assert '4 neighbours' in str(error)
  assert '5 needed' in str(error)


def test_another_model_for_one_client():
  other = {3: params(session_id=b's' * 32, context=b'another model')}
  session = Session(8, session_id=b's' * 32, context=b'the model', changed=other)
  session.steps(2)
  with pytest.raises(secagg.BadShares) as caught:
    session.step()
  assert type(session.errors[3]) is secagg.ContextMismatch
  assert caught.value.clients[0] == 3
  assert session.server.result is None


def test_two_models_to_two_halves():
  """Pasquini et al., CCS 2022: a model of its own for every client, or for a few."""
  other = dict.fromkeys(range(5, 9), params(session_id=b's' * 32, context=b'another model'))
  session = Session(8, session_id=b's' * 32, context=b'the model', changed=other)
  session.steps(2)
  with pytest.raises(secagg.BadShares):
    session.step()
  assert session.server.result is None


@pytest.mark.parametrize(
  'change',
  [
    {'round_number': 2},
    {'task': 'other'},
    {'minimum_clients': 4},
    {'sigma': 41},
    {'eta': 31},
    {'dropout_fraction': 0.3},
    {'leaves': [secagg.Leaf('w', (70,), bits=20)]},
    {'maximum_clients': 100},
  ],
)
def test_any_other_parameter_parts_the_clients(change):
  other = {3: params(session_id=b's' * 32, **change)}
  if 'leaves' in change:
    with pytest.raises(secagg.InputOutOfRange):
      Session(8, session_id=b's' * 32, changed=other)
    return
  session = Session(8, session_id=b's' * 32, changed=other)
  session.steps(2)
  with pytest.raises(secagg.BadShares):
    session.step()
  assert type(session.errors[3]) is secagg.ContextMismatch


def test_another_model_in_the_authenticated_mode():
  other = {3: params(session_id=b's' * 32, context=b'another model', mode='authenticated')}
  session = Session(8, session_id=b's' * 32, mode='authenticated', changed=other)
  session.step()
  assert type(session.refused[3]) is secagg.SignatureInvalid
  session.finish().assert_exact([1, 2, 4, 5, 6, 7, 8])


def test_shares_given_to_another_client():
  """A ciphertext opens only for its receiver, from its sender."""
  session = Session(5).steps(2)
  first, second = body_of(session.incoming[1]), body_of(session.incoming[2])
  end = 1 + 4 * LAYOUT.sealed_bytes
  forged = rewrap(session.incoming[1], first[:1] + second[1:end])
  refuses(session, 1, forged, secagg.ContextMismatch)


# Rounds 3 and 4: survivors and unmasking, semi-honest.


def unmask_request(session, client, alive):
  return rewrap(session.incoming[client], ids_bitmap(session, client, alive))


def test_second_unmask_request():
  session = Session(8).steps(3)
  first = unmask_request(session, 1, set(range(2, 9)))
  second = unmask_request(session, 1, set(range(2, 8)))
  assert session.clients[1].receive(first)
  for message in (second, first):
    refuses(session, 1, message, secagg.UnsafeUnmaskRequest, State.ANSWERED)


def test_a_client_gives_one_share_for_each_neighbour():
  session = Session(8).steps(3)
  client = session.clients[1]
  held = [bytes(share) for share in client._custody._shares]
  alive = {2, 3, 4, 5, 6}
  body = body_of(client.receive(unmask_request(session, 1, alive)))
  assert len(body) == 1 + 7 * 34
  for column, peer in enumerate(range(2, 9)):
    share = bytes(body[1 + 34 * column :][:34])
    kinds = (held[column][:34], held[column][34:])
    assert share == kinds[0 if peer in alive else 1]
    assert kinds[0 if peer not in alive else 1] not in bytes(body)
  assert client._custody._shares == []


def test_unmask_request_for_a_client_that_shared_nothing():
  session = Session(8).step().step(skip=(8,)).step()
  message = unmask_request(session, 1, set(range(2, 9)))
  error = refuses(session, 1, message, secagg.UnsafeUnmaskRequest)
  assert error.clients == (8,)


def test_unmask_request_below_the_threshold():
  session = Session(8).steps(3)
  refuses(session, 1, unmask_request(session, 1, {2, 3, 4, 5}), secagg.UnsafeUnmaskRequest)


def test_unmask_request_below_the_minimum():
  session = Session(8, minimum_clients=7).steps(3)
  message = unmask_request(session, 1, {2, 3, 4, 5, 6})
  refuses(session, 1, message, secagg.UnsafeUnmaskRequest)


@pytest.mark.parametrize('body', [b'', b'\xff', b'\x7f\0', bytes([0b10111111])])
def test_malformed_unmask_requests_are_ignored(body):
  session = Session(8).steps(3)
  message = rewrap(session.incoming[1], body)
  refuses(session, 1, message, secagg.InvalidMessage, State.MASKED)
  session.finish().assert_exact(range(1, 9))


def test_a_second_vector_never_leaves():
  session = Session(8).steps(2)
  message = session.incoming[1]
  client = session.clients[1]
  assert client.receive(message)
  with pytest.raises(secagg.WrongRound):
    client.receive(message)
  with pytest.raises(secagg.WrongRound):
    client.provide(session.inputs[1])


# Rounds 3 and 4, authenticated.


def survivors_message(session, client, alive):
  return rewrap(session.incoming[client], ids_bitmap(session, client, alive, everyone=True))


@pytest.mark.parametrize('alive', [set(range(2, 9)), {1, 2, 3, 4, 5}])
def test_survivors_without_the_client_or_too_few(alive):
  session = Session(8, mode='authenticated').steps(3)
  message = survivors_message(session, 1, alive)
  refuses(session, 1, message, secagg.InconsistentSurvivors)


def test_survivors_that_shared_nothing():
  session = Session(8, mode='authenticated').step().step(skip=(8,)).step()
  message = survivors_message(session, 1, set(range(1, 9)))
  error = refuses(session, 1, message, secagg.InconsistentSurvivors)
  assert error.clients == (8,)


def test_equivocated_survivors():
  """One half is told that client 8 survived, the other that it dropped out."""
  session = Session(8, mode='authenticated').steps(3)
  signed = {}
  for client in range(1, 8):
    alive = set(range(1, 9)) if client < 4 else set(range(1, 8))
    message = session.clients[client].receive(survivors_message(session, client, alive))
    signed[client] = bytes(body_of(message))
  request = wire.encode_entries(sorted(signed.items()))
  header = session.incoming[1]
  for client in range(1, 8):
    message = rewrap(header, request, kind=wire.Kind.UNMASK_REQUEST)
    refuses(session, client, message, secagg.InconsistentSurvivors)


@pytest.mark.parametrize(
  'fault', ['too few', 'not mine', 'doubled', 'forged', 'own forged', 'other round']
)
def test_confirmations(fault):
  session = Session(8, mode='authenticated').steps(4)  # t = 5, 6 signatures needed
  message = session.incoming[1]
  body = body_of(message)
  entries = [bytes(body[i : i + 68]) for i in range(0, len(body), 68)]
  error, state = secagg.InconsistentSurvivors, State.ABORTED
  if fault == 'too few':
    entries = entries[:5]
  elif fault == 'not mine':
    entries = entries[1:]
  elif fault == 'doubled':
    entries = entries[:1] * 8
    error, state = secagg.InvalidMessage, State.CONFIRMED
  elif fault == 'own forged':
    entries[0] = entries[0][:-1] + bytes([entries[0][-1] ^ 1])
  elif fault == 'forged':
    entries = [entries[0], *(e[:-1] + bytes([e[-1] ^ 1]) for e in entries[1:4]), *entries[4:]]
  else:
    entries = [
      entries[0],
      *(
        struct.pack('<I', c)
        + keys.sign(keys.signing_key(session.identities[c]), session.params.salt(), 2, c, bytes(32))
        for c in range(2, 9)
      ),
    ]
  refuses(session, 1, rewrap(message, b''.join(entries)), error, state)


def test_signatures_confirm_one_roll():
  """Clients that were shown different sets of participants confirm nothing to each other."""
  salt, ids = bytes(32), [1, 2, 3]
  adverts = {c: wire.Advertisement(bytes([c]) * 32, bytes([c + 9]) * 32, bytes(16)) for c in ids}
  more = adverts | {4: wire.Advertisement(b'x' * 32, b'y' * 32, bytes(16))}
  first = verify.survivors_digest(salt, verify.roll_digest(salt, adverts), ids)
  second = verify.survivors_digest(salt, verify.roll_digest(salt, more), ids)
  assert first != second


# Every state, every type.


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
def test_every_message_type_in_every_state(mode):
  """A message out of turn changes nothing, whatever its type; the session completes."""
  session = Session(5, mode=mode, dropout_fraction=0.2)
  recorded = {}
  reference = Session(5, mode=mode, dropout_fraction=0.2, session_id=session.params.session_id)
  while reference.server.result is None:
    reference.step()
    recorded[reference.incoming[1][5]] = reference.incoming[1]
  client = session.clients[1]
  turns = {
    State.ADVERTISED: wire.Kind.KEYS,
    State.SHARED: wire.Kind.SHARES,
    State.MASKED: wire.Kind.SURVIVORS if mode == 'authenticated' else wire.Kind.UNMASK_REQUEST,
    State.CONFIRMED: wire.Kind.UNMASK_REQUEST,
    State.ANSWERED: wire.Kind.RESULT,
  }
  types = [*wire.Kind, 6, 15, 18, 22, 254]
  while True:
    state = client.state
    for kind in types:
      if kind in (turns.get(state), wire.Kind.ABORT):
        continue
      message = recorded.get(int(kind), recorded[wire.Kind.KEYS])
      with pytest.raises(secagg.SecAggError) as caught:
        client.receive(rewrap(message, body_of(message), kind=kind))
      assert client.state is state
      assert isinstance(
        caught.value, secagg.InvalidMessage | secagg.WrongRound | secagg.UnsafeUnmaskRequest
      )
    if session.server.result is not None:
      break
    session.step()
  session.assert_exact(range(1, 6))
  assert client.receive(session.incoming[1])


# Policy, use, secrets.


@pytest.mark.parametrize(
  ('policy', 'changes'),
  [
    (secagg.Policy(minimum_clients=10), {}),
    (secagg.Policy(colluding_fraction=0.1), {}),
    (secagg.Policy(), {'sigma': 39}),
    (None, {'sigma': 39}),
    (secagg.Policy(authenticated=True), {}),
  ],
)
def test_policy(policy, changes):
  with pytest.raises(secagg.UnsafeParameters):
    secagg.Client(params(**changes), 1, policy=policy)


def test_round_numbers_grow():
  for last in (1, 2):
    with pytest.raises(secagg.WrongRound):
      secagg.Client(params(round_number=1), 1, last_round=last)
  secagg.Client(params(round_number=1), 1, last_round=0)


def test_use_out_of_order():
  session = Session(4)
  client = secagg.Client(session.params, 1)
  with pytest.raises(secagg.InvalidMessage):
    client.receive(b'')
  client.start()
  with pytest.raises(secagg.WrongRound):
    client.start()
  session.step()
  fresh = secagg.Client(session.params, 1)
  with pytest.raises(secagg.WrongRound):
    fresh.receive(session.incoming[1])


def test_values_must_be_provided_before_the_vector():
  session = Session(4).steps(2)
  client = session.clients[1]
  values, client._values = client._values, None
  with pytest.raises(ConfigurationError, match='provide'):
    client.receive(session.incoming[1])
  client.provide(session.inputs[1])
  session.finish().assert_exact(range(1, 5))
  assert values is not None


def test_identity_must_be_in_the_roster():
  session = Session(4, mode='authenticated')
  for identity, roster in (
    (None, session.roster),
    (session.identities[1], None),
    (session.identities[2], session.roster),
    (b'short', session.roster),
  ):
    with pytest.raises(ConfigurationError):
      secagg.Client(session.params, 1, identity, roster)
  for client_id in (-1, 2**32, 'one', True):
    with pytest.raises(ConfigurationError):
      secagg.Client(params(), client_id)


def test_server_abort():
  session = Session(4).step()
  message = session.server.abort_message(secagg.NotEnoughClients('2 clients \x1b[31m, 3 needed'))
  error = refuses(session, 1, message, secagg.SessionAborted)
  assert '\x1b' not in str(error)
  assert 'NotEnoughClients' in str(error)


def test_secrets_are_neither_pickled_nor_shown():
  session = Session(4).steps(2)
  client = session.clients[1]
  for thing in (client, client._custody, client._custody._mask, client._custody._self_mask):
    with pytest.raises(TypeError):
      pickle.dumps(thing)
    with pytest.raises(TypeError):
      copy.deepcopy(thing)
    text = repr(thing) + str(thing)
    custody = client._custody
    for secret in (custody._mask.seed, custody._self_mask, custody._cipher.seed):
      assert bytes(secret.data).hex() not in text
  assert repr(client) == '<Client 1, sent its shares>'
  assert repr(client._custody._self_mask) == '<Secret>'


def test_secrets_are_erased_after_the_answer():
  session = Session(4).steps(3)
  custody = session.clients[1]._custody
  data = [secret.data for secret in (custody._mask.seed, custody._self_mask, custody._contribution)]
  data += [secret.data for secret in custody._pairs.values()]
  data += [common.data for _, common in custody._mask._peers.values()]
  shares = list(custody._shares)
  assert all(map(any, data))
  session.step()
  assert not any(map(any, data))
  assert not any(map(any, shares))


def test_errors_hold_no_input():
  client = secagg.Client(params(), 1)
  with pytest.raises(secagg.InputOutOfRange) as caught:
    client.provide({'v': np.full(70, 98765432)})
  assert '98765432' not in str(caught.value)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_fuzzed_messages(data):
  """Any change of the server's messages: only SecAggError; whoever answers is not fooled."""
  session = Session(
    5,
    mode=data.draw(st.sampled_from(['semi_honest', 'authenticated'])),
    verify=data.draw(st.sampled_from([None, 'mac'])),
    dropout_fraction=0.2,
  )
  target = data.draw(st.integers(1, 5))
  while session.server.result is None and session.server.round < target:
    session.step()
  message = bytearray(session.incoming[1])
  kind = data.draw(st.sampled_from(['cut', 'grow', 'flip', 'noise', 'type', 'header', 'bits']))
  if kind == 'cut':
    message = message[: data.draw(st.integers(0, len(message)))]
  elif kind == 'grow':
    message += data.draw(st.binary(min_size=1, max_size=99))
  elif kind == 'flip':
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
  elif kind == 'noise':
    message = bytearray(data.draw(st.binary(max_size=300)))
  elif kind == 'type':
    message[5] = data.draw(st.integers(0, 255))
  elif kind == 'header':
    message[:48] = data.draw(st.binary(min_size=48, max_size=48))
  elif len(message) > 48:
    message[48:] = bytes(data.draw(st.sampled_from([0, 255])) for _ in message[48:])
  client = session.clients[1]
  before = client.state
  try:
    client.receive(bytes(message))
  except (secagg.InvalidMessage, secagg.WrongRound):
    assert client.state is before
  except secagg.SecAggError:
    assert client.state in (State.ABORTED, State.DONE, State.ANSWERED)

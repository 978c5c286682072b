"""What a client does when the server, or the network, does not follow the protocol."""

import struct

import numpy as np
import pytest
from secagg_sessions import MODES, Session, body_of, client_refuses, params, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import receipts, wire
from tff_privacy_agg.secagg.client.states import State
from tff_privacy_agg.secagg.primitives import keys


def ids_bitmap(session, client, alive, *, everyone=False):
  members = [c for c in session.clients if everyone or c != client]
  return wire.encode_bitmap(np.array([c in alive for c in members]))


# Round 0, downward: keys (see test_secagg_public_keys.py) and numbers.


def test_a_client_that_the_roster_lacks_is_refused():
  session = Session(5, mode='authenticated')
  client = session.clients[1]
  session.step()
  del client._view._roster[3]
  error = client_refuses(session, 1, session.incoming[1], secagg.UnknownClient)
  assert error.clients == (3,)


@pytest.mark.parametrize(
  ('number', 'error'), [(2, secagg.NotEnoughClients), (7, secagg.GraphMismatch)]
)
def test_a_number_of_clients_that_the_keys_belie_is_refused(number, error):
  session = Session(6).step()
  message = session.incoming[1]
  client_refuses(session, 1, rewrap(message, body_of(message), number=number), error)


def test_more_clients_than_the_session_takes_are_refused():
  session = Session(6, maximum_clients=6).step()
  message = session.incoming[1]
  client_refuses(session, 1, rewrap(message, body_of(message), number=7), secagg.CapacityError)


@pytest.mark.parametrize('number', [2**32 - 1, 10**6])
def test_absurd_numbers_of_clients_cost_nothing(number):
  session = Session(50, graph='ring', dropout_fraction=0.1).step()
  message = session.incoming[1]
  client_refuses(session, 1, rewrap(message, body_of(message), number=number), secagg.GraphMismatch)


def test_the_number_of_clients_must_not_change_between_rounds():
  session = Session(6).steps(2)
  message = session.incoming[1]
  forged = rewrap(message, body_of(message), number=7)
  client_refuses(session, 1, forged, secagg.InvalidMessage, State.SHARED)


# Round 1, downward: shares.


def test_shares_of_too_few_neighbours_are_refused():
  session = Session(8).steps(2)
  size = session.params.layout.sealed_bytes
  body = bytes([0b1111]) + bytes(body_of(session.incoming[1])[1 : 1 + 4 * size])
  message = rewrap(session.incoming[1], body)
  error = client_refuses(session, 1, message, secagg.NotEnoughClients)
  assert '4 neighbours' in str(error)
  assert '5 needed' in str(error)


def test_a_client_with_another_model_leaves_and_ends_the_sum():
  other = {3: params(session_id=b's' * 32, context=b'another model')}
  session = Session(8, session_id=b's' * 32, context=b'the model', changed=other)
  session.steps(2)
  with pytest.raises(secagg.BadShares) as caught:
    session.step()
  assert type(session.errors[3]) is secagg.ContextMismatch
  assert caught.value.clients[0] == 3
  assert session.server.result is None


def test_two_models_for_two_halves_give_no_sum():
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


def test_a_client_with_another_model_is_left_out_where_messages_are_signed():
  other = {3: params(session_id=b's' * 32, context=b'another model', mode='authenticated')}
  session = Session(8, session_id=b's' * 32, mode='authenticated', changed=other)
  session.step()
  assert type(session.refused[3]) is secagg.SignatureInvalid
  session.finish().assert_exact([1, 2, 4, 5, 6, 7, 8])


def test_a_share_opens_for_its_receiver_and_from_its_sender_only():
  """A ciphertext opens only for its receiver, from its sender."""
  session = Session(5).steps(2)
  first, second = body_of(session.incoming[1]), body_of(session.incoming[2])
  end = 1 + 4 * session.params.layout.sealed_bytes
  forged = rewrap(session.incoming[1], first[:1] + second[1:end])
  client_refuses(session, 1, forged, secagg.ContextMismatch)


# Rounds 3 and 4: survivors and unmasking, semi-honest.


def unmask_request(session, client, alive):
  return rewrap(session.incoming[client], ids_bitmap(session, client, alive))


def test_a_second_unmask_request_is_refused():
  session = Session(8).steps(3)
  first = unmask_request(session, 1, set(range(2, 9)))
  second = unmask_request(session, 1, set(range(2, 8)))
  assert session.clients[1].receive(first)
  for message in (second, first):
    client_refuses(session, 1, message, secagg.UnsafeUnmaskRequest, State.ANSWERED)


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


def test_an_unmask_request_for_a_client_that_shared_nothing_is_refused():
  session = Session(8).step().step(skip=(8,)).step()
  message = unmask_request(session, 1, set(range(2, 9)))
  error = client_refuses(session, 1, message, secagg.UnsafeUnmaskRequest)
  assert error.clients == (8,)


def test_an_unmask_request_below_the_threshold_is_refused():
  session = Session(8).steps(3)
  client_refuses(session, 1, unmask_request(session, 1, {2, 3, 4, 5}), secagg.UnsafeUnmaskRequest)


def test_an_unmask_request_below_the_minimum_is_refused():
  session = Session(8, minimum_clients=7).steps(3)
  message = unmask_request(session, 1, {2, 3, 4, 5, 6})
  client_refuses(session, 1, message, secagg.UnsafeUnmaskRequest)


@pytest.mark.parametrize('body', [b'', b'\xff', b'\x7f\0', bytes([0b10111111])])
def test_malformed_unmask_requests_are_ignored(body):
  session = Session(8).steps(3)
  message = rewrap(session.incoming[1], body)
  client_refuses(session, 1, message, secagg.InvalidMessage, State.MASKED)
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
def test_survivors_without_the_client_or_too_few_are_refused(alive):
  session = Session(8, mode='authenticated').steps(3)
  message = survivors_message(session, 1, alive)
  client_refuses(session, 1, message, secagg.InconsistentSurvivors)


def test_survivors_that_shared_nothing_are_refused():
  session = Session(8, mode='authenticated').step().step(skip=(8,)).step()
  message = survivors_message(session, 1, set(range(1, 9)))
  error = client_refuses(session, 1, message, secagg.InconsistentSurvivors)
  assert error.clients == (8,)


def test_survivors_told_differently_to_two_halves_are_refused():
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
    client_refuses(session, client, message, secagg.InconsistentSurvivors)


@pytest.mark.parametrize(
  'fault', ['too few', 'not mine', 'doubled', 'forged', 'own forged', 'other round']
)
def test_confirmations_that_are_missing_or_false_are_refused(fault):
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
  client_refuses(session, 1, rewrap(message, b''.join(entries)), error, state)


def test_signatures_confirm_one_roll():
  """Clients that were shown different sets of participants confirm nothing to each other."""
  salt, ids = bytes(32), [1, 2, 3]
  adverts = {c: wire.Advertisement(bytes([c]) * 32, bytes([c + 9]) * 32, bytes(16)) for c in ids}
  more = adverts | {4: wire.Advertisement(b'x' * 32, b'y' * 32, bytes(16))}
  first = receipts.survivors_digest(salt, receipts.roll_digest(salt, adverts), ids)
  second = receipts.survivors_digest(salt, receipts.roll_digest(salt, more), ids)
  assert first != second


# Every state, every type.


@pytest.mark.parametrize('mode', MODES)
def test_a_message_out_of_turn_changes_nothing_whatever_its_type(mode):
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


def test_an_abort_of_the_server_is_told_without_its_control_characters():
  session = Session(4).step()
  message = session.server.abort_message(secagg.NotEnoughClients('2 clients \x1b[31m, 3 needed'))
  error = client_refuses(session, 1, message, secagg.SessionAborted)
  assert '\x1b' not in str(error)
  assert 'NotEnoughClients' in str(error)

import dataclasses

import numpy as np
import pytest
from secagg_sessions import MODES, Session, body_of, params, random_inputs, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import receipts, tags, wire
from tff_privacy_agg.secagg.client.states import State
from tff_privacy_agg.secagg.params import session_salt
from tff_privacy_agg.secagg.primitives import keys, packing, prg

SERVER = secagg.generate_identities([0])
SERVER_KEY = secagg.roster_of(SERVER)[0]
LEAVES = [secagg.Leaf('v', (300,), bits=20), secagg.Leaf('c', (), bits=50)]


def finished(**changes):
  return Session(5, dropout_fraction=0.2, leaves=LEAVES, **changes).finish()


@pytest.mark.parametrize('bits', [1, 7, 20, 35, 36, 62])
@pytest.mark.parametrize('size', [1, 100, 2**18 + 5])
def test_tag_is_the_product_with_binary_rows(bits, size):
  key = bytes(range(32))
  values = np.random.default_rng(bits).integers(0, 2**bits, size, dtype=np.int64)
  words = packing.pad(values, bits)[:size]
  found = tags.tag(key, 3, words, bits)
  rows = np.zeros(40, np.uint64)
  for block, start in enumerate(range(0, size, prg.SEGMENT)):
    piece = values[start : start + prg.SEGMENT].astype(np.uint64)
    for plane in range(5):
      chosen = np.frombuffer(prg.keystream(key, 3, 5 * block + plane, piece.size), np.uint8)
      for bit in range(8):
        rows[8 * plane + bit :][:1] += piece[(chosen >> bit & 1).astype(bool)].sum()
  np.testing.assert_array_equal(found, rows & np.uint64(2**bits - 1))


def test_tags_are_linear_with_wrap_around():
  key, bits = bytes(32), 20
  a, b = np.random.default_rng(0).integers(0, 2**bits, (2, 500))
  both = tags.tag(key, 0, packing.pad((a + b) % 2**bits, bits)[:500], bits)
  each = [tags.tag(key, 0, packing.pad(x, bits)[:500], bits) for x in (a, b)]
  np.testing.assert_array_equal(both, (each[0] + each[1]) % 2**bits)


@pytest.mark.parametrize('mode', MODES)
def test_clients_accept_the_right_sum(mode):
  session = finished(mode=mode, verify='mac')
  for client, message in session.incoming.items():
    session.server.receive(client, session.clients[client].receive(message))
    for name, value in session.server.result.values.items():
      np.testing.assert_array_equal(session.clients[client].result[name], value)
    assert not any(session.clients[client]._tag_key.data)
  assert session.server.verdicts == dict.fromkeys(range(1, 6), True)


def tamper(session, change):
  """A server that changes the sum after unmasking, and states the changed one."""
  change(session.server._collected._sum)
  packed = tags.pack_leaves(session.params, session.server._collected._sum)
  messages = {}
  for client, message in session.incoming.items():
    body = body_of(message)
    body[36:68] = receipts.sum_digest(session.params.salt(), packed)
    body[-len(packed) :] = packed
    messages[client] = rewrap(message, body)
  return messages


def one_element(vectors):
  vectors[0][17] += 1


def top_bit(vectors):
  vectors[0][17] ^= 1 << 19


def scalar(vectors):
  vectors[1][0] += 1


def tag_word(vectors):
  vectors[2][3] += 1


def many(vectors):
  vectors[0][:300] = 7


@pytest.mark.parametrize('change', [one_element, top_bit, scalar, tag_word, many])
def test_tampered_sums_are_found_by_every_client(change):
  session = finished(verify='mac')
  for client, message in tamper(session, change).items():
    with pytest.raises(secagg.VerificationFailed):
      session.clients[client].receive(message)
    assert session.clients[client].state is State.DONE
    with pytest.raises(secagg.WrongRound):  # no second try
      session.clients[client].receive(session.incoming[client])


def test_a_client_left_out_after_unmasking_is_noticed():
  session = finished(verify='mac')
  left_out = packing.pad(session.inputs[2]['v'], 20)

  def change(vectors):
    vectors[0] -= left_out

  for client, message in tamper(session, change).items():
    with pytest.raises(secagg.VerificationFailed):
      session.clients[client].receive(message)


def test_verdict_of_a_failed_check_reaches_the_server():
  session = finished(verify='mac')
  client = session.clients[1]
  with pytest.raises(secagg.VerificationFailed) as caught:
    client.receive(tamper(session, top_bit)[1])
  session.server.receive(1, client.abort(caught.value))
  assert session.server.verdicts == {1: False}


def test_a_sum_that_is_not_the_one_stated_is_refused():
  session = finished(verify='mac')
  body = body_of(session.incoming[1])
  body[36] ^= 1
  with pytest.raises(secagg.VerificationFailed):
    session.clients[1].receive(rewrap(session.incoming[1], body))


def test_a_contribution_that_nobody_committed_to_is_refused():
  session = Session(5, verify='mac', dropout_fraction=0.2).steps(2)
  body = body_of(session.incoming[1])
  body[-1] ^= 1  # the last client's commitment to its contribution
  with pytest.raises(secagg.BadShares) as caught:
    session.clients[1].receive(rewrap(session.incoming[1], body))
  assert caught.value.blamed == (5,)


def test_a_contribution_that_does_not_open_is_refused():
  session = Session(5, verify='mac', dropout_fraction=0.2).steps(2)
  body = body_of(session.incoming[1])
  body[1] ^= 1
  with pytest.raises(secagg.BadShares) as caught:
    session.clients[1].receive(rewrap(session.incoming[1], body))
  assert caught.value.blamed == (2,)


# Level 0: receipts.


@pytest.mark.parametrize('mode', MODES)
def test_all_clients_of_a_session_get_one_receipt(mode):
  session = finished(
    mode=mode, server_identity=SERVER[0], client_options={'server_key': SERVER_KEY}
  )
  receipts = []
  for client, message in session.incoming.items():
    assert session.clients[client].receive(message)
    receipts.append(session.clients[client].receipt)
  assert len({receipt.statement for receipt in receipts}) == 1
  assert receipts[0].survivors == 5
  assert not secagg.is_equivocation(receipts[0], receipts[1], SERVER_KEY)


def test_two_signed_statements_are_evidence():
  session = finished(server_identity=SERVER[0], client_options={'server_key': SERVER_KEY})
  session.clients[1].receive(session.incoming[1])
  body = body_of(session.incoming[2])
  body[36] ^= 1
  body[68:132] = keys.sign(keys.signing_key(SERVER[0]), session.params.salt(), 5, 0, body[:68])
  session.clients[2].receive(rewrap(session.incoming[2], body))
  first, second = (session.clients[c].receipt for c in (1, 2))
  assert secagg.is_equivocation(first, second, SERVER_KEY)
  # A forged one is no evidence; nor is one under another key.
  body[68] ^= 1
  with pytest.raises(secagg.SignatureInvalid):
    session.clients[3].receive(rewrap(session.incoming[3], body))
  assert not secagg.is_equivocation(first, session.clients[3].receipt, SERVER_KEY)
  other = secagg.roster_of(secagg.generate_identities([0]))[0]
  assert not secagg.is_equivocation(first, second, other)


def test_receipts_cannot_be_moved_to_another_session():
  """Honest receipts of two sessions, relabelled as of one, would convict an honest server."""
  receipts = []
  for _ in range(2):
    session = finished(server_identity=SERVER[0], client_options={'server_key': SERVER_KEY})
    session.clients[1].receive(session.incoming[1])
    receipts.append(session.clients[1].receipt)
  first, second = receipts
  assert first.salt == session_salt(first.session_id, first.parameters, first.context)
  assert not secagg.is_equivocation(first, second, SERVER_KEY)
  moved = dataclasses.replace(second, session_id=first.session_id)
  assert not secagg.is_equivocation(first, moved, SERVER_KEY)
  # The same bytes under the hash, cut elsewhere.
  cut = [
    dataclasses.replace(
      receipt, session_id=b'', parameters=receipt.session_id + receipt.parameters + receipt.context
    )
    for receipt in receipts
  ]
  cut = [dataclasses.replace(receipt, context=b'') for receipt in cut]
  assert [receipt.salt for receipt in cut] == [receipt.salt for receipt in receipts]
  assert not secagg.is_equivocation(*cut, SERVER_KEY)


def test_an_unsigned_statement_is_refused_where_a_signature_is_due():
  session = finished(client_options={'server_key': SERVER_KEY})
  with pytest.raises(secagg.SignatureInvalid):
    session.clients[1].receive(session.incoming[1])


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('position', [0, 32, 68])
def test_other_survivors_than_shown_before_are_refused(mode, position):
  session = finished(mode=mode)
  body = body_of(session.incoming[1])
  body[position] ^= 1
  with pytest.raises(secagg.InconsistentSurvivors) as caught:
    session.clients[1].receive(rewrap(session.incoming[1], body))
  assert caught.value.round == 5
  assert session.clients[1].receipt is not None


def test_ring_receipts_show_too_few_survivors():
  session = Session(50, graph='ring', dropout_fraction=0.1).finish()
  body = body_of(session.incoming[1])
  body[32:36] = (3).to_bytes(4, 'little')
  with pytest.raises(secagg.InconsistentSurvivors):
    session.clients[1].receive(rewrap(session.incoming[1], body))


def test_verified_sums_are_right_after_drop_outs():
  session_params = params(verify='mac', mode='authenticated', leaves=LEAVES)
  inputs = random_inputs(session_params, range(9))
  result = secagg.run_in_memory(session_params, inputs, {1: 1, 2: 2, 3: 5})
  assert result.survivors == (0, 3, 4, 5, 6, 7, 8)
  assert result.verdicts == dict.fromkeys((0, 4, 5, 6, 7, 8), True)


def split_views(n=6):
  """An active server shows contributor n, its own client, to client 1 alone.

  Returns:
    The session after round 2, and the server's view of the shares that n, which knows
    every contribution, gives it: the tag keys of client 1 and of the others.
  """
  session = Session(
    n, mode='authenticated', verify='mac', dropout_fraction=0.34, leaves=LEAVES
  ).steps(2)
  salt = session.params.salt()
  parts = {c: bytes(session.clients[c]._custody._contribution.data) for c in session.clients}
  spy = session.clients[n]

  def hide(client, message):
    if client in (1, n):
      return message
    body = body_of(message)
    k, size = n - 1, session.params.layout.sealed_bytes
    body[0] &= ~(1 << (k - 1))  # the spy is the last neighbour of all others
    split = 1 + k * size
    offers = split + k * 32
    return rewrap(message, body[: split - size] + body[split : offers - 32] + body[offers:])

  secrets = spy._custody
  shared, ciphertexts, _, offers = wire.decode_share_download(
    memoryview(bytes(body_of(session.incoming[n]))), session.params.layout, n - 1, n - 1
  )
  secrets.open(shared, ciphertexts, offers)
  session.step(down=hide, skip=(n,))
  with_spy = tags.tag_key(salt, list(parts.values()))
  without = tags.tag_key(salt, [parts[c] for c in range(1, n)])
  return session, secrets, (with_spy, without)


def what_the_server_learns(session, spy, tag_keys):
  """(R_1 - R) x_1 as the server computes it, and as it is; equal if the tags leak."""
  n, salt, custody = len(session.clients), session.params.salt(), spy
  minus = [
    keys.derive(session.clients[c]._custody._self_mask.data, salt, 'self', c) for c in range(1, n)
  ]
  # The spy knows the mask that it shares with client 1, under any binding.
  one = custody._pairs[1].data
  commitments = {
    c: tags.contribution_commitment(salt, member._custody._contribution.data)
    for c, member in session.clients.items()
  }
  one = tags.bound_key(one, tags.binding(salt, commitments), 1, n)
  vectors = [vector.copy() for vector in session.server._collected._sum]
  prg.add_masks(vectors, [], [*minus, one])
  leaf, bits = session.params.leaves[1], 50
  total = vectors[1][:1] & np.uint64(2**bits - 1)
  seen = vectors[3][:40] - tags.tag(tag_keys[1], 1, total, bits)
  own = packing.pad(np.asarray(session.inputs[1][leaf.name]), bits)[:1]
  real = tags.tag(tag_keys[0], 1, own, bits) - tags.tag(tag_keys[1], 1, own, bits)
  keep = np.uint64(2**bits - 1)
  return seen & keep, real & keep


def test_tags_under_two_keys_tell_nothing():
  seen, real = what_the_server_learns(*split_views())
  assert real.any()
  assert not (seen == real).any()


def test_tags_under_two_keys_would_tell_an_input(monkeypatch):
  """Where the mask keys are not bound to the contributions, the attack reads client 1's count."""
  monkeypatch.setattr(tags, 'bound_key', lambda pair, *_: bytes(pair))
  session, spy, tag_keys = split_views()
  seen, real = what_the_server_learns(session, spy, tag_keys)
  np.testing.assert_array_equal(seen, real)
  count = int(session.inputs[1]['c'])
  assert {int(x) for x in seen} <= {0, count, 2**50 - count}
  assert any(seen)

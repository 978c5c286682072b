"""Offers of key encapsulation that a server or a client changed: who notices, and whom it names."""

import hmac

import pytest
from secagg_sessions import MODES, Session, body_of, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.primitives import keys


def offer_at(session, client, peer, *, down):
  """Where the offer of the lower to the greater of two clients starts in a message of round 1."""
  k = len(session.clients) - 1
  layout = session.params.layout
  if down:  # at `peer`: bitmap, ciphertexts, offers of lower ids
    return 1 + k * layout.sealed_bytes + (client - 1) * layout.relayed_bytes
  return 32 + k * layout.sealed_bytes + (peer - client - 1) * layout.offer_bytes


def flipped(message, *places):
  body = body_of(message)
  for at in places:
    body[at] ^= 1
  return rewrap(message, body)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('part', [0, 1088], ids=['ciphertext', 'confirmation'])
def test_an_offer_changed_on_its_way_is_found(mode, part):
  """By the server towards client 5: it leaves and names client 2, no vector is sent."""
  session = Session(8, mode=mode).steps(2)
  place = offer_at(session, 2, 5, down=True) + part
  session.step(down=lambda client, m: flipped(m, place) if client == 5 else m)
  assert type(session.errors[5]) is secagg.BadShares
  assert session.errors[5].clients == (2,)
  assert session.server.refused['Abort 14'] == 1
  # Client 5 has dropped out; what client 2 sent was right, so the others' sum stands.
  session.finish().assert_exact([1, 2, 3, 4, 6, 7, 8])


@pytest.mark.parametrize('part', [0, 1088], ids=['ciphertext', 'confirmation'])
def test_a_client_with_a_false_offer_is_named(part):
  """Client 2 lies to client 5, which leaves; its seed proves the lie: no sum, client 2 named."""
  session = Session(8).step()
  place = offer_at(session, 2, 5, down=False) + part
  session.step(up=lambda client, m: flipped(m, place) if client == 2 else m)
  session.step()
  assert session.errors[5].clients == (2,)
  with pytest.raises(secagg.BadShares) as caught:
    session.finish()
  assert caught.value.clients == (2,)
  assert 'client 5' in str(caught.value)
  assert session.server.result is None


@pytest.mark.parametrize('dropped', [(), (5,), (2,)], ids=['none', 'greater', 'lower'])
def test_a_false_sealed_secret_costs_the_sum_and_names_its_sender(dropped):
  """Only a drop-out of client 2 needs what it sealed for client 5."""
  session = Session(8).step()
  place = offer_at(session, 2, 5, down=False) + 1120
  session.step(up=lambda client, m: flipped(m, place) if client == 2 else m)
  session.step(skip=dropped)
  if dropped != (2,):
    session.finish().assert_exact([c for c in range(1, 9) if c not in dropped])
    return
  with pytest.raises(secagg.BadShares) as caught:
    session.finish()
  assert caught.value.clients == (2,)
  assert session.server.result is None


def test_another_secret_sealed_by_a_liar_is_found():
  """Sealed and opened without fault, but not the secret of the ciphertext."""
  session = Session(8).step()
  liar = session.clients[2]._custody._mask
  original = keys.seal

  def seal(key, associated, plaintext):
    own = liar._wrapping_key(5) if len(plaintext) == 32 else b''
    return original(key, associated, bytes(32) if key == own else plaintext)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(keys, 'seal', seal)
    session.step()
  session.step(skip=(2,))
  with pytest.raises(secagg.BadShares) as caught:
    session.finish()
  assert caught.value.clients == (2,)


def test_mutant_without_confirmation_the_sum_is_silently_wrong(monkeypatch):
  monkeypatch.setattr(hmac, 'compare_digest', lambda *_: True)
  session = Session(8).step()
  place = offer_at(session, 2, 5, down=False)
  session.step(up=lambda client, m: flipped(m, place) if client == 2 else m)
  session.finish()
  with pytest.raises(AssertionError):
    session.assert_exact(range(1, 9))


def test_offers_of_two_clients_swapped():
  session = Session(8).steps(2)
  size = session.params.layout.relayed_bytes
  start = offer_at(session, 1, 5, down=True)

  def swap(client, message):
    if client != 5:
      return message
    body = body_of(message)
    middle, end = start + size, start + 2 * size
    body[start:end] = body[middle:end] + body[start:middle]
    return rewrap(message, body)

  session.step(down=swap)
  assert session.errors[5].clients == (1, 2)


def test_a_client_that_lies_to_all_is_named_by_all():
  """More than k - t of its neighbours leave: the session ends before anything is asked for."""
  session = Session(8).step()
  places = [offer_at(session, 2, peer, down=False) for peer in (3, 4, 5)]
  session.step(up=lambda client, m: flipped(m, *places) if client == 2 else m)
  with pytest.raises(secagg.BadShares) as caught:
    session.step()
  assert caught.value.blamed == (2, 3, 4, 5)
  assert caught.value.round == 2


def test_an_abort_names_neighbours_only():
  """Invented names in an abort are no complaint about clients that shared nothing."""
  session = Session(8).steps(1).step(skip=(8,))
  error = secagg.BadShares('invented', clients=(1, 8, 99, 2**32 - 1))
  session.server.receive(2, session.clients[2].abort(error))
  assert session.server._collected.complaints[2].tolist() == [True] + 6 * [False]
  session.errors[2] = error
  session.finish().assert_exact([1, 3, 4, 5, 6, 7])


def test_both_sides_said_to_have_dropped_give_one_mask_key_and_no_input():
  """Both seeds are known then; the clients that are left still share masks that no seed gives."""
  session = Session(8, mode='authenticated').steps(2)
  session.step(skip=(1, 8)).finish().assert_exact(range(2, 8))


def test_signatures_cover_kem_keys_and_ciphertexts():
  session = Session(5, mode='authenticated', dropout_fraction=0.0)
  # An ML-KEM key of client 2 changed by the server on the way to the others.
  session.step()
  size = 4 + session.params.layout.advertisement_bytes + 64
  body = body_of(session.incoming[4])
  at = size + 4 + 32 + 400
  body[at] ^= 1
  with pytest.raises(secagg.SignatureInvalid) as caught:
    session.clients[4].receive(rewrap(session.incoming[4], body))
  assert caught.value.clients == (2,)
  # Every ciphertext and offer of round 1 is under the sender's signature.
  for at in (40, 32 + 4 * session.params.layout.sealed_bytes + 5):
    other = Session(5, mode='authenticated', dropout_fraction=0.2).step()
    other.step(up=lambda c, m, at=at: flipped(m, at) if c == 2 else m)
    assert type(other.refused[2]) is secagg.SignatureInvalid

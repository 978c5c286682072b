"""Version 2: pair keys from X25519 and ML-KEM-768."""

import dataclasses
import hashlib
import hmac
import itertools
import json
import pathlib
import struct

import numpy as np
import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from secagg_sessions import Session, body_of, params, random_inputs, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.layout import Layout
from tff_privacy_agg.secagg.primitives import kem, keys
from tff_privacy_agg.secagg.primitives.pairs import KeyPair

MODES = ('semi_honest', 'authenticated')
LAYOUT = Layout(2, None)
ANSWERS = json.loads((pathlib.Path(__file__).parent / 'hybrid-known-answers.json').read_text())
SALT = bytes(range(32))


def pair(owner, salt=SALT, version=2, seed=None):
  return KeyPair(owner, keys.Secret(bytes([owner]) * 32 if seed is None else seed), salt, version)


def met(lower=3, greater=7, **options):
  first, second = pair(lower, **options), pair(greater, **options)
  first.meet(greater, second.public)
  second.meet(lower, first.public)
  return first, second


def expand(secret, salt, info, size):
  """HKDF-SHA256, written out (RFC 5869)."""
  key, block, found = hmac.digest(salt, secret, 'sha256'), b'', b''
  for counter in range(1, -(-size // 32) + 1):
    block = hmac.digest(key, block + info + bytes([counter]), 'sha256')
    found += block
  return found[:size]


def label(name, *ids):
  return b'tff_privacy_agg/secagg/v1/' + name.encode() + struct.pack(f'<{len(ids)}I', *ids)


# Known answers.


def test_keys_of_a_seed():
  found = pair(3).public
  assert len(found) == LAYOUT.public_bytes == 32 + 1184
  assert found[:32] == keys.public_key(expand(b'\3' * 32, SALT, label('x25519'), 32))
  private = kem.private_key(expand(b'\3' * 32, SALT, label('ml-kem'), 64))
  assert found[32:] == private.public_key().public_bytes_raw()
  assert hashlib.sha256(found).hexdigest() == ANSWERS['public_sha256']


def test_a_recorded_offer_gives_the_recorded_key():
  first, second = met()
  offer = bytes.fromhex(ANSWERS['offer'])
  assert len(offer) == LAYOUT.offer_bytes
  assert first.accept(7, offer).hex() == ANSWERS['key']
  assert second.accept(3, offer[: LAYOUT.relayed_bytes]).hex() == ANSWERS['key']


def test_the_key_is_the_formula_of_the_specification():
  """HKDF over both secrets, with the session, the ids, both public keys and the ciphertext."""
  first, second = met()
  key, offer = first.offer(7)
  ciphertext, confirmation, sealed = offer[:1088], offer[1088:1120], offer[1120:]
  x25519 = keys.agreement(expand(b'\3' * 32, SALT, label('x25519'), 32))(second.public[:32], 7)
  private = kem.private_key(expand(b'\7' * 32, SALT, label('ml-kem'), 64))
  secret = private.decapsulate(ciphertext)
  transcript = hashlib.sha256(label('transcript') + first.public + second.public + ciphertext)
  info = label('pair', 3, 7) + transcript.digest()
  assert expand(x25519 + secret, SALT, info, 64) == key + confirmation
  wrapping = expand(b'\3' * 32, SALT, label('wrap', 3, 7), 32)
  assert keys.unseal(wrapping, SALT + transcript.digest(), sealed) == secret


def test_version_1_is_as_it_was():
  first, second = met(version=1)
  common = keys.agreement(b'\3' * 32)(second.public, 7)
  assert first.public == keys.public_key(b'\3' * 32)
  assert first.offer(7) == (keys.derive(common, SALT, 'pair', 3, 7), b'')
  assert second.accept(3, b'') == first.offer(7)[0]
  sealed = first.seal(7, b'context', b'text')
  assert sealed == keys.seal(keys.derive(common, SALT, 'share', 3, 7), b'context', b'text')
  old = params(session_id=b's' * 32, version=1)
  assert json.loads(old.to_bytes())['format'] == 'tff_privacy_agg/secagg/v1'
  assert 'version' not in json.loads(old.to_bytes())


# Both sides, and a server with either seed, come to one key.


def test_both_sides_and_either_seed_give_one_key():
  first, second = met()
  key, offer = first.offer(7)
  assert second.accept(3, offer[: LAYOUT.relayed_bytes]) == key
  for owner, peer in ((3, 7), (7, 3)):
    recovered = pair(owner)
    recovered.meet(peer, pair(peer).public)
    assert recovered.accept(peer, offer) == key


def test_every_byte_of_an_offer_counts():
  first, second = met()
  _, offer = first.offer(7)
  for at in [*range(0, 1120, 37), 1119]:
    changed = bytearray(offer)
    changed[at] ^= 1
    assert second.accept(3, bytes(changed)) is None
    assert first.accept(7, bytes(changed)) is None
  for at in range(1120, 1168):
    changed = bytearray(offer)
    changed[at] ^= 1
    assert first.accept(7, bytes(changed)) is None


def test_an_offer_is_of_one_pair_and_session():
  _, offer = met()[0].offer(7)
  other = bytes(32)
  for lower, greater, salt in ((3, 8, SALT), (2, 7, SALT), (3, 7, other)):
    seeds = {'salt': salt}
    first, second = pair(lower, seed=b'\3' * 32, **seeds), pair(greater, seed=b'\7' * 32, **seeds)
    first.meet(greater, second.public)
    second.meet(lower, first.public)
    assert first.accept(greater, offer) is None
    assert second.accept(lower, offer) is None


def test_a_pair_is_erased():
  first, _ = met()
  common = first._peers[7][1].data
  assert any(common)
  first.erase()
  assert not any(common)
  assert not any(first.seed.data)
  with pytest.raises(RuntimeError, match='erased'):
    first.meet(7, bytes(1216))
  assert repr(first) == '<KeyPair of client 3>'


# Drop-outs.


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('version', [1, 2])
@pytest.mark.parametrize('verify', [None, 'mac'])
@pytest.mark.parametrize(
  'dropped', [(1,), (8,), (1, 8), (4, 5)], ids=['encapsulates', 'decapsulates', 'both', 'middle']
)
@pytest.mark.parametrize('in_round', [1, 2, 3])
def test_drops_of_either_side(mode, version, verify, dropped, in_round):
  """Client 1 encapsulates to all, client 8 to nobody; the pair of both has no mask in the sum."""
  session_params = params(mode=mode, version=version, verify=verify, dropout_fraction=0.34)
  inputs = random_inputs(session_params, range(1, 9))
  result = secagg.run_in_memory(session_params, inputs, dict.fromkeys(dropped, in_round))
  survivors = [c for c in inputs if c not in dropped or in_round > 2]
  assert result.survivors == tuple(survivors)
  expected = sum(inputs[c]['v'] for c in survivors) % 2**20
  np.testing.assert_array_equal(result.values['v'], expected)
  assert not result.left


# A quantum computer: every X25519 secret known, long after the session.


def with_x25519_broken(version):
  """A session after round 1, and {(a, b): X25519 secret of their mask keys}."""
  options = {'policy': secagg.Policy(version=1)}
  session = Session(4, version=version, dropout_fraction=0.25, client_options=options).step()
  adverts = {c: m._custody.advertisement for c, m in session.clients.items()}
  common = {}
  for a, b in itertools.permutations(session.clients, 2):
    private = session.clients[a]._custody._mask.seed.data
    if version == 2:
      private = keys.derive(private, session.params.salt(), 'x25519')
    common[a, b] = keys.agreement(private)(adverts[b].mask_key[:32], b)
  return session.steps(2), common


@pytest.mark.parametrize('version', [1, 2])
def test_x25519_alone_gives_the_masks_of_version_1_only(version):
  session, common = with_x25519_broken(version)
  salt = session.params.salt()
  for (a, b), secret in common.items():
    guess = keys.derive(secret, salt, 'pair', *sorted((a, b)))
    own = bytes(session.clients[a]._custody._pairs[b].data)
    assert (guess == own) is (version == 1)


def test_ml_kem_alone_gives_no_mask():
  """The other half of the hybrid: with every KEM secret known, X25519 still closes the masks."""
  first, second = met()
  key, offer = first.offer(7)
  secret = second._kem.decapsulate(offer[:1088])
  transcript = first._transcript(3, 7, offer[:1088])
  for common in (b'', bytes(32)):
    guess = keys.derive(common + secret, SALT, 'pair', 3, 7, context=transcript)
    assert guess != key


@pytest.mark.parametrize('version', [1, 2])
def test_x25519_alone_opens_the_shares_of_version_1_only(version):
  """Shares that opened would give the seeds, and with them everything."""
  first, second = met(version=version)
  sealed = first.seal(7, b'context', b'share')
  common = bytes(first._peers[7][1].data)
  body = sealed[1088:] if version == 2 else sealed
  contexts = [b''] if version == 1 else [b'', first._transcript(3, 7, sealed[:1088])]
  guesses = [keys.derive(common, SALT, 'share', 3, 7, context=context) for context in contexts]
  opened = [keys.unseal(guess, b'context', body) for guess in guesses]
  assert (b'share' in opened) is (version == 1)
  assert second.unseal(3, b'context', sealed) == b'share'


def test_a_constant_kem_secret_would_open_the_shares(monkeypatch):
  """The two tests before have power: without fresh KEM secrets they find the key."""
  monkeypatch.setattr(kem, 'encapsulate', lambda *_: (bytes(1088), bytes(32)))
  first, _ = met()
  sealed = first.seal(7, b'context', b'share')
  common = bytes(first._peers[7][1].data)
  transcript = first._transcript(3, 7, bytes(1088))
  guess = keys.derive(common + bytes(32), SALT, 'share', 3, 7, context=transcript)
  assert keys.unseal(guess, b'context', sealed[1088:]) == b'share'


# Faults: offers that are false.


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
  assert session.server._complaints[2].tolist() == [True] + 6 * [False]
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
  for at in (40, 32 + 4 * LAYOUT.sealed_bytes + 5):
    other = Session(5, mode='authenticated', dropout_fraction=0.2).step()
    other.step(up=lambda c, m, at=at: flipped(m, at) if c == 2 else m)
    assert type(other.refused[2]) is secagg.SignatureInvalid


# Versions.


def test_a_downgrade_is_refused():
  old = params(version=1)
  with pytest.raises(secagg.UnsafeParameters, match='version=1'):
    secagg.Client(old, 1)
  assert secagg.Client(old, 1, policy=secagg.Policy(version=1)).start()
  assert secagg.SessionParams.from_bytes(old.to_bytes()) == old
  with pytest.raises(ConfigurationError, match='version'):
    params(version=3)


def test_the_version_is_in_every_key():
  new = params(session_id=b's' * 32)
  old = dataclasses.replace(new, version=1)
  assert new.salt() != old.salt()
  changed = new.to_bytes().replace(b'secagg/v2', b'secagg/v1')
  assert secagg.SessionParams.from_bytes(changed) == old
  for text in (b'secagg/v0', b'secagg/v3', b'secagg/v02'):
    with pytest.raises(secagg.InvalidMessage):
      secagg.SessionParams.from_bytes(new.to_bytes().replace(b'secagg/v2', text))


@pytest.mark.parametrize('version', [1, 2])
def test_messages_of_another_version_are_refused(version):
  session = Session(
    4, version=version, client_options={'policy': secagg.Policy(version=1)}, dropout_fraction=0.25
  )
  message = session.clients[1].start()
  other = rewrap(message, body_of(message), version=3 - version)
  with pytest.raises(secagg.InvalidMessage, match=f'version {version}'):
    session.server.receive(1, other)


def test_a_session_of_two_versions_leaves_the_older_out():
  old = {c: params(session_id=b's' * 32, version=1) for c in (1, 2, 3)}
  options = {'policy': secagg.Policy(version=1)}
  session = Session(8, session_id=b's' * 32, changed=old, client_options=options)
  session.finish().assert_exact(range(4, 9))
  assert {type(error) for error in session.refused.values()} == {secagg.InvalidMessage}


def test_an_unsupported_library_is_said_so(monkeypatch):
  class Unsupported:
    @staticmethod
    def from_seed_bytes(_):
      raise UnsupportedAlgorithm('none')

  monkeypatch.setattr(kem, 'MLKEM768PrivateKey', Unsupported)
  with pytest.raises(ConfigurationError, match='version=1'):
    secagg.Client(params(), 1)
  old = params(version=1)
  assert secagg.Client(old, 1, policy=secagg.Policy(version=1)).start()


def test_aborts_on_the_wire():
  error = secagg.BadShares('text', clients=range(40))
  message = wire.decode(wire.encode_abort(b's' * 32, 3, error), b's' * 32)
  assert wire.decode_abort(message.body) == (14, tuple(range(16)), 'BadShares: text')
  old = wire.decode(wire.encode_abort(b's' * 32, 3, error, 1), b's' * 32, 1)
  assert wire.decode_abort(old.body, 1) == (14, (), 'BadShares: text')
  for body in (b'', b'\0', b'\0\0', b'\0\0\1', b'\0\0\x11' + bytes(68), b'\0\0\0' + bytes(257)):
    with pytest.raises(secagg.InvalidMessage):
      wire.decode_abort(memoryview(body))

"""Version 2: pair keys from X25519 and ML-KEM-768."""

import hashlib
import hmac
import itertools
import json
import pathlib
import struct

import numpy as np
import pytest
from secagg_sessions import MODES, Session, params, random_inputs

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.layout import Layout
from tff_privacy_agg.secagg.primitives import kem, keys
from tff_privacy_agg.secagg.primitives.pairs import KeyPair

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


def test_the_keys_of_a_seed_are_those_of_the_formula():
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


def test_the_pair_key_is_hkdf_over_both_secrets_and_the_transcript():
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


def test_version_1_derives_keys_from_x25519_alone():
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


def test_an_erased_pair_holds_no_secret():
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
def test_a_sum_is_right_whichever_side_of_a_pair_drops_out(
  mode, version, verify, dropped, in_round
):
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

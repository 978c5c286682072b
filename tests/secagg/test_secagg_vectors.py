"""Published vectors through the package's own wrappers, not through the library below them.

RFC 7748, 8032 and 5869, NIST's AES-GCM and ML-KEM-768 (FIPS 203) answers from
`cryptography_vectors`; Project Wycheproof from `wycheproof/`. RFC 8439 is in tests/numerics.
"""

import gzip
import hmac
import itertools
import json
import pathlib
import struct

import pytest
from cryptography.exceptions import InvalidSignature

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.primitives import kem, keys, prg

WYCHEPROOF = pathlib.Path(__file__).parent / 'wycheproof'
FIELD = 2**255 - 19


def lines(path):
  vectors = pytest.importorskip('cryptography_vectors')
  with vectors.open_vector_file(path, 'r') as file:
    yield from file


def records(path, last):
  """Dictionaries of `name = value` lines; the name `last` ends one."""
  found = {}
  for line in lines(path):
    name, equals, value = line.partition('=')
    if equals and not line.startswith(('#', '[')):
      found[name.strip()] = value.strip()
      if name.strip() == last:
        yield dict(found)


def wycheproof(name):
  data = json.loads(gzip.decompress((WYCHEPROOF / f'{name}.json.gz').read_bytes()))
  for group in data['testGroups']:
    for test in group['tests']:
      yield group, test


def h(text):
  return bytes.fromhex(text)


# X25519.


def test_x25519_gives_the_answers_of_rfc_7748():
  found = list(records('asymmetric/X25519/rfc7748.txt', 'OUTPUT_U'))
  assert len(found) == 3
  for one in found:
    public = bytearray(h(one['INPUT_U']))
    # The RFC has the top bit ignored; the wrapper takes a key in its one spelling only.
    if public[31] & 0x80:
      with pytest.raises(secagg.InvalidPublicKey):
        keys.agreement(h(one['INPUT_SCALAR']))(bytes(public), 1)
      public[31] &= 0x7F
    assert keys.agreement(h(one['INPUT_SCALAR']))(bytes(public), 1) == h(one['OUTPUT_U'])


def test_x25519_iterated_gives_the_answers_of_rfc_7748():
  """Section 5.2: k and u are 9 at first; u becomes k, and k the product."""
  k = u = bytes([9]) + bytes(31)
  for _ in range(1000):
    u, k = k, keys.agreement(k)(u, 1)
  assert k.hex() == '684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51'


def test_x25519_passes_wycheproof():
  """Valid keys agree; those of low order and second spellings are refused."""
  agreed = refused = 0
  for _, test in wycheproof('x25519_test'):
    public = h(test['public'])
    agree = keys.agreement(h(test['private']))
    if int.from_bytes(public, 'little') >= FIELD or not any(h(test['shared'])):
      with pytest.raises(secagg.InvalidPublicKey):
        agree(public, 1)
      refused += 1
    else:
      assert agree(public, 1) == h(test['shared']), test['tcId']
      agreed += 1
  assert agreed + refused == 518
  assert refused >= 30


# Ed25519.


def test_ed25519_gives_the_answers_of_rfc_8032():
  """Its first vectors and 1020 more in the same form: secret, public, message, signature."""
  count = 0
  for line in lines('asymmetric/Ed25519/sign.input'):
    secret, public, message, signed = (h(part) for part in line.split(':')[:4])
    key = keys.signing_key(secret[:32])
    assert key.public_key().public_bytes_raw() == public
    assert key.sign(message) == signed[:64]
    keys.verifying_keys({1: public})[1].verify(signed[:64], message)
    count += 1
  assert count == 1024


def test_ed25519_passes_wycheproof():
  results = {'valid': 0, 'invalid': 0}
  for group, test in wycheproof('ed25519_test'):
    key = keys.verifying_keys({1: h(group['publicKey']['pk'])})[1]
    try:
      key.verify(h(test['sig']), h(test['msg']))
      found = 'valid'
    except InvalidSignature:
      found = 'invalid'
    assert found == test['result'], test['tcId']
    results[found] += 1
  assert results == {'valid': 88, 'invalid': 63}


# HKDF-SHA256: the wrapper fixes the form of `info`, so a written-out HKDF stands between.


def expand(secret, salt, info, size):
  key, block, found = hmac.digest(salt or bytes(32), secret, 'sha256'), b'', b''
  for counter in range(1, -(-size // 32) + 1):
    block = hmac.digest(key, block + info + bytes([counter]), 'sha256')
    found += block
  return found[:size]


def test_hkdf_gives_the_answers_of_rfc_5869():
  found = list(records('KDF/rfc-5869-HKDF-SHA256.txt', 'OKM'))
  assert len(found) == 3
  for one in found:
    parts = (h(one['IKM']), h(one['salt']), h(one['info']))
    assert expand(*parts, int(one['L'])) == h(one['OKM'])


def test_hkdf_passes_wycheproof():
  count = 0
  for _, test in wycheproof('hkdf_sha256_test'):
    if test['result'] == 'valid':
      parts = (h(test['ikm']), h(test['salt']), h(test['info']))
      assert expand(*parts, test['size']) == h(test['okm']), test['tcId']
      count += 1
  assert count == 83


def test_derive_is_hkdf_with_the_label():
  for size, context, ids in itertools.product((32, 64), (b'', b'context'), ((), (3,), (3, 7))):
    info = b'tff_privacy_agg/secagg/v1/use' + struct.pack(f'<{len(ids)}I', *ids) + context
    found = keys.derive(b'k' * 40, b's' * 32, 'use', *ids, context=context, size=size)
    assert found == expand(b'k' * 40, b's' * 32, info, size)


# AES-256: shares under AES-GCM, masks from its key stream.


def gcm_cases():
  """(key, nonce, message, associated data, ciphertext, tag) of 256-bit keys and 96-bit nonces."""
  for group, test in wycheproof('aes_gcm_test'):
    if (group['keySize'], group['ivSize'], test['result']) == (256, 96, 'valid'):
      yield [h(test[name]) for name in ('key', 'iv', 'msg', 'aad', 'ct', 'tag')]
  path = 'ciphers/AES/GCM/gcmEncryptExtIV256.rsp'
  for one in records(path, 'Tag'):
    if len(one['IV']) == 24 and len(one['Tag']) == 32:
      yield [h(one[name]) for name in ('Key', 'IV', 'PT', 'AAD', 'CT', 'Tag')]


@pytest.mark.parametrize('way', prg._STREAMS, ids=lambda way: way.__name__)
def test_masks_are_the_key_stream_of_the_vectors(monkeypatch, way):
  monkeypatch.setattr(prg, '_fastest', lambda: way)
  count = 0
  for key, nonce, message, _, ciphertext, _ in gcm_cases():
    if message:
      leaf, segment = struct.unpack('>IQ', nonce)
      stream = prg.keystream(key, leaf, segment, len(message))
      assert bytes(a ^ b for a, b in zip(message, stream, strict=True)) == ciphertext
      count += 1
  assert count > 300


def test_sealing_is_aes_gcm_under_the_zero_nonce():
  count = 0
  for key, nonce, message, associated, ciphertext, tag in gcm_cases():
    if not any(nonce):
      assert keys.seal(key, associated, message) == ciphertext + tag
      assert keys.unseal(key, associated, ciphertext + tag) == message
      count += 1
  assert count == 1
  sealed = keys.seal(bytes(32), b'context', b'message')
  for at in range(len(sealed)):
    changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
    assert keys.unseal(bytes(32), b'context', changed) is None


# ML-KEM-768.


def test_ml_kem_gives_the_known_answers():
  """Key generation from d || z, and decapsulation with implicit rejection."""
  count = 0
  path = 'asymmetric/MLKEM/kat_MLKEM_768.rsp'
  for one in itertools.islice(records(path, 'ss'), 100):
    private = kem.private_key(h(one['d']) + h(one['z']))
    assert private.public_key().public_bytes_raw() == h(one['pk'])
    assert private.decapsulate(h(one['ct'])) == h(one['ss'])
    assert private.decapsulate(h(one['ct_n'])) == h(one['ss_n'])
    kem.check(h(one['pk']), 1)
    count += 1
  assert count == 100


def test_ml_kem_passes_wycheproof():
  """Ciphertexts of a right size decapsulate to the stated secret; others never get so far."""
  count = 0
  for _, test in wycheproof('mlkem_768_test'):
    if test['result'] == 'valid':
      private = kem.private_key(h(test['seed']))
      assert private.public_key().public_bytes_raw() == h(test['ek'])
      assert private.decapsulate(h(test['c'])) == h(test['K']), test['tcId']
      count += 1
    else:
      sizes = (len(test['seed']), len(test['c']))
      assert sizes != (2 * kem.SEED_BYTES, 2 * kem.CIPHERTEXT_BYTES), test['tcId']
  assert count == 153


def test_ml_kem_public_keys_pass_wycheproof():
  """Keys that are not in canonical form, or of another size, are refused."""
  results = {'valid': 0, 'invalid': 0}
  for _, test in wycheproof('mlkem_768_encaps_test'):
    results[test['result']] += 1
    if test['result'] == 'valid':
      ciphertext, secret = kem.encapsulate(h(test['ek']), 1)
      assert (len(ciphertext), len(secret)) == (kem.CIPHERTEXT_BYTES, kem.SECRET_BYTES)
    else:
      with pytest.raises(secagg.InvalidPublicKey):
        kem.encapsulate(h(test['ek']), 1)
  assert results == {'valid': 133, 'invalid': 132}

"""Keys: labels, derivation, agreement, signatures, and secrets that can be erased.

X25519 (RFC 7748), HKDF-SHA256 (RFC 5869) and Ed25519 (RFC 8032), all from the
`cryptography` package. Randomness comes from the operating system only.
"""

import hashlib
import os
import struct
from collections.abc import Callable, Sequence
from typing import NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.errors import InvalidPublicKey, SignatureInvalid

KEY_BYTES = 32
SIGNATURE_BYTES = 64
# What AES-GCM adds to a plaintext.
TAG_BYTES = 16
Identity = Ed25519PrivateKey | bytes
Key = bytes | bytearray
Buffer = bytes | bytearray | memoryview
_LABEL = b'tff_privacy_agg/secagg/v1/'
# The field of Curve25519; a public key has one spelling below it.
_FIELD = 2**255 - 19
# Bytes that are fingerprinted at once; the library takes less than 2**31.
_GMAC_BYTES = 2**30


def label(name: str) -> bytes:
  """The constant that separates one use of a primitive from every other."""
  return _LABEL + name.encode('ascii')


def digest(name: str, *parts: Buffer) -> bytes:
  """SHA-256 of the label `name` and the parts, in this order.

  Injective as long as a label's callers pass parts of fixed sizes, or one part of
  free size at the end, as all of them do.
  """
  state = hashlib.sha256(label(name))
  for part in parts:
    state.update(part)
  return state.digest()


class Secret:
  """32 secret bytes: not printed, not pickled, not copied, overwritten by `erase`.

  CPython may have left copies elsewhere (the interpreter's temporaries, the
  `cryptography` package's key objects); erasure here is the best effort.
  """

  __slots__ = ('_data',)

  def __init__(self, data: bytes | bytearray | None = None):
    """Takes over `data`, or draws fresh bytes from the operating system."""
    self._data = bytearray(os.urandom(KEY_BYTES) if data is None else data)

  @property
  def data(self) -> bytearray:
    """The bytes themselves."""
    return self._data

  def erase(self) -> None:
    """Overwrites the bytes with zeros."""
    self._data[:] = bytes(len(self._data))

  def __repr__(self) -> str:
    return '<Secret>'

  def __reduce__(self) -> NoReturn:
    raise TypeError('A Secret cannot be pickled or copied. Keep it in the process that drew it.')


def derive(
  secret: Key, salt: bytes, name: str, *ids: int, context: bytes = b'', size: int = KEY_BYTES
) -> bytes:
  """HKDF-SHA256 of `secret` under the session's `salt`, info = label || u32le ids || context."""
  info = label(name) + struct.pack(f'<{len(ids)}I', *ids) + context
  return HKDF(algorithm=hashes.SHA256(), length=size, salt=salt, info=info).derive(secret)


def public_key(private: Key) -> bytes:
  """The X25519 public key of 32 private bytes."""
  return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreement(private: Key) -> Callable[[bytes, int], bytes]:
  """Returns a function (peer's public key, peer's id) -> shared X25519 secret.

  The function raises InvalidPublicKey for a point of low order, whose shared
  secret would be known to everyone, and for a second spelling of a key (RFC 7748
  ignores the top bit and reduces), which would pass for another key.
  """
  key = X25519PrivateKey.from_private_bytes(private)

  def agree(public: bytes, peer: int) -> bytes:
    try:
      if int.from_bytes(public, 'little') < _FIELD:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
      pass
    raise InvalidPublicKey(
      f'Client {peer} sent an X25519 key of low order, or not in canonical form. It must draw a '
      'new key pair.',
      clients=(peer,),
    )

  return agree


def fingerprints() -> Callable[[bytes], bytes]:
  """Returns a function that tells messages apart, to be kept within one process.

  GMAC under a key that it alone holds, an order of magnitude faster than SHA-256.
  As no fingerprint is ever shown, the nonce may stay the same: two messages of n blocks
  collide with probability (n + 1) 2**-128, also when they were chosen to collide.
  """
  cipher = AESGCM(os.urandom(KEY_BYTES))

  def fingerprint(data: bytes) -> bytes:
    view = memoryview(data)
    parts = range(0, len(view), _GMAC_BYTES)
    return b''.join(
      cipher.encrypt(bytes(12), b'', view[start : start + _GMAC_BYTES]) for start in parts
    )

  return fingerprint


def seal(key: Key, associated: bytes, plaintext: bytes) -> bytes:
  """AES-256-GCM under a key for this one message, so that the nonce may be zero."""
  return AESGCM(key).encrypt(bytes(12), plaintext, associated)


def unseal(key: Key, associated: bytes, ciphertext: bytes) -> bytes | None:
  """The plaintext, or None if it was not sealed with this key and associated data."""
  try:
    return AESGCM(key).decrypt(bytes(12), ciphertext, associated)
  except InvalidTag:
    return None


def signing_key(identity: Identity) -> Ed25519PrivateKey:
  """An Ed25519 private key from such a key or its 32 raw bytes."""
  if isinstance(identity, Ed25519PrivateKey):
    return identity
  if isinstance(identity, bytes | bytearray) and len(identity) == KEY_BYTES:
    return Ed25519PrivateKey.from_private_bytes(identity)
  raise ConfigurationError('`identity` must be an Ed25519 private key, or its 32 raw bytes.')


def verifying_keys(roster: dict[int, bytes]) -> dict[int, Ed25519PublicKey]:
  """The Ed25519 public keys of a roster of raw bytes."""
  found = {}
  for client, data in roster.items():
    if not isinstance(data, bytes) or len(data) != KEY_BYTES:
      raise ConfigurationError(f'`roster` must hold 32 bytes for client {client!r}.')
    found[client] = Ed25519PublicKey.from_public_bytes(data)
  return found


def _statement(salt: bytes, round: int, sender: int, body: Sequence[Buffer]) -> bytes:
  state = hashlib.sha256()
  for part in body:
    state.update(part)
  return label('sign') + salt + struct.pack('<BI', round, sender) + state.digest()


def sign(key: Ed25519PrivateKey, salt: bytes, round: int, sender: int, *body: Buffer) -> bytes:
  """Ed25519 over label || S || round || sender || SHA-256(body), the body in parts."""
  return key.sign(_statement(salt, round, sender, body))


def verify(
  key: Ed25519PublicKey, signature: bytes, salt: bytes, round: int, sender: int, body: Buffer
) -> None:
  """Raises SignatureInvalid unless `signature` is `sender`'s on exactly this."""
  try:
    key.verify(signature, _statement(salt, round, sender, [body]))
  except InvalidSignature:
    raise SignatureInvalid(
      f'The signature of client {sender} does not fit its message, this session and the roster. '
      'Compare the parameters, the context and the roster.',
      round=round,
      clients=(sender,),
    ) from None

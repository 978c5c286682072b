"""Keys that two clients have in common, and what a server with one client's seed recovers.

Version 1: X25519. Version 2: X25519 and ML-KEM-768, joined by HKDF with the transcript, so
that a key stays secret while either of the two holds. The lower id of a pair encapsulates.
As `encapsulate` is randomised, its secret could not be computed again from a seed; so the
lower id also sends it sealed under a key from its own seed, which nobody has unless that
client drops out. A confirmation, the second half of what HKDF gives, shows to the other client
and to the server that theirs is the key that the lower id used.
"""

import hmac
from typing import NoReturn

from tff_privacy_agg.secagg.primitives import kem, keys
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES, Secret


def _erased(*_: object) -> NoReturn:
  raise RuntimeError('These keys have been erased.')


class KeyPair:
  """One client's key pair for one purpose, from one 32-byte seed.

  In version 1 the seed is the X25519 private key; in version 2 that key, the ML-KEM key and
  the wrapping keys come from it by HKDF under different labels.

  Args:
    owner: The client's id.
    seed: 32 secret bytes.
    salt: S of the session.
    version: Version of the protocol.

  Attributes:
    public: X25519 public key, 32 bytes; in version 2 followed by the ML-KEM key, 1184 bytes.
    seed: 32 secret bytes.
  """

  def __init__(self, owner: int, seed: Secret, salt: bytes, version: int):
    self.seed = seed
    self._owner, self._salt, self._kem = owner, salt, None
    private: keys.Key = seed.data
    if version > 1:
      private = keys.derive(seed.data, salt, 'x25519')
      self._kem = kem.private_key(keys.derive(seed.data, salt, 'ml-kem', size=kem.SEED_BYTES))
    self._agree = keys.agreement(private)
    self.public = keys.public_key(private)
    if self._kem is not None:
      self.public += self._kem.public_key().public_bytes_raw()
    self._peers: dict[int, tuple[bytes, Secret]] = {}

  def __repr__(self) -> str:
    return f'<KeyPair of client {self._owner}>'

  def __reduce__(self) -> NoReturn:
    raise TypeError('Secrets cannot be pickled or copied.')

  def meet(self, peer: int, public: bytes) -> None:
    """Agrees with a peer's X25519 key; to be called before the methods below.

    Raises:
      InvalidPublicKey: If it is of low order, or not in canonical form.
    """
    self._peers[peer] = public, Secret(self._agree(public[:KEY_BYTES], peer))

  def _transcript(self, first: int, second: int, ciphertext: bytes) -> bytes:
    if self._kem is None:
      return b''
    publics = [
      self.public if client == self._owner else self._peers[client][0] for client in (first, second)
    ]
    return keys.digest('transcript', *publics, ciphertext)

  def _joint(self, name: str, first: int, second: int, ciphertext: bytes, secret: bytes) -> bytes:
    """64 bytes of HKDF over both secrets: a key, and what confirms it."""
    peer = first if second == self._owner else second
    common = bytes(self._peers[peer][1].data)
    transcript = self._transcript(first, second, ciphertext)
    return keys.derive(
      common + secret, self._salt, name, first, second, context=transcript, size=2 * KEY_BYTES
    )

  def _encapsulate(self, peer: int) -> tuple[bytes, bytes]:
    if self._kem is None:
      return b'', b''
    return kem.encapsulate(self._peers[peer][0][KEY_BYTES:], peer)

  def _split(self, data: bytes) -> tuple[bytes, bytes]:
    size = 0 if self._kem is None else kem.CIPHERTEXT_BYTES
    return data[:size], data[size:]

  def seal(self, peer: int, associated: bytes, plaintext: bytes) -> bytes:
    """Encrypts for a peer, under a key for this one message.

    Raises:
      InvalidPublicKey: If the peer's ML-KEM key is not in canonical form.
    """
    ciphertext, secret = self._encapsulate(peer)
    key = self._joint('share', self._owner, peer, ciphertext, secret)[:KEY_BYTES]
    return ciphertext + keys.seal(key, associated, plaintext)

  def unseal(self, peer: int, associated: bytes, data: bytes) -> bytes | None:
    """The plaintext of a peer's `seal`, or None if that is not what it is."""
    ciphertext, sealed = self._split(data)
    secret = b'' if self._kem is None else self._kem.decapsulate(ciphertext)
    key = self._joint('share', peer, self._owner, ciphertext, secret)[:KEY_BYTES]
    return keys.unseal(key, associated, sealed)

  def _wrapping_key(self, peer: int) -> bytes:
    return keys.derive(self.seed.data, self._salt, 'wrap', self._owner, peer)

  def offer(self, peer: int) -> tuple[bytes, bytes]:
    """The key with a peer of a greater id, and the offer from which it is recovered.

    Returns:
      32 bytes; and b'' in version 1, in version 2: KEM ciphertext, confirmation, sealed secret.

    Raises:
      InvalidPublicKey: If the peer's ML-KEM key is not in canonical form.
    """
    ciphertext, secret = self._encapsulate(peer)
    joint = self._joint('pair', self._owner, peer, ciphertext, secret)
    key, confirmation = joint[:KEY_BYTES], joint[KEY_BYTES:]
    if self._kem is None:
      return key, b''
    associated = self._salt + self._transcript(self._owner, peer, ciphertext)
    sealed = keys.seal(self._wrapping_key(peer), associated, secret)
    return key, ciphertext + confirmation + sealed

  def accept(self, peer: int, offer: bytes) -> bytes | None:
    """The key with a peer, from the offer of the lower id of the two.

    Args:
      peer: The other client.
      offer: What the lower id sent; the relayed part will do for the greater id.

    Returns:
      32 bytes, or None if they are not confirmed: then the lower id has sent something false,
      or another has changed it.
    """
    first, second = sorted((self._owner, peer))
    if self._kem is None:
      return self._joint('pair', first, second, b'', b'')[:KEY_BYTES]
    ciphertext, rest = self._split(offer)
    confirmation, sealed = rest[:KEY_BYTES], rest[KEY_BYTES:]
    secret: bytes | None
    if self._owner == second:
      secret = self._kem.decapsulate(ciphertext)
    else:
      associated = self._salt + self._transcript(first, second, ciphertext)
      secret = keys.unseal(self._wrapping_key(peer), associated, sealed)
    if secret is None:
      return None
    joint = self._joint('pair', first, second, ciphertext, secret)
    return joint[:KEY_BYTES] if hmac.compare_digest(joint[KEY_BYTES:], confirmation) else None

  def erase(self) -> None:
    """Overwrites the seed and what was agreed, and lets the key objects go."""
    self.seed.erase()
    for _, common in self._peers.values():
      common.erase()
    self._peers, self._kem, self._agree = {}, None, _erased

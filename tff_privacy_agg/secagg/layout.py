"""Sizes that depend on the version of the protocol and on `verify`."""

import dataclasses

from tff_privacy_agg.secagg.primitives import kem, shamir
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES, TAG_BYTES

# 1: pair keys from X25519. 2: from X25519 and ML-KEM-768.
VERSIONS = (1, 2)
NONCE_BYTES = 16


@dataclasses.dataclass(frozen=True)
class Layout:
  """Bytes of the parts of a message.

  Args:
    version: Version of the protocol.
    verify: None, or 'mac'.
  """

  version: int
  verify: str | None

  @property
  def hybrid(self) -> bool:
    """Whether ML-KEM joins X25519."""
    return self.version > 1

  @property
  def public_bytes(self) -> int:
    """A public key: X25519, then ML-KEM."""
    return KEY_BYTES + self.hybrid * kem.PUBLIC_BYTES

  @property
  def advertisement_bytes(self) -> int:
    """Two public keys and a nonce."""
    return 2 * self.public_bytes + NONCE_BYTES

  @property
  def contribution_bytes(self) -> int:
    """A client's part of the tag key, and the commitment to it."""
    return KEY_BYTES if self.verify else 0

  @property
  def sealed_bytes(self) -> int:
    """Size of a message between two clients: KEM ciphertext, sealed shares and contribution."""
    plaintext = 2 * shamir.SHARE_BYTES + self.contribution_bytes
    return self.hybrid * kem.CIPHERTEXT_BYTES + plaintext + TAG_BYTES

  @property
  def relayed_bytes(self) -> int:
    """The part of an offer that is for the other client: KEM ciphertext and confirmation."""
    return self.hybrid * (kem.CIPHERTEXT_BYTES + KEY_BYTES)

  @property
  def offer_bytes(self) -> int:
    """An offer: the relayed part, then the KEM secret, sealed for a server that has the seed."""
    return self.relayed_bytes + self.hybrid * (kem.SECRET_BYTES + TAG_BYTES)

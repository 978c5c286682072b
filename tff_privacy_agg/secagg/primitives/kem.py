"""ML-KEM-768 (FIPS 203), from the `cryptography` package, on raw bytes."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.errors import InvalidPublicKey
from tff_privacy_agg.secagg.primitives.keys import Key

SEED_BYTES = 64
PUBLIC_BYTES = 1184
CIPHERTEXT_BYTES = 1088
SECRET_BYTES = 32


def private_key(seed: Key) -> MLKEM768PrivateKey:
  """The private key of a 64-byte seed (d || z of FIPS 203).

  Raises:
    ConfigurationError: If `cryptography` was built on a library without ML-KEM.
  """
  try:
    return MLKEM768PrivateKey.from_seed_bytes(seed)
  except UnsupportedAlgorithm:
    raise ConfigurationError(
      'Version 2 of the protocol needs ML-KEM-768, which the library under the installed '
      '`cryptography` lacks. Install the `cryptography` wheel, or give every party `version=1`.'
    ) from None


def check(public: bytes, peer: int) -> MLKEM768PublicKey:
  """The public key of 1184 bytes.

  Raises:
    InvalidPublicKey: If the bytes are no canonical encoding; names `peer`.
  """
  try:
    return MLKEM768PublicKey.from_public_bytes(public)
  except ValueError:
    raise InvalidPublicKey(
      f'Client {peer} sent an ML-KEM key that is not in canonical form. It must draw a new key '
      'pair.',
      clients=(peer,),
    ) from None


def encapsulate(public: bytes, peer: int) -> tuple[bytes, bytes]:
  """A fresh (ciphertext, secret) for the holder of a public key; see `check`."""
  secret, ciphertext = check(public, peer).encapsulate()
  return ciphertext, secret

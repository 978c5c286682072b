"""What the server states of its sum, and what clients sign of it: receipts and digests."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.errors import SignatureInvalid
from tff_privacy_agg.secagg.params import SESSION_ID_BYTES, session_salt
from tff_privacy_agg.secagg.primitives import keys
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES
from tff_privacy_agg.secagg.rounds import Round

NO_ROLL = bytes(32)


@dataclasses.dataclass(frozen=True)
class Receipt:
  """The server's statement of what it has summed, for one client to keep.

  Attributes:
    session_id: 32 bytes.
    parameters: SHA-256 of the session's parameters.
    context: Digest of what was broadcast, as in the parameters.
    survivors_digest: Digest of the ids in the sum.
    survivors: Number of clients in the sum.
    sum_digest: `sum_digest` of the values.
    signature: The server's Ed25519 signature, or b'' if it has no identity.
  """

  session_id: bytes
  parameters: bytes
  context: bytes
  survivors_digest: bytes
  survivors: int
  sum_digest: bytes
  signature: bytes

  @property
  def salt(self) -> bytes:
    """S, which the signature covers: computed, so that no receipt can be moved to another session."""
    return session_salt(self.session_id, self.parameters, self.context)

  @property
  def statement(self) -> bytes:
    """The bytes that are signed."""
    return wire.Statement(self.survivors_digest, self.survivors, self.sum_digest).encode()


def is_equivocation(first: Receipt, second: Receipt, server_key: bytes) -> bool:
  """Whether two receipts prove that the server made differing statements on one session.

  Examples:
    >>> server_key = tpa.secagg.roster_of(tpa.secagg.generate_identities([1]))[1]
    >>> unsigned = tpa.secagg.Receipt(
    ...   session_id=bytes(32),
    ...   parameters=bytes(32),
    ...   context=b'',
    ...   survivors_digest=b'',
    ...   survivors=3,
    ...   sum_digest=b'',
    ...   signature=b'',
    ... )
    >>> tpa.secagg.is_equivocation(unsigned, unsigned, server_key)
    False
  """
  public = keys.verifying_keys({0: server_key})[0]
  for receipt in (first, second):
    # Other lengths could spell one salt in two ways.
    if (len(receipt.session_id), len(receipt.parameters)) != (SESSION_ID_BYTES, KEY_BYTES):
      return False
    try:
      keys.verify(
        public, receipt.signature, receipt.salt, Round.RESULT, wire.SERVER, receipt.statement
      )
    except SignatureInvalid:
      return False
  return first.session_id == second.session_id and first.statement != second.statement


def roll_digest(salt: bytes, adverts: Mapping[int, wire.Advertisement]) -> bytes:
  """Digest of all clients that advertised, with their keys, in the order of their ids."""
  entries = [(client, adverts[client].encode()) for client in sorted(adverts)]
  return keys.digest('roll', salt, wire.encode_entries(entries))


def survivors_digest(salt: bytes, roll: bytes, ids: Sequence[int]) -> bytes:
  """Digest of the clients in the sum, what the clients sign in round 3.

  Args:
    salt: S.
    roll: `roll_digest` in the authenticated mode: a signature also says who
      advertised, so that all that answer have computed one threshold. Else NO_ROLL.
    ids: Ascending ids.
  """
  return keys.digest('survivors', salt, roll, np.asarray(ids, '<u4').tobytes())


def sum_digest(salt: bytes, packed: bytes | memoryview) -> bytes:
  """Digest of the packed sum, tags included."""
  return keys.digest('sum', salt, packed)


def signed_statement(
  salt: bytes,
  roll: bytes,
  survivors: Sequence[int],
  packed: bytes,
  identity: Ed25519PrivateKey | None,
) -> tuple[bytes, int]:
  """The server's statement of its sum, signed if it has an identity, and the message's flags."""
  statement = wire.Statement(
    survivors_digest(salt, roll, survivors), len(survivors), sum_digest(salt, packed)
  ).encode()
  if identity is None:
    return statement, 0
  return statement + keys.sign(identity, salt, Round.RESULT, wire.SERVER, statement), wire.SIGNED

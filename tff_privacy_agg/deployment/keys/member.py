"""Who a client is to the server and to the protocol."""

import dataclasses
from collections.abc import Mapping

from tff_privacy_agg import _validate, secagg


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Member:
  """A client's identity, and its policy.

  Args:
    name: Name in its certificate.
    client_id: Id in the roster.
    identity: Ed25519 private key, for the authenticated mode.
    roster: {client id: Ed25519 public key}, not from the server.
    server_key: Ed25519 public key that must sign the receipts, or None.
    policy: Least parameters that it accepts.
  """

  name: str
  client_id: int
  identity: bytes | None = None
  roster: Mapping[int, bytes] | None = None
  server_key: bytes | None = None
  policy: secagg.Policy = dataclasses.field(default_factory=secagg.Policy)

"""The server's register of round 0: clients that advertised, and their keys."""

from collections.abc import Sequence

import numpy as np

from tff_privacy_agg.secagg import graph, wire
from tff_privacy_agg.secagg.errors import CapacityError, InvalidPublicKey
from tff_privacy_agg.secagg.primitives import kem, keys


class Enrolment:
  """The clients of round 0.

  Args:
    maximum_clients: Most clients that are taken; None for any number.
    hybrid: Whether the keys include ML-KEM keys.

  Attributes:
    adverts: {id: public keys and nonce}.
  """

  def __init__(self, maximum_clients: int | None, hybrid: bool):
    self.adverts: dict[int, wire.Advertisement] = {}
    self._most = maximum_clients
    self._hybrid = hybrid
    self._probe = keys.agreement(keys.Secret().data)
    self._owned: set[bytes] = set()
    self._entries: dict[int, bytes] = {}
    self._messages: dict[int, bytes] = {}

  def add(
    self, client_id: int, advert: wire.Advertisement, signature: bytes, message: bytes
  ) -> None:
    """Enters a client.

    Args:
      client_id: Its id.
      advert: What it advertises.
      signature: Its signature on it, or b''.
      message: The whole message, for the order of the ring.

    Raises:
      CapacityError: If there are enough clients.
      InvalidPublicKey: If a key is in use, of low order or not in canonical form.
    """
    if self._most is not None and len(self.adverts) >= self._most:
      raise CapacityError(f'The session takes {self._most} clients, and has them.')
    parts = advert.parts()
    if len(set(parts)) < len(parts) or self._owned.intersection(parts):
      raise InvalidPublicKey(f'Client {client_id} sent a key that is in use. Draw a new pair.')
    for key in (advert.cipher_key, advert.mask_key):
      self._probe(key[: keys.KEY_BYTES], client_id)
      if self._hybrid:
        kem.check(key[keys.KEY_BYTES :], client_id)
    self._owned.update(parts)
    self.adverts[client_id] = advert
    self._entries[client_id] = advert.encode() + signature
    self._messages[client_id] = message

  def keep(self, ids: Sequence[int]) -> bytes:
    """Closes the register with these clients; returns T1, the digest of their messages."""
    transcript = graph.transcript_digest(self._messages[client] for client in ids)
    self._messages, self._owned = {}, set()
    self.adverts = {client: self.adverts[client] for client in ids}
    self._entries = {client: self._entries[client] for client in ids}
    return transcript

  def keys_message(self, ids: Sequence[int], positions: np.ndarray) -> bytes:
    """Body of the server's message of round 0 for a client with these neighbours."""
    chosen = [ids[position] for position in positions]
    return wire.encode_entries([(client, self._entries[client]) for client in chosen])

"""Who advertised in round 0, and with which keys: the server's register."""

from collections.abc import Sequence

import numpy as np

from tff_privacy_agg.secagg import graph, wire
from tff_privacy_agg.secagg.errors import CapacityError, InvalidPublicKey
from tff_privacy_agg.secagg.primitives import keys


class Enrolment:
  """The clients of round 0.

  Args:
    maximum_clients: Most clients that are taken; None for any number.

  Attributes:
    adverts: {id: public keys and nonce}.
  """

  def __init__(self, maximum_clients: int | None):
    self.adverts: dict[int, wire.Advertisement] = {}
    self._most = maximum_clients
    self._probe = keys.agreement(keys.Secret())
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
    both = {advert.cipher_key, advert.mask_key}
    if len(both) < 2 or both & self._owned:
      raise InvalidPublicKey(f'Client {client_id} sent a key that is in use. Draw a new pair.')
    for key in both:
      self._probe(key, client_id)
    self._owned |= both
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

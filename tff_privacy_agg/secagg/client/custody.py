"""Everything secret that a client holds during a session, and what is computed from it."""

import struct
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from tff_privacy_agg.secagg import layout, tags, wire
from tff_privacy_agg.secagg.errors import BadShares, ContextMismatch
from tff_privacy_agg.secagg.primitives import keys, shamir
from tff_privacy_agg.secagg.primitives.keys import Secret
from tff_privacy_agg.secagg.primitives.pairs import KeyPair
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.thresholds import GraphParameters


class Custody:
  """Keys, seeds and shares of one client in one session.

  Neighbours are columns, in the ascending order of their ids.

  Attributes:
    advertisement: The public keys of round 0.
    shared: [k]; which neighbours shared their secrets.
    complaints: [k]; which of these shares do not open.
  """

  def __init__(self, client_id: int, salt: bytes, version: int):
    self._id = client_id
    self._salt = salt
    self._self_mask, self._contribution = Secret(), Secret()
    self._cipher, self._mask = (KeyPair(client_id, Secret(), salt, version) for _ in range(2))
    # By peer: from round 1 those of greater ids, from round 2 all that shared.
    self._pairs: dict[int, Secret] = {}
    self._shares: list[bytearray | None] = []
    self._peers: dict[int, wire.Advertisement] = {}
    nonce = bytes(Secret().data[: layout.NONCE_BYTES])
    self.advertisement = wire.Advertisement(self._cipher.public, self._mask.public, nonce)
    self.shared = np.zeros(0, bool)
    self.complaints = np.zeros(0, bool)

  def __reduce__(self) -> NoReturn:
    raise TypeError('Secrets cannot be pickled or copied.')

  def _associated(self, sender: int, receiver: int) -> bytes:
    """S || i || j || both advertisements.

    A key that was changed on its way, even where nothing is signed, so shows as
    shares that do not open, and not as a wrong sum.
    """
    adverts = [
      self.advertisement if client == self._id else self._peers[client]
      for client in (sender, receiver)
    ]
    both = b''.join(advert.encode() for advert in adverts)
    return self._salt + struct.pack('<II', sender, receiver) + both

  def distribute(
    self, peers: Mapping[int, wire.Advertisement], parameters: GraphParameters, verified: bool
  ) -> bytes:
    """Shares the seeds of self mask and mask keys among the neighbours.

    Returns:
      The body of round 1: commitments, the sealed shares, and in version 2 an offer of a mask
      key for each neighbour of a greater id.

    Raises:
      InvalidPublicKey: If a neighbour's key is of low order, or not in canonical form.
    """
    self._peers = dict(peers)
    secrets = [self._self_mask.data, self._mask.seed.data]
    shares = shamir.split(secrets, parameters.t, parameters.k).reshape(parameters.k, -1)
    sealed, offers = [], []
    for (peer, advert), share in zip(peers.items(), shares, strict=True):
      # Both now, so that a mask key of low order ends the session before anything is shared.
      self._cipher.meet(peer, advert.cipher_key)
      self._mask.meet(peer, advert.mask_key)
      plaintext = share.tobytes() + (bytes(self._contribution.data) if verified else b'')
      sealed.append(self._cipher.seal(peer, self._associated(self._id, peer), plaintext))
      if peer > self._id:
        key, offer = self._mask.offer(peer)
        self._pairs[peer] = Secret(key)
        offers.append(offer)
    shares[:] = 0
    commitments = keys.digest('commit', self._self_mask.data)
    if verified:
      commitments += tags.contribution_commitment(self._salt, self._contribution.data)
    return b''.join([commitments, *sealed, *offers])

  def open(
    self, shared: np.ndarray, ciphertexts: list[bytes], offers: list[bytes]
  ) -> list[bytes | None]:
    """Opens the shares of round 1 and keeps them, noting those that do not open.

    Args:
      shared: [k]; which neighbours shared their secrets.
      ciphertexts: Their shares for this client.
      offers: Of those with a lower id, what they offer for the mask key.

    Returns:
      For each ciphertext, what it holds next to the two shares.

    Raises:
      ContextMismatch: If no share opens.
      BadShares: If an offer is false.
    """
    ids = list(self._peers)
    shares: list[bytearray | None] = [None] * len(ids)
    extras: list[bytes | None] = []
    for column, ciphertext in zip(np.flatnonzero(shared), ciphertexts, strict=True):
      peer = ids[column]
      plain = self._cipher.unseal(peer, self._associated(peer, self._id), ciphertext)
      extras.append(None if plain is None else plain[2 * shamir.SHARE_BYTES :])
      if plain is not None:
        shares[column] = bytearray(plain[: 2 * shamir.SHARE_BYTES])
    if all(extra is None for extra in extras):
      raise ContextMismatch(
        f'None of {len(ciphertexts)} shares opens: the others hold other parameters, or were '
        'given another model. Compare parameters and context.',
        round=Round.MASKED,
      )
    self._cipher.erase()
    self._shares = shares
    self.shared = shared
    self.complaints = shared & np.asarray([share is None for share in shares])
    self._accept([peer for peer in np.asarray(ids)[shared].tolist() if peer < self._id], offers)
    return extras

  def _accept(self, peers: list[int], offers: list[bytes]) -> None:
    """Takes the mask keys that neighbours of lower ids offer.

    A wrong one would never leave the sum, and one that another put in its place might be
    known to it. Without this neighbour the masks would not cancel. So the client leaves.
    """
    found = {
      peer: self._mask.accept(peer, offer) for peer, offer in zip(peers, offers, strict=True)
    }
    false = [peer for peer, key in found.items() if key is None]
    if false:
      raise BadShares(
        f'The mask keys that clients {false} offer are not confirmed. They, or the server, sent '
        'something false.',
        round=Round.MASKED,
        clients=false,
      )
    self._pairs.update({peer: Secret(key) for peer, key in found.items() if key is not None})

  def tag_key(self, extras: list[bytes | None], commitments: list[bytes]) -> Secret:
    """K from the contributions of all that shared.

    Raises:
      BadShares: If one does not open, or is not what was committed to.
    """
    ids = list(self._peers)
    parts = [bytes(self._contribution.data)]
    for column, part, commitment in zip(
      np.flatnonzero(self.shared), extras, commitments, strict=True
    ):
      if part is None or tags.contribution_commitment(self._salt, part) != commitment:
        raise BadShares(
          f"Client {ids[column]}'s part of the tag key does not open. The sum could not be checked.",
          round=Round.MASKED,
          clients=(ids[column],),
        )
      parts.append(part)
    self._bind(commitments)
    return Secret(tags.tag_key(self._salt, parts))

  def _bind(self, commitments: list[bytes]) -> None:
    """Ties the mask keys to the contributions, see `tags.binding`."""
    peers = [peer for peer, shared in zip(self._peers, self.shared, strict=True) if shared]
    own = tags.contribution_commitment(self._salt, self._contribution.data)
    everyone = {**dict(zip(peers, commitments, strict=True)), self._id: own}
    bound_to = tags.binding(self._salt, everyone)
    for peer, secret in self._pairs.items():
      secret.data[:] = tags.bound_key(secret.data, bound_to, self._id, peer)

  def mask_keys(self) -> tuple[list[keys.Key], list[keys.Key]]:
    """Keys of the masks to add to the input, and of those to subtract.

    Added: the self mask, and those shared with neighbours of a greater id.
    """
    plus: list[keys.Key] = [keys.derive(self._self_mask.data, self._salt, 'self', self._id)]
    minus: list[keys.Key] = []
    for shared, peer in zip(self.shared, self._peers, strict=True):
      if shared:
        (plus if peer > self._id else minus).append(self._pairs[peer].data)
    return plus, minus

  def answer(self, survivors: np.ndarray) -> bytes:
    """The body of round 4: one share for each neighbour whose shares opened.

    Of the self mask of a survivor, of the mask key of a client that dropped out;
    never both.
    """
    answered = self.shared & ~self.complaints
    body = [wire.encode_bitmap(answered)]
    for share, survives in zip(self._shares, survivors, strict=True):
      if share is not None:
        first = 0 if survives else shamir.SHARE_BYTES
        body.append(bytes(share[first : first + shamir.SHARE_BYTES]))
    return b''.join(body)

  def erase(self) -> None:
    """Overwrites all secrets."""
    self._cipher.erase()
    self._mask.erase()
    for secret in (self._self_mask, self._contribution, *self._pairs.values()):
      secret.erase()
    for share in self._shares:
      if share is not None:
        share[:] = bytes(len(share))
    self._pairs, self._shares = {}, []

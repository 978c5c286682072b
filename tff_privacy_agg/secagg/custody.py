"""Everything secret that a client holds during a session, and what is computed from it."""

import struct
from collections.abc import Mapping
from typing import NoReturn

import numpy as np

from tff_privacy_agg.secagg import verify, wire
from tff_privacy_agg.secagg.errors import BadShares, ContextMismatch
from tff_privacy_agg.secagg.primitives import keys, shamir
from tff_privacy_agg.secagg.primitives.keys import Secret
from tff_privacy_agg.secagg.thresholds import GraphParameters


class Custody:
  """Keys, seeds and shares of one client in one session.

  Neighbours are columns, in the ascending order of their ids.

  Attributes:
    advertisement: The public keys of round 0.
    shared: [k]; which neighbours shared their secrets.
    complaints: [k]; which of these shares do not open.
  """

  def __init__(self, client_id: int, salt: bytes):
    self._id = client_id
    self._salt = salt
    self._cipher, self._mask, self._self_mask = Secret(), Secret(), Secret()
    self._contribution = Secret()
    self._incoming: list[Secret] = []
    self._pairs: list[Secret] = []
    self._shares: list[bytearray | None] = []
    self._peers: dict[int, wire.Advertisement] = {}
    self.advertisement = wire.Advertisement(
      keys.public_key(self._cipher), keys.public_key(self._mask), bytes(Secret().data[:16])
    )
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
    """Shares self mask and mask key among the neighbours; returns the body of round 1.

    Raises:
      InvalidPublicKey: If a neighbour's key is of low order.
    """
    self._peers = dict(peers)
    secrets = [self._self_mask.data, self._mask.data]
    shares = shamir.split(secrets, parameters.t, parameters.k).reshape(parameters.k, -1)
    agree, agree_mask = keys.agreement(self._cipher), keys.agreement(self._mask)
    sealed = []
    for (peer, advert), share in zip(peers.items(), shares, strict=True):
      common = agree(advert.cipher_key, peer)
      outgoing = keys.derive(common, self._salt, 'share', self._id, peer)
      incoming = keys.derive(common, self._salt, 'share', peer, self._id)
      self._incoming.append(Secret(incoming))
      # Now, so that a mask key of low order ends the session before anything is shared.
      pair = sorted((self._id, peer))
      common = agree_mask(advert.mask_key, peer)
      self._pairs.append(Secret(keys.derive(common, self._salt, 'pair', *pair)))
      plaintext = share.tobytes() + (bytes(self._contribution.data) if verified else b'')
      sealed.append(keys.seal(outgoing, self._associated(self._id, peer), plaintext))
    shares[:] = 0
    commitments = keys.digest('commit', self._self_mask.data)
    if verified:
      commitments += verify.contribution_commitment(self._salt, self._contribution.data)
    return commitments + b''.join(sealed)

  def open(self, shared: np.ndarray, ciphertexts: list[bytes]) -> list[bytes | None]:
    """Opens the shares of round 1 and keeps them, noting those that do not open.

    Returns:
      For each ciphertext, what it holds beside the two shares.

    Raises:
      ContextMismatch: If none opens.
    """
    ids = list(self._peers)
    shares: list[bytearray | None] = [None] * len(ids)
    extras: list[bytes | None] = []
    for column, ciphertext in zip(np.flatnonzero(shared), ciphertexts, strict=True):
      key = self._incoming[column].data
      plain = keys.unseal(key, self._associated(ids[column], self._id), ciphertext)
      extras.append(None if plain is None else plain[2 * shamir.SHARE_BYTES :])
      if plain is not None:
        shares[column] = bytearray(plain[: 2 * shamir.SHARE_BYTES])
    if all(extra is None for extra in extras):
      raise ContextMismatch(
        f'None of {len(ciphertexts)} shares opens: the others hold other parameters, or were '
        'given another model. Compare parameters and context.',
        round=2,
      )
    for secret in self._incoming:
      secret.erase()
    self._incoming, self._shares = [], shares
    self.shared = shared
    self.complaints = shared & np.asarray([share is None for share in shares])
    return extras

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
      if part is None or verify.contribution_commitment(self._salt, part) != commitment:
        raise BadShares(
          f"Client {ids[column]}'s part of the tag key does not open. The sum could not be checked.",
          round=2,
          clients=(ids[column],),
        )
      parts.append(part)
    self._bind(commitments)
    return Secret(verify.tag_key(self._salt, parts))

  def _bind(self, commitments: list[bytes]) -> None:
    """Ties the mask keys to the contributions, see `verify.binding`."""
    peers = [peer for peer, shared in zip(self._peers, self.shared, strict=True) if shared]
    own = verify.contribution_commitment(self._salt, self._contribution.data)
    everyone = {**dict(zip(peers, commitments, strict=True)), self._id: own}
    bound_to = verify.binding(self._salt, everyone)
    for secret, peer in zip(self._pairs, self._peers, strict=True):
      secret.data[:] = verify.bound_key(secret.data, bound_to, self._id, peer)

  def mask_keys(self) -> tuple[list[keys.Key], list[keys.Key]]:
    """Keys of the masks to add to the input, and of those to subtract.

    Added: the self mask, and those shared with neighbours of a greater id.
    """
    plus: list[keys.Key] = [keys.derive(self._self_mask.data, self._salt, 'self', self._id)]
    minus: list[keys.Key] = []
    for shared, peer, pair in zip(self.shared, self._peers, self._pairs, strict=True):
      if shared:
        (plus if peer > self._id else minus).append(pair.data)
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
    own = (self._cipher, self._mask, self._self_mask, self._contribution)
    for secret in (*own, *self._incoming, *self._pairs):
      secret.erase()
    for share in self._shares:
      if share is not None:
        share[:] = bytes(len(share))
    self._incoming, self._pairs, self._shares = [], [], []

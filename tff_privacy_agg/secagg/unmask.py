"""The server's last step: secrets from shares, masks off the sum."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tff_privacy_agg.secagg import verify
from tff_privacy_agg.secagg.errors import BadShares, NotEnoughShares
from tff_privacy_agg.secagg.graph import Graph
from tff_privacy_agg.secagg.primitives import keys, shamir
from tff_privacy_agg.secagg.primitives.keys import Secret

# Clients whose shares are decoded together: 10 MB for 1000 neighbours.
_AT_ONCE = 64


def check_recoverable(
  graph: Graph, threshold: int, shared: list[int], complaints: dict[int, np.ndarray]
) -> None:
  """Raises unless the secrets of all that shared can still be recovered.

  Args:
    graph: The session's graph.
    threshold: t.
    shared: Ids of the clients that shared their secrets.
    complaints: {survivor: [k]; whose shares it could not open}.

  Raises:
    BadShares: If more than k - t survivors complain of one client.
    NotEnoughShares: If fewer than t survivors hold a share of one client.
  """
  n, k = graph.neighbours.shape
  alive = graph.flags(complaints)
  complained = np.zeros((n, k), bool)
  for client, row in complaints.items():
    complained[graph.position(client)] = row
  for client in shared:
    holders, slots = graph.row(client), graph.slots[graph.position(client)]
    against = complained[holders, slots]
    if against.sum() > k - threshold:
      complainers = [graph.ids[holder] for holder in holders[against]]
      raise BadShares(
        f'{len(complainers)} clients cannot open the shares of client {client}, at most '
        f'{k - threshold} may. It, or they, sent something false. Restart without it.',
        clients=(client, *complainers),
      )
    require_shares(client, int((alive[holders] & ~against).sum()), threshold)


def require_shares(client: int, have: int, threshold: int) -> None:
  """Raises NotEnoughShares if fewer than `threshold` are left."""
  if have < threshold:
    raise NotEnoughShares(
      f'{have} shares for client {client}, {threshold} needed', clients=(client,)
    )


class Answers:
  """The answers of round 4: one share for each holder and neighbour.

  Attributes:
    answered: [n, k]; whether the holder gave a share for its neighbour.
    shares: [n, k, 34] bytes.
  """

  def __init__(self, graph: Graph):
    self._graph = graph
    self.answered = np.zeros(graph.neighbours.shape, bool)
    self.shares = np.zeros((*graph.neighbours.shape, shamir.SHARE_BYTES), np.uint8)

  def add(self, position: int, answered: np.ndarray, shares: np.ndarray) -> None:
    """Stores one holder's answer."""
    self.answered[position] = answered
    self.shares[position, answered] = shares

  def given(self) -> np.ndarray:
    """[n, k]; whether the neighbour in this column gave a share of the client in this row."""
    return self.answered[self._graph.neighbours, self._graph.slots]

  def values(self, owners: list[int], points: tuple[int, ...]) -> np.ndarray:
    """[owners, points, 16] field elements: what the holders of these numbers gave for each."""
    ranks = np.asarray(points) - 1
    holders = self._graph.neighbours[owners][:, ranks]
    slots = self._graph.slots[owners][:, ranks]
    return shamir.decode(self.shares[holders, slots])


class Recovered(NamedTuple):
  """A secret, whether shares did not fit it, and whose, where that can be told."""

  secret: Secret
  disputed: bool
  wrong: list[int]


def recover(
  points: tuple[int, ...], values: np.ndarray, threshold: int, fits: Callable[[bytes], bool]
) -> Recovered | None:
  """The secret that `fits`, from m >= t shares of which some may be wrong.

  One wrong share is found by leaving out each of the first t in turn, up to
  floor((m - t) / 2) by Berlekamp-Welch.

  Wrong shares can add up to the right secret: then t of them, taken for good, would
  blame all others. So holders are named only where no second polynomial of the right
  secret could be as close, that is, up to floor((m + 1 - t) / 2) of them.

  Returns:
    None if the secret cannot be told.
  """
  order = range(len(points))
  most = (len(points) + 1 - threshold) // 2

  def attempt(chosen: list[int]) -> Recovered | None:
    picked = tuple(points[i] for i in chosen)
    secret = shamir.reconstruct(picked, values[chosen])
    if secret is None or not fits(secret):
      return None
    wrong = shamir.wrong_shares(points, values, tuple(chosen))
    return Recovered(Secret(secret), True, [points[i] for i in wrong])

  picked = points[:threshold]
  secret = shamir.reconstruct(picked, values[:threshold])
  if secret is not None and fits(secret):
    return Recovered(Secret(secret), False, [])
  if len(points) == threshold:
    return None
  undecided = None
  for left_out in range(threshold):
    found = attempt([i for i in order if i != left_out][:threshold])
    if found is not None and len(found.wrong) <= most:
      return found
    undecided = undecided or found
  suspects = shamir.locate_errors(points, values, threshold)
  trusted = [i for i in order if i not in suspects]
  found = attempt(trusted[:threshold]) if len(trusted) >= threshold else None
  if found is not None and len(found.wrong) <= most:
    return found
  undecided = undecided or found
  return undecided and undecided._replace(wrong=[])


def _is_committed(commitment: bytes, seed: bytes) -> bool:
  return keys.digest('commit', seed) == commitment


def _is_private_key(public: bytes, private: bytes) -> bool:
  return keys.public_key(Secret(private)) == public


class Unmasker:
  """Recovers the secrets of a session, and from them the keys of the masks on its sum.

  Args:
    graph: The session's graph.
    salt: S.
    threshold: t.
    answers: The shares of round 4.
    bound_to: `verify.binding` in a session with tags, else None.

  Attributes:
    blamed: {owner: holders whose share of its secret was wrong}; one of the two lied.
      No holders, if there are too many to tell them from the others.
  """

  def __init__(
    self,
    graph: Graph,
    salt: bytes,
    threshold: int,
    answers: Answers,
    bound_to: bytes | None = None,
  ):
    self._graph = graph
    self._salt = salt
    self._threshold = threshold
    self._answers = answers
    self._given = answers.given()
    self._bound_to = bound_to
    # Positions of holders that were blamed: their shares come last, so that a holder of
    # nothing but wrong shares costs one search, and not one for each client.
    self._suspects: set[int] = set()
    self.blamed: dict[int, tuple[int, ...]] = {}

  def check_counts(self, positions: list[int]) -> None:
    """Raises NotEnoughShares unless every secret has its threshold of shares."""
    counts = self._given.sum(axis=1).tolist()
    for position in positions:
      require_shares(self._graph.ids[position], counts[position], self._threshold)

  def _points(self, position: int) -> tuple[int, ...]:
    """Holder numbers, 1 .. k, of the shares for a client."""
    return tuple((np.flatnonzero(self._given[position]) + 1).tolist())

  def _first_tries(self, positions: list[int]) -> dict[int, bytes | None]:
    """The secrets if all shares are right; one product for all with the same holders."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for position in positions:
      points = self._points(position)[: self._threshold]
      groups.setdefault(points, []).append(position)
    found: dict[int, bytes | None] = {}
    for points, owners in groups.items():
      for start in range(0, len(owners), _AT_ONCE):
        some = owners[start : start + _AT_ONCE]
        values = self._answers.values(some, points)
        found.update(zip(some, shamir.reconstruct_all(points, values), strict=True))
    return found

  def _secret(
    self, position: int, first_try: bytes | None, fits: Callable[[bytes], bool]
  ) -> Secret:
    if first_try is not None and fits(first_try):
      return Secret(first_try)
    points = self._points(position)
    values = self._answers.values([position], points)[0]
    client, row = self._graph.ids[position], self._graph.neighbours[position]
    if self._suspects:
      order = sorted(range(len(points)), key=lambda i: row[points[i] - 1] in self._suspects)
      points, values = tuple(points[i] for i in order), values[order]
    found = recover(points, values, self._threshold, fits)
    if found is None:
      raise BadShares(
        f'The {len(points)} shares for client {client} do not give the secret that it committed '
        'to. It, or some of its holders, sent false ones. Restart without it.',
        clients=(client,),
      )
    if found.disputed:
      holders = sorted(int(row[point - 1]) for point in found.wrong)
      self._suspects.update(holders)
      self.blamed[client] = tuple(self._graph.ids[holder] for holder in holders)
    return found.secret

  def masks(
    self,
    survivors: list[int],
    dropped: list[int],
    commitments: dict[int, bytes],
    mask_keys: dict[int, bytes],
  ) -> tuple[list[bytes], list[bytes]]:
    """Keys of the masks to add to the sum, and of those to subtract.

    Args:
      survivors: Positions of the clients in the sum.
      dropped: Positions of those that shared, and sent no vector.
      commitments: Commitments to the self masks, by id.
      mask_keys: X25519 public mask keys, by id.
    """
    ids, alive = self._graph.ids, set(survivors)
    plus: list[bytes] = []
    minus: list[bytes] = []
    tries = self._first_tries(survivors + dropped)
    for position in survivors:
      client = ids[position]
      commitment = commitments[client]
      fits = functools.partial(_is_committed, commitment)
      seed = self._secret(position, tries.pop(position), fits)
      minus.append(keys.derive(seed.data, self._salt, 'self', client))
      seed.erase()
    for position in dropped:
      client = ids[position]
      public = mask_keys[client]
      fits = functools.partial(_is_private_key, public)
      private = self._secret(position, tries.pop(position), fits)
      agree = keys.agreement(private)
      for neighbour in self._graph.neighbours[position]:
        if int(neighbour) not in alive:
          continue
        peer = ids[neighbour]
        common = agree(mask_keys[peer], peer)
        key = keys.derive(common, self._salt, 'pair', *sorted((client, peer)))
        if self._bound_to is not None:
          key = verify.bound_key(key, self._bound_to, client, peer)
        # The peer added it if its own id is the lower.
        (minus if client > peer else plus).append(key)
      private.erase()
    return plus, minus

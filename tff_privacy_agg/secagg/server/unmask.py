"""The server's last step: secrets from shares, masks off the sum."""

import functools
from collections.abc import Callable

import numpy as np

from tff_privacy_agg.secagg import tags
from tff_privacy_agg.secagg.errors import BadShares, Blame
from tff_privacy_agg.secagg.graph import Graph
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import decoding, keys, shamir
from tff_privacy_agg.secagg.primitives.keys import Secret
from tff_privacy_agg.secagg.primitives.pairs import KeyPair
from tff_privacy_agg.secagg.server import complaints
from tff_privacy_agg.secagg.server.mailbox import Mailbox
from tff_privacy_agg.secagg.thresholds import GraphParameters

# Clients whose shares are decoded together: 10 MB for 1000 neighbours.
_AT_ONCE = 64


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


def _is_committed(commitment: bytes, seed: bytes) -> bool:
  return keys.digest('commit', seed) == commitment


def _is_seed(client: int, salt: bytes, version: int, public: bytes, seed: bytes) -> bool:
  return KeyPair(client, Secret(seed), salt, version).public == public


class Unmasker:
  """Recovers the secrets of a session, and from them the keys of the masks on its sum.

  Args:
    graph: The session's graph.
    params: Its parameters.
    parameters: Its k and t, and how many clients may drop out: of so many at most it is said that
      they shared false secrets.
    answers: The shares of round 4.
    letters: Commitments and offers of round 1.
    bound_to: `tags.binding` in a session with tags, else None.

  Attributes:
    blamed: {owner: holders whose share of its secret was wrong}; one of the two lied.
      No holders, if there are too many to tell them from the others.
  """

  def __init__(
    self,
    graph: Graph,
    params: SessionParams,
    parameters: GraphParameters,
    answers: Answers,
    letters: Mailbox,
    bound_to: bytes | None = None,
  ):
    self._graph = graph
    self._salt, self._version = params.salt(), params.version
    self._threshold, self._most = parameters.t, parameters.dropouts
    self._answers = answers
    self._letters = letters
    self._given = answers.given()
    self._bound_to = bound_to
    # Positions of holders that were blamed: their shares come last, so that a holder of
    # nothing but wrong shares costs one search, and not one for each client.
    self._suspects: set[int] = set()
    self.blamed: dict[int, tuple[int, ...]] = {}
    # Clients whose secrets cannot be told; {client: receiver} of offers that are false.
    self._undecided: list[int] = []
    self._false_offers: dict[int, int] = {}

  def check_counts(self, positions: list[int]) -> None:
    """Raises NotEnoughShares unless every secret has its threshold of shares."""
    counts = self._given.sum(axis=1).tolist()
    for position in positions:
      complaints.require_shares(self._graph.ids[position], counts[position], self._threshold)

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
  ) -> Secret | None:
    if first_try is not None and fits(first_try):
      return Secret(first_try)
    if len(self._undecided) > self._most:
      return None  # No sum, and nobody to blame for it: searches would be in vain.
    points = self._points(position)
    values = self._answers.values([position], points)[0]
    client, row = self._graph.ids[position], self._graph.neighbours[position]
    if self._suspects:
      order = sorted(range(len(points)), key=lambda i: row[points[i] - 1] in self._suspects)
      points, values = tuple(points[i] for i in order), values[order]
    found = decoding.recover(points, values, self._threshold, fits)
    if found is None:
      self._undecided.append(client)
      return None
    if found.disputed:
      holders = sorted(int(row[point - 1]) for point in found.wrong)
      self._suspects.update(holders)
      self.blamed[client] = tuple(self._graph.ids[holder] for holder in holders)
    return found.secret

  def masks(
    self,
    survivors: list[int],
    dropped: list[int],
    mask_keys: dict[int, bytes],
  ) -> tuple[list[bytes], list[bytes]]:
    """Keys of the masks to add to the sum, and of those to subtract.

    Args:
      survivors: Positions of the clients in the sum.
      dropped: Positions of those that shared, and sent no vector.
      mask_keys: Public mask keys, by id.

    Raises:
      BadShares: If a secret cannot be told, or an offer is false; all such clients are in its blame.
    """
    ids, alive = self._graph.ids, set(survivors)
    plus: list[bytes] = []
    minus: list[bytes] = []
    tries = self._first_tries(survivors + dropped)
    for position in survivors:
      client = ids[position]
      fits = functools.partial(_is_committed, self._letters.commitments[position])
      if (seed := self._secret(position, tries.pop(position), fits)) is None:
        continue
      minus.append(keys.derive(seed.data, self._salt, 'self', client))
      seed.erase()
    for position in dropped:
      client = ids[position]
      fits = functools.partial(_is_seed, client, self._salt, self._version, mask_keys[client])
      if (seed := self._secret(position, tries.pop(position), fits)) is None:
        continue
      pair = KeyPair(client, seed, self._salt, self._version)
      for column, neighbour in enumerate(self._graph.neighbours[position].tolist()):
        if neighbour not in alive:
          continue
        peer = ids[neighbour]
        pair.meet(peer, mask_keys[peer])
        if (key := self._pair_key(pair, position, column)) is None:
          continue
        # The peer added it if its own id is the lower.
        (minus if client > peer else plus).append(key)
      pair.erase()
    self._check()
    return plus, minus

  def _check(self) -> None:
    """Raises BadShares if anything could not be taken off the sum."""
    texts = [
      f'The shares for client {client} do not give the secret that it committed to. It, or some of '
      'its holders, sent false ones'
      for client in self._undecided
    ] + [
      f'What client {lower} sent for its mask with client {greater} is false, so that the mask '
      'cannot be taken off the sum'
      for lower, greater in self._false_offers.items()
    ]
    if texts:
      clients = (*self._undecided, *self._false_offers)
      # More than may drop out: not all of them lied, their holders did.
      told = [] if len(self._undecided) > self._most else self._undecided
      raise BadShares(
        f'{texts[0]}{complaints.more(len(texts))}. Restart without client {clients[0]}.',
        clients=clients,
        blame=Blame(
          proven=frozenset(self._false_offers),
          disputes=tuple((client, ()) for client in told),
        ),
      )

  def _pair_key(self, pair: KeyPair, position: int, column: int) -> bytes | None:
    """The key of the mask that a client, whose keys are recovered, has with a neighbour."""
    ids, neighbour = self._graph.ids, int(self._graph.neighbours[position, column])
    key = pair.accept(ids[neighbour], self._letters.offer(position, column))
    if key is None:
      lower, greater = sorted((ids[position], ids[neighbour]))
      # The seed is the one that was committed to: the lower id's offer is what is wrong.
      self._false_offers[lower] = greater
      return None
    if self._bound_to is not None:
      key = tags.bound_key(key, self._bound_to, ids[position], ids[neighbour])
    return key

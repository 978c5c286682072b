"""The graph of clients that share secrets: complete, or a random ring; both k-regular."""

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg.errors import GraphMismatch
from tff_privacy_agg.secagg.primitives import keys, prg
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.thresholds import GraphParameters


class _Numbers:
  """Uniform integers from a key, by rejection from 32-bit words of its keystream."""

  def __init__(self, key: bytes):
    self._key = key
    self._segment = 0
    self._words: Iterator[int] = iter(())

  def _word(self) -> int:
    word = next(self._words, None)
    while word is None:
      stream = prg.keystream(self._key, 0, self._segment)
      self._segment += 1
      # Lazily: a ring of few clients takes few words of a segment.
      self._words = map(int, np.frombuffer(stream, '<u4'))
      word = next(self._words, None)
    return word

  def below(self, bound: int) -> int:
    limit = 2**32 // bound * bound
    word = self._word()
    while word >= limit:
      word = self._word()
    return word % bound


def transcript_digest(messages: Iterable[bytes]) -> bytes:
  """T1: SHA-256 over the round-0 messages, ordered by their senders' ids."""
  state = hashlib.sha256()
  for message in messages:
    state.update(message)
  return state.digest()


class Graph:
  """A k-regular undirected graph over clients; edges carry masks and shares.

  Clients are positions in the ascending list of ids.

  Attributes:
    ids: Ascending client ids, [n].
    neighbours: [n, k] positions, ascending in each row.
    slots: [n, k]; `slots[v, r]` is the column of v in the row of `neighbours[v, r]`.
  """

  def __init__(self, ids: list[int], neighbours: np.ndarray):
    self.ids = ids
    self.neighbours = neighbours
    # Edges sorted by their far end, then their near end: the mirror image of each.
    order = np.argsort(neighbours, axis=None, kind='stable')
    self.slots = (order % neighbours.shape[1]).reshape(neighbours.shape)
    self._position = {client: position for position, client in enumerate(ids)}

  def position(self, client: int) -> int:
    """Position of a client."""
    return self._position[client]

  def row(self, client: int) -> np.ndarray:
    """Positions of a client's neighbours."""
    return self.neighbours[self._position[client]]

  def flags(self, clients: Iterable[int]) -> np.ndarray:
    """Over all positions: whether the client is one of `clients`."""
    flags = np.zeros(len(self.ids), bool)
    flags[[self._position[client] for client in clients]] = True
    return flags


def build(parameters: GraphParameters, ids: list[int], salt: bytes, transcript: bytes) -> Graph:
  """Builds the session's graph.

  The ring is ordered by a Fisher-Yates permutation driven by AES-CTR under
  SHA-256(label || S || T1); neighbours are at ring distance k/2 at most.

  Args:
    parameters: From `find_parameters` for these clients.
    ids: Ascending ids of the clients that advertised.
    salt: S of the session.
    transcript: T1.
  """
  n, k = len(ids), parameters.k
  if parameters.graph == 'complete':
    columns = np.arange(k)
    return Graph(ids, columns + (columns >= np.arange(n)[:, None]))
  ring = np.asarray(_ring(n, salt, transcript))
  neighbours = np.empty((n, k), np.int64)
  distances = [step for step in range(-(k // 2), k // 2 + 1) if step]
  for column, step in enumerate(distances):
    neighbours[ring, column] = np.roll(ring, -step)
  neighbours.sort(axis=1)
  return Graph(ids, neighbours)


def _ring(n: int, salt: bytes, transcript: bytes) -> list[int]:
  """The positions in the order of the ring."""
  numbers = _Numbers(keys.digest('graph', salt, transcript))
  order = list(range(n))
  for last in range(n - 1, 0, -1):
    other = numbers.below(last + 1)
    order[last], order[other] = order[other], order[last]
  return order


def notice_bytes(parameters: GraphParameters, version: int) -> int:
  """Bytes of `notice`: none on the complete graph, and none in version 1."""
  if parameters.graph == 'complete' or version == 1:
    return 0
  return keys.KEY_BYTES + 4 * parameters.clients


def split_notice(
  body: memoryview, parameters: GraphParameters, version: int
) -> tuple[memoryview, memoryview]:
  """The neighbours' keys in a message of round 0, and `notice` behind them."""
  split = len(body) - notice_bytes(parameters, version)
  if split < 0:
    raise GraphMismatch(
      f'The ring of {parameters.clients} clients is not announced.', round=Round.SHARES
    )
  return body[:split], body[split:]


def notice(
  parameters: GraphParameters, ids: Sequence[int], transcript: bytes, version: int
) -> bytes:
  """From what a client computes the ring for itself: T1 and the ids of all that advertised."""
  if not notice_bytes(parameters, version):
    return b''
  return transcript + np.asarray(ids, '<u4').tobytes()


def check_neighbours(
  parameters: GraphParameters,
  client_id: int,
  peers: Sequence[int],
  salt: bytes,
  announced: memoryview,
) -> None:
  """Raises GraphMismatch unless a client has k neighbours, and those of the ring that it computes.

  Args:
    parameters: As this client computes them.
    client_id: This client.
    peers: The neighbours that the server names, ascending.
    salt: S of the session.
    announced: `notice`, as the server sent it; empty where there is none.
  """
  if len(peers) != parameters.k or client_id in peers:
    raise GraphMismatch(
      f'{counted(len(peers), "neighbour was", "neighbours were")} announced; {parameters.k} others '
      f'are needed with {parameters.clients} clients.',
      round=Round.SHARES,
    )
  if not announced:
    return
  ids = np.frombuffer(announced[keys.KEY_BYTES :], '<u4').tolist()
  if any(first >= second for first, second in itertools.pairwise(ids)) or client_id not in ids:
    raise GraphMismatch(
      'The ids of the ring do not ascend, or leave out this client.', round=Round.SHARES
    )
  order = _ring(len(ids), salt, bytes(announced[: keys.KEY_BYTES]))
  place, half = order.index(ids.index(client_id)), parameters.k // 2
  around = [order[(place + step) % len(ids)] for step in range(-half, half + 1) if step]
  if [ids[position] for position in sorted(around)] != list(peers):
    raise GraphMismatch(
      'The neighbours that the server names are not those of the ring over the clients that it '
      'names. Nothing is shared with them.',
      round=Round.SHARES,
    )

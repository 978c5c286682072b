"""Messages between clients in round 1, on their way through the server."""

import numpy as np

from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.graph import Graph
from tff_privacy_agg.secagg.layout import Layout


class Mailbox:
  """Sealed shares until they are relayed; commitments and offers until the end.

  Clients are positions in the graph.

  Args:
    graph: The session's graph.
    layout: Sizes of its messages.

  Attributes:
    commitments: {client: its commitment to its self mask}.
    contributions: {client: its commitment to its part of the tag key, or b''}.
  """

  def __init__(self, graph: Graph, layout: Layout):
    self._graph = graph
    self._layout = layout
    self._ciphertexts = np.zeros((*graph.neighbours.shape, layout.sealed_bytes), np.uint8)
    self._offers: dict[int, np.ndarray] = {}
    self.commitments: dict[int, bytes] = {}
    self.contributions: dict[int, bytes] = {}

  def put(self, client: int, body: memoryview) -> None:
    """Takes a client's message of round 1.

    Raises:
      InvalidMessage: If it has another size.
    """
    row = self._graph.neighbours[client]
    greater = int((row > client).sum())
    self.commitments[client], self.contributions[client], ciphertexts, offers = (
      wire.decode_share_upload(body, self._layout, len(row), greater)
    )
    self._ciphertexts[client] = ciphertexts
    self._offers[client] = offers.copy()

  def body_for(self, client: int, shared: np.ndarray) -> bytes:
    """The server's message of round 1.

    Args:
      client: Its receiver.
      shared: [n]; who shared.
    """
    row, slots = self._graph.neighbours[client], self._graph.slots[client]
    known = shared[row]
    lower = np.flatnonzero(known & (row < client)).tolist()
    parts = [
      wire.encode_bitmap(known),
      self._ciphertexts[row[known], slots[known]].tobytes(),
      *(self.contributions[peer] for peer in row[known].tolist()),
      *(self.offer(client, column)[: self._layout.relayed_bytes] for column in lower),
    ]
    return b''.join(parts)

  def forget_shares(self) -> None:
    """Lets the sealed shares go."""
    self._ciphertexts = np.zeros((0, 0, 0), np.uint8)

  def offer(self, client: int, column: int) -> bytes:
    """The offer in the pair of a client and its neighbour in a column; b'' in version 1."""
    neighbour = int(self._graph.neighbours[client, column])
    if neighbour < client:
      client, column = neighbour, int(self._graph.slots[client, column])
    # The greater ids come last in a row, and the lower id has offers for these alone.
    return self._offers[client][column - self._graph.neighbours.shape[1]].tobytes()

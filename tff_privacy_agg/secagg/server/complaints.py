"""Who complains of whom after round 1, and whether the shares that are left are enough."""

from collections.abc import Mapping

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg.errors import BadShares, Blame, Dispute, NotEnoughShares
from tff_privacy_agg.secagg.graph import Graph


def _complained(graph: Graph, complaints: Mapping[int, np.ndarray]) -> np.ndarray:
  """[n, k]; whether the client in a row is complained of by the neighbour in a column."""
  against = np.zeros(graph.neighbours.shape, bool)
  for client, row in complaints.items():
    against[graph.position(client)] = row
  return against[graph.neighbours, graph.slots]


def disputes_of(
  graph: Graph, shared: list[int], complaints: Mapping[int, np.ndarray]
) -> list[Dispute]:
  """Each client of which others complain, with these; arguments as of `check_complaints`."""
  complained = _complained(graph, complaints)
  found: list[Dispute] = []
  for client in shared:
    accusers = graph.row(client)[complained[graph.position(client)]]
    if accusers.size:
      found.append((client, tuple(graph.ids[holder] for holder in accusers)))
  return found


def check_complaints(
  graph: Graph, threshold: int, shared: list[int], complaints: Mapping[int, np.ndarray]
) -> None:
  """Raises BadShares if more than k - t clients complain of one.

  Args:
    graph: The session's graph.
    threshold: t.
    shared: Ids of the clients that shared their secrets.
    complaints: {client: [k]; of whose shares, or mask key, it complains}.
  """
  most = graph.neighbours.shape[1] - threshold
  disputes = [one for one in disputes_of(graph, shared, complaints) if len(one[1]) > most]
  if disputes:
    client, complainers = disputes[0]
    raise BadShares(
      f'{counted(len(complainers), "client")} cannot open the shares of client {client}, at most '
      f'{most} may. It, or they, sent something false{more(len(disputes))}. Restart without it.',
      clients=(client, *complainers),
      blame=Blame(disputes=tuple(disputes)),
    )


def more(found: int) -> str:
  """The end of a text about the first of so many clients; empty if there is one."""
  return f', and so it is with {counted(found - 1, "further client")}' if found > 1 else ''


def check_recoverable(
  graph: Graph, threshold: int, shared: list[int], complaints: Mapping[int, np.ndarray]
) -> None:
  """Raises NotEnoughShares unless t survivors hold a share of every client.

  Args:
    graph: The session's graph.
    threshold: t.
    shared: Ids of the clients that shared their secrets.
    complaints: {survivor: [k]; whose shares it could not open}.
  """
  alive, complained = graph.flags(complaints), _complained(graph, complaints)
  short: dict[int, int] = {}
  for client in shared:
    against = complained[graph.position(client)]
    have = int((alive[graph.row(client)] & ~against).sum())
    if have < threshold:
      short[client] = have
  if short:
    client, have = next(iter(short.items()))
    raise NotEnoughShares(
      f'{counted(have, "share")} for client {client}, {threshold} needed{more(len(short))}',
      clients=(client,),
    )


def require_shares(client: int, have: int, threshold: int) -> None:
  """Raises NotEnoughShares if fewer than `threshold` are left."""
  if have < threshold:
    raise NotEnoughShares(
      f'{counted(have, "share")} for client {client}, {threshold} needed', clients=(client,)
    )

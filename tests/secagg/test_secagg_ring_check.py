"""A client computes its neighbours on the ring for itself, and shares with no others."""

import struct

import numpy as np
import pytest
from secagg_sessions import Session, body_of, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import graph
from tff_privacy_agg.secagg.client.states import State

N = 60
TAIL = 32 + 4 * N


def started(**changes):
  return Session(N, graph='ring', dropout_fraction=0.1, **changes).step()


def refused(session, client, body):
  target = session.clients[client]
  with pytest.raises(secagg.GraphMismatch) as caught:
    target.receive(rewrap(session.incoming[client], body))
  assert target.state is State.ABORTED
  assert not any(target._custody._mask.seed.data)
  return str(caught.value)


def test_a_session_on_the_ring_is_right_and_announces_it():
  session = started()
  ids = np.frombuffer(bytes(body_of(session.incoming[7])[-4 * N :]), '<u4')
  np.testing.assert_array_equal(ids, range(1, N + 1))
  session.finish().assert_exact(range(1, N + 1))


def test_neighbours_of_another_order_are_refused():
  session = started()
  body = body_of(session.incoming[7])
  body[-TAIL] ^= 1  # another digest of what was advertised, another order
  assert 'not those of the ring' in refused(session, 7, body)


def test_a_neighbour_put_in_place_of_another_is_refused():
  session = started()
  entry = 4 + session.params.layout.advertisement_bytes
  entries = body_of(session.incoming[7])[:-TAIL]
  own = {struct.unpack_from('<I', entries, at)[0] for at in range(0, len(entries), entry)}
  stranger = next(c for c in range(1, N + 1) if c != 7 and c not in own)
  donor = next(c for c in range(1, N + 1) if stranger in neighbours(session, c) and c != 7)
  theirs = body_of(session.incoming[donor])
  place = next(
    at
    for at in range(0, len(theirs) - TAIL, entry)
    if struct.unpack_from('<I', theirs, at)[0] == stranger
  )
  parts = {
    struct.unpack_from('<I', entries, at)[0]: bytes(entries[at : at + entry])
    for at in range(0, len(entries), entry)
  }
  del parts[min(parts)]
  parts[stranger] = bytes(theirs[place : place + entry])
  body = b''.join(parts[client] for client in sorted(parts))
  body += bytes(body_of(session.incoming[7])[-TAIL:])
  assert 'not those of the ring' in refused(session, 7, body)


def neighbours(session, client):
  built = session.server._collected._graph
  return {built.ids[position] for position in built.row(client)}


@pytest.mark.parametrize('change', ['repeated', 'without this client', 'descending'])
def test_a_list_of_ids_that_is_none_is_refused(change):
  session = started()
  body = body_of(session.incoming[7])
  ids = np.frombuffer(bytes(body[-4 * N :]), '<u4').copy()
  if change == 'repeated':
    ids[3] = ids[2]
  elif change == 'descending':
    ids = ids[::-1]
  else:
    ids[6:] += 1
  assert 'do not ascend' in refused(session, 7, bytes(body[: -4 * N]) + ids.tobytes())


def test_a_message_without_the_ring_is_refused():
  session = started()
  refused(session, 7, body_of(session.incoming[7])[: TAIL - 1])


def test_version_1_and_the_complete_graph_announce_nothing():
  ring = secagg.find_parameters(N, 0.05, 0.1, mode='semi_honest', graph='ring')
  complete = secagg.find_parameters(N, 0.05, 0.1, mode='semi_honest', graph='complete')
  assert graph.notice_bytes(ring, 2) == TAIL
  assert graph.notice_bytes(ring, 1) == graph.notice_bytes(complete, 2) == 0

"""Any change of any message: refused with an error of the protocol, or the sum stays right."""

import random

from hypothesis import given, settings, strategies as st
from secagg_sessions import MODES, Session

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg.client.states import State

CHANGES = ('cut', 'grow', 'flip', 'noise', 'type', 'header', 'bits')


def changed(data, message):
  """A message cut, prolonged, replaced, or changed in a byte, its type, its header or its body."""
  message = bytearray(message)
  kind = data.draw(st.sampled_from(CHANGES))
  if kind == 'cut':
    message = message[: data.draw(st.integers(0, len(message)))]
  elif kind == 'grow':
    message += data.draw(st.binary(min_size=1, max_size=200))
  elif kind == 'flip':
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
  elif kind == 'noise':
    message = bytearray(data.draw(st.binary(max_size=300)))
  elif kind == 'type':
    message[5] = data.draw(st.integers(0, 255))
  elif kind == 'header':
    message[:48] = data.draw(st.binary(min_size=48, max_size=48))
  else:  # set and cleared bitmaps, keys and shares of nothing else
    seeded = random.Random(data.draw(st.integers(0, 2**32 - 1)))
    message[48:] = bytes(seeded.choices([0, 255], k=len(message) - 48))
  return bytes(message)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_message_of_a_client_is_refused_or_leaves_the_sum_right(data):
  mode = data.draw(st.sampled_from(MODES))
  session = Session(6, mode=mode, dropout_fraction=0.34)
  target = data.draw(st.integers(0, 5))

  def change(client, message):
    return changed(data, message) if client == 3 and session.server.round == target else message

  try:
    while session.server.result is None:
      session.step(up=change)
  except secagg.BadShares:
    return  # a changed commitment or share can end a session, but not bend its sum
  # A semi-honest client may change its own vector; nobody else's.
  if session.refused or target != 2 or mode == 'authenticated':
    session.assert_exact()


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_client_is_not_fooled_by_a_changed_message_of_the_server(data):
  session = Session(
    5,
    mode=data.draw(st.sampled_from(MODES)),
    verify=data.draw(st.sampled_from([None, 'mac'])),
    dropout_fraction=0.2,
  )
  target = data.draw(st.integers(1, 5))
  while session.server.result is None and session.server.round < target:
    session.step()
  client = session.clients[1]
  before = client.state
  try:
    client.receive(changed(data, session.incoming[1]))
  except (secagg.InvalidMessage, secagg.WrongRound):
    assert client.state is before
  except secagg.SecAggError:
    assert client.state in (State.ABORTED, State.DONE, State.ANSWERED)

"""Drives sessions round by round, with hands on every message."""

import numpy as np
import pytest

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.client.states import State

MODES = ('semi_honest', 'authenticated')
LEAF = secagg.Leaf('v', (70,), bits=20)


def params(**changes):
  settings = {
    'task': 'test',
    'round_number': 1,
    'leaves': [LEAF],
    'colluding_fraction': 0.05,
    'dropout_fraction': 0.25,
  }
  return secagg.SessionParams(**(settings | changes))


def random_inputs(session_params, clients, seed=0):
  rng = np.random.default_rng(seed)
  return {
    client: {
      leaf.name: rng.integers(0, 2**leaf.bits, leaf.shape, dtype=np.int64)
      for leaf in session_params.leaves
    }
    for client in clients
  }


def assert_sum(values, inputs, survivors, leaves):
  for leaf in leaves:
    expected = sum(np.asarray(inputs[client][leaf.name]).astype(object) for client in survivors)
    np.testing.assert_array_equal(values[leaf.name], expected % 2**leaf.bits)


def rewrap(message, body, **header):
  """The same message with another body, and other fields in its header."""
  magic, version, kind, flags, session, number, _ = wire.HEADER.unpack_from(message)
  fields = {
    'magic': magic,
    'version': version,
    'kind': kind,
    'flags': flags,
    'session': session,
    'number': number,
    'length': len(body),
  } | header
  return wire.HEADER.pack(*fields.values()) + bytes(body)


def body_of(message):
  return bytearray(message[wire.HEADER.size :])


class Session:
  """A server and n clients; `step` carries one round."""

  def __init__(self, n=8, *, changed=None, server_identity=None, client_options=None, **changes):
    self.params = params(**changes)
    ids = list(range(1, n + 1))
    self.identities = secagg.generate_identities(ids)
    self.roster = secagg.roster_of(self.identities)
    roster = self.roster if self.params.authenticated else None
    self.server = secagg.Server(self.params, roster, identity=server_identity)
    self.inputs = random_inputs(self.params, ids)
    self.clients = {}
    for i in ids:
      self.clients[i] = secagg.Client(
        (changed or {}).get(i, self.params), i, self.identities[i], roster, **(client_options or {})
      )
      self.clients[i].provide(self.inputs[i])
    self.incoming = dict.fromkeys(ids)
    self.sent = {}
    self.errors = {}
    self.refused = {}

  def answer(self, client, message):
    return (
      self.clients[client].start() if message is None else self.clients[client].receive(message)
    )

  def step(self, *, skip=(), up=None, down=None, close=True):
    """One round: every client answers, the server takes the answers and closes."""
    for client, message in self.incoming.items():
      if client in skip or client in self.errors:
        continue
      try:
        answer = self.answer(client, message if down is None else down(client, message))
      except secagg.SecAggError as error:
        self.errors[client] = error
        if not isinstance(error, secagg.BadShares):
          continue
        answer = self.clients[client].abort(error)
      self.sent[client] = answer
      answer = answer if up is None else up(client, answer)
      if answer is None:
        continue
      try:
        self.server.receive(client, answer)
      except secagg.SecAggError as error:
        self.refused[client] = error
    if close:
      self.incoming = self.server.close_round()
    return self

  def steps(self, count):
    for _ in range(count):
      self.step()
    return self

  def finish(self, **options):
    while self.server.result is None:
      self.step(**options)
    return self

  def assert_exact(self, survivors=None):
    result = self.server.result
    if survivors is not None:
      assert result.survivors == tuple(survivors)
    assert_sum(result.values, self.inputs, result.survivors, self.params.leaves)


def server_refuses(session, client, message, error):
  """Sends a message that the server must refuse with this error, counted under its name."""
  before = session.server.refused[error.__name__]
  with pytest.raises(error) as caught:
    session.server.receive(client, message)
  assert type(caught.value) is error
  assert caught.value.round is not None
  assert caught.value.code == error.code
  assert session.server.refused[error.__name__] == before + 1
  return caught.value


def client_refuses(session, client, message, error, state=State.ABORTED):
  """Sends a message that a client must refuse with this error; one that leaves has no secrets."""
  target = session.clients[client]
  with pytest.raises(error) as caught:
    target.receive(message)
  assert type(caught.value) is error
  assert target.state is state
  if state is State.ABORTED:
    assert not any(target._custody._mask.seed.data)
    assert not any(target._custody._self_mask.data)
    assert target._values is None
    with pytest.raises(secagg.SessionAborted):
      target.receive(message)
  return caught.value

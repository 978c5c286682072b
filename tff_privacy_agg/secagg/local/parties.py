"""The clients of a session that one process holds."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from tff_privacy_agg.secagg.client.policy import Policy
from tff_privacy_agg.secagg.client.session import Client
from tff_privacy_agg.secagg.errors import SecAggError
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys


class Group(NamedTuple):
  """What makes the clients of a session.

  Attributes:
    params: Parameters of the session.
    clients: Ids of the clients.
    identities: {client: Ed25519 private key}; authenticated mode.
    roster: {client: Ed25519 public key} of all clients; authenticated mode.
  """

  params: SessionParams
  clients: Sequence[int]
  identities: Mapping[int, keys.Identity] | None
  roster: Mapping[int, bytes] | None


class Task(NamedTuple):
  """What one client is to do.

  Attributes:
    client: Its id.
    message: What the server sends to it; empty if it is to start.
    values: Its input, {leaf: array}, if it is to take it before it answers.
  """

  client: int
  message: bytes
  values: Mapping[str, Any] | None = None


class Answer(NamedTuple):
  """What one client did.

  Attributes:
    data: Its message to the server.
    seconds: How long it computed.
    error: The error with which it left the session; `data` says so to the server.
  """

  data: bytes
  seconds: float
  error: SecAggError | None


class Parties(Protocol):
  """The clients of one session, wherever they are."""

  def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Answer]]:
    """Yields (client, answer) in the order of `tasks`."""

  def close(self) -> None:
    """Lets the clients go, and their secrets with them."""


def _answer(party: Client, message: bytes, start: float) -> Answer:
  error = None
  try:
    data = party.receive(message) if message else party.start()
  except SecAggError as found:
    error, data = found, party.abort(found)
  return Answer(data or b'', time.perf_counter() - start, error)


class LocalParties:
  """Clients in this process. One is made when it starts."""

  def __init__(self, group: Group):
    self._group = group
    self._clients: dict[int, Client] = {}

  def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Answer]]:
    """Yields (client, answer) in the order of `tasks`.

    Raises:
      SecAggError: If an input does not fit its leaf.
    """
    for task in tasks:
      start = time.perf_counter()
      client, message = task.client, task.message
      party = self._clients.get(client) or self._started(client)
      if task.values is not None:
        party.provide(task.values)
      del task  # the client has its own copy; this one goes before the vector is packed
      yield client, _answer(party, message, start)

  def close(self) -> None:
    """Lets the clients go, and their secrets with them."""
    self._clients = {}

  def _started(self, client: int) -> Client:
    params, _, identities, roster = self._group
    identity = None if identities is None else identities[client]
    # All parties are the caller's own: nobody is talked down to its `version`.
    policy = Policy(version=params.version)
    self._clients[client] = Client(params, client, identity, roster, policy=policy)
    return self._clients[client]

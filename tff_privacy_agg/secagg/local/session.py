"""A session of parties that are all the caller's: for tests, simulations and measurements."""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.errors import SecAggError, SessionAborted
from tff_privacy_agg.secagg.local.parties import Group, LocalParties, Parties, Task
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys
from tff_privacy_agg.secagg.results import SessionResult
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.server.session import Server

_SERVER, _WORK = 'server', 'work'
Inputs = Callable[[Sequence[int]], Iterator[tuple[int, Mapping[str, Any]]]]


class _Meter:
  """Adds up the seconds of calls, by party: a client's id, the server, or the work for inputs."""

  def __init__(self) -> None:
    self.seconds: dict[int | str, float] = {_SERVER: 0.0, _WORK: 0.0}

  def add(self, party: int | str, seconds: float) -> None:
    self.seconds[party] = self.seconds.get(party, 0.0) + seconds

  def run(self, party: int | str, call: Callable[..., Any], *args: Any) -> Any:
    start = time.perf_counter()
    try:
      return call(*args)
    finally:
      self.add(party, time.perf_counter() - start)


def generate_identities(clients: list[int]) -> dict[int, bytes]:
  """A fresh Ed25519 private key, 32 raw bytes, for each client.

  Examples:
    >>> sorted(tpa.secagg.generate_identities([1, 2]))
    [1, 2]
  """
  return {client: bytes(keys.Secret().data) for client in clients}


def roster_of(identities: Mapping[int, keys.Identity]) -> dict[int, bytes]:
  """The Ed25519 public keys of private ones.

  Examples:
    >>> identities = tpa.secagg.generate_identities([1, 2])
    >>> [len(key) for key in tpa.secagg.roster_of(identities).values()]
    [32, 32]
  """
  return {
    client: keys.signing_key(identity).public_key().public_bytes_raw()
    for client, identity in identities.items()
  }


class LocalSession:
  """Real clients and a real server, joined on one machine; for one run.

  Inputs are drawn when round 2 asks for them. With clients in this process they are drawn one at a
  time: a client's vector lives from its work to the server's sum, so memory does not grow with the
  number of clients.

  Args:
    params: Parameters of the session.
    clients: Ids of the clients.
    drops: {client: first round, 0 to 5, in which it sends nothing}.
    identities: {client: Ed25519 private key}; drawn in the authenticated mode if None.
    parties: Makes the clients, in this process by default; see `PartyProcesses.parties`.
  """

  def __init__(
    self,
    params: SessionParams,
    clients: Sequence[int],
    drops: Mapping[int, int] | None = None,
    identities: Mapping[int, keys.Identity] | None = None,
    parties: Callable[[Group], Parties] = LocalParties,
  ):
    if params.authenticated and identities is None:
      identities = generate_identities(list(clients))
    roster = None if identities is None else roster_of(identities)
    self._meter = _Meter()
    self._server = self._meter.run(_SERVER, Server, params, roster)
    self._parties = parties(Group(params, clients, identities, roster))
    self._drops = dict(drops or {})
    self._silent: dict[int, int] = {}
    self._left: dict[int, SecAggError] = {}
    self._up = {client: [0] * len(Round) for client in clients}
    self._down = {client: [0] * len(Round) for client in clients}

  def run(self, inputs: Inputs) -> SessionResult:
    """Runs the session to its end.

    Args:
      inputs: From the clients that are to send a vector to their (client, values), in any
        order. A client that it leaves out has dropped out.

    Raises:
      SecAggError: If the session ends without a result, or an input does not fit its leaf.
    """
    messages = dict.fromkeys(self._up, b'')
    try:
      while messages:
        self._answer(messages, inputs)
        if self._server.result is not None:
          break
        messages = self._meter.run(_SERVER, self._server.close_round)
        for client, message in messages.items():
          self._down[client][wire.Kind(message[5]).round] += len(message)
    finally:
      self._parties.close()
    return self._result()

  def _answer(self, messages: dict[int, bytes], inputs: Inputs) -> None:
    """Has the clients answer the server's messages; one that does not is silent from then on."""
    now = self._server.round
    for client in messages:
      if self._drops.get(client, len(Round)) <= now:
        self._silent.setdefault(client, now)
    speaking = [client for client in messages if client not in self._silent]
    waiting = set(speaking)
    for client, answer in self._parties.answers(self._tasks(speaking, messages, inputs)):
      waiting.discard(client)
      if answer.error is not None:
        self._left[client] = answer.error
        self._silent[client] = now
      self._up[client][now] += len(answer.data)
      self._meter.add(client, answer.seconds)
      self._meter.run(_SERVER, self._server.receive, client, answer.data)
      del answer  # a large message goes before the next client works
    self._silent.update(dict.fromkeys(waiting, now))

  def _tasks(
    self, speaking: Sequence[int], messages: dict[int, bytes], inputs: Inputs
  ) -> Iterator[Task]:
    if self._server.round != Round.MASKED:
      return (Task(client, messages.pop(client)) for client in speaking)
    drawn = inputs(speaking)
    # Neither `iter` nor `map` keeps a vector that it has handed on.
    vectors = iter(functools.partial(self._meter.run, _WORK, next, drawn, None), None)
    return map(lambda one: Task(one[0], messages.pop(one[0]), one[1]), vectors)

  def _result(self) -> SessionResult:
    server, seconds = self._server, self._meter.seconds
    if server.result is None:
      raise SessionAborted('The session has ended without a result.')
    return SessionResult(
      words=server.result.words,
      survivors=server.result.survivors,
      blamed=server.result.blamed,
      refused=dict(server.refused),
      left=self._left,
      silent=self._silent,
      verdicts=dict(server.verdicts),
      bytes_up=self._up,
      bytes_down=self._down,
      seconds_client={client: seconds.get(client, 0.0) for client in self._up},
      seconds_server=seconds[_SERVER],
      seconds_work=seconds[_WORK],
    )


def run_in_memory(
  params: SessionParams,
  inputs: Mapping[int, Mapping[str, Any]],
  drops: Mapping[int, int] | None = None,
  identities: Mapping[int, keys.Identity] | None = None,
) -> SessionResult:
  """Runs a session over inputs that are there.

  Args:
    params: Parameters of the session.
    inputs: {client id: {leaf: integer array}}.
    drops: {client id: the first round, 0 to 5, in which it sends nothing}.
    identities: {client id: Ed25519 private key}; drawn in the authenticated mode if None.

  Raises:
    SecAggError: If the session ends without a result, or an input does not fit.

  Examples:
    >>> params = tpa.secagg.SessionParams(
    ...   task='sum', round_number=1, leaves=[tpa.secagg.Leaf('x', (2,), bits=8)]
    ... )
    >>> inputs = {client: {'x': np.array([client, 1])} for client in (1, 2, 3)}
    >>> tpa.secagg.run_in_memory(params, inputs).values['x']
    array([6, 3])
  """
  if not inputs:
    raise ConfigurationError('`inputs` is empty. Give the values of each client.')
  for client_id, at in (drops or {}).items():
    _validate.at_least(0, drops=at)
    if at >= len(Round):
      raise ConfigurationError(
        f'`drops` says that client {client_id} drops out in round {at}; the rounds are 0 to '
        f'{len(Round) - 1}.'
      )
  if not set(drops or ()) <= set(inputs):
    strangers = sorted(set(drops or ()) - set(inputs))
    raise ConfigurationError(f'`drops` names clients without inputs: {strangers}.')
  session = LocalSession(params, list(inputs), drops, identities)
  return session.run(lambda clients: ((client, inputs[client]) for client in clients))

"""One secure session with all its clients in this process, inputs taken as they come."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tff_privacy_agg import secagg
from tff_privacy_agg.runtime.drops import ROUNDS

_MASKED = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundReport:
  """What a round did and cost.

  Attributes:
    session: Number of the session of this context.
    clients: Clients that were asked.
    survivors: Positions of the clients in the sum, ascending.
    dropped: {protocol round: clients that were first silent in it}.
    refused: {error class: messages that the server refused with it}.
    bytes_up: {client: bytes it sent}.
    bytes_down: {client: bytes it received, without the broadcast}.
    plain_bytes: One client's values in the clear, at the bits of one value.
    seconds_work: The clients' `work`: training, clipping, noise.
    seconds_clients: Protocol, all clients together.
    seconds_protocol: Protocol, server.
    seconds_server: `prepare` and `update`.
  """

  session: int
  clients: int
  survivors: tuple[int, ...]
  dropped: Mapping[int, tuple[int, ...]]
  refused: Mapping[str, int]
  bytes_up: Mapping[int, int]
  bytes_down: Mapping[int, int]
  plain_bytes: float
  seconds_work: float
  seconds_clients: float
  seconds_protocol: float
  seconds_server: float = 0.0

  @property
  def expansion(self) -> float:
    """A survivor's median upload over its plain upload."""
    return statistics.median(self.bytes_up[client] for client in self.survivors) / self.plain_bytes

  def as_dict(self) -> dict[str, float]:
    """The report as flat numbers, for metrics."""
    up, down = list(self.bytes_up.values()), list(self.bytes_down.values())
    numbers = {
      'clients': self.clients,
      'survivors': len(self.survivors),
      **{f'dropped/{at}': len(clients) for at, clients in sorted(self.dropped.items())},
      'refused': sum(self.refused.values()),
      'bytes_up/median': statistics.median(up),
      'bytes_up/maximum': max(up),
      'bytes_down/median': statistics.median(down),
      'bytes_down/maximum': max(down),
      'expansion': self.expansion,
      'seconds/work': self.seconds_work,
      'seconds/clients': self.seconds_clients,
      'seconds/protocol': self.seconds_protocol,
      'seconds/server': self.seconds_server,
    }
    return {name: float(value) for name, value in numbers.items()}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionOutcome:
  """Sums of a session, and its report."""

  values: Mapping[str, Any]
  report: RoundReport


class _Meter:
  """Adds up the seconds of calls, by party."""

  def __init__(self):
    self.seconds = {'work': 0.0, 'clients': 0.0, 'server': 0.0}

  def run(self, party: str, call: Callable[..., Any], *args: Any) -> Any:
    start = time.perf_counter()
    try:
      return call(*args)
    finally:
      self.seconds[party] += time.perf_counter() - start


class LocalSession:
  """Real clients and a real server, joined by function calls.

  Inputs are drawn when round 2 asks for them, one at a time: a client's vector lives from its
  work to the server's sum, so memory does not grow with the number of clients.

  Args:
    params: Parameters of the session.
    clients: Number of clients; their ids are 0 to `clients - 1`.
    drops: {client: first protocol round, 0 to 5, in which it sends nothing}.
    identities: {client: Ed25519 private key}, for the authenticated mode.
  """

  def __init__(
    self,
    params: secagg.SessionParams,
    clients: int,
    drops: Mapping[int, int],
    identities: Mapping[int, bytes] | None = None,
  ):
    self._params = params
    self._drops = drops
    self._meter = _Meter()
    roster = None if identities is None else secagg.roster_of(identities)
    self._server = self._meter.run('server', secagg.Server, params, roster)
    self._clients = {}
    for client in range(clients):
      identity = None if identities is None else identities[client]
      self._clients[client] = self._meter.run(
        'clients', secagg.Client, params, client, identity, roster
      )
    self._silent: dict[int, int] = {}
    self._up = dict.fromkeys(range(clients), 0)
    self._down = dict.fromkeys(range(clients), 0)

  def run(
    self, inputs: Callable[[Sequence[int]], Iterator[tuple[int, Mapping[str, Any]]]]
  ) -> SessionOutcome:
    """Runs the session to its end.

    Args:
      inputs: From the clients that are to send a vector to their (client, values), in any
        order. A client that it leaves out has dropped out.

    Raises:
      SecAggError: If the session ends without a result, or an input does not fit its leaf.
    """
    messages = dict.fromkeys(self._clients, b'')
    while messages:
      now = self._server.round
      for client in messages:
        if self._drops.get(client, ROUNDS) <= now:
          self._silent.setdefault(client, now)
      speaking = [client for client in messages if client not in self._silent]
      if now == _MASKED:
        self._send_vectors(speaking, messages, inputs)
      else:
        for client in speaking:
          self._step(client, messages[client])
      if self._server.result is not None:
        break
      messages = self._meter.run('server', self._server.close_round)
      for client, message in messages.items():
        self._down[client] += len(message)
    return self._outcome()

  def _send_vectors(self, speaking, messages, inputs) -> None:
    waiting = set(speaking)
    drawn = inputs(speaking)
    while (one := self._meter.run('work', next, drawn, None)) is not None:
      client, values = one
      self._meter.run('clients', self._clients[client].provide, values)
      self._step(client, messages[client])
      waiting.discard(client)
    self._silent.update(dict.fromkeys(waiting, _MASKED))

  def _step(self, client: int, message: bytes) -> None:
    party = self._clients[client]
    call = (party.receive, message) if message else (party.start,)
    answer = self._meter.run('clients', *call)
    self._up[client] += len(answer)
    self._meter.run('server', self._server.receive, client, answer)

  def _outcome(self) -> SessionOutcome:
    result = self._server.result
    if result is None:
      raise secagg.SessionAborted('The session has ended without a result.')
    dropped: dict[int, list[int]] = {}
    for client, at in sorted(self._silent.items()):
      dropped.setdefault(at, []).append(client)
    report = RoundReport(
      session=self._params.round_number,
      clients=len(self._clients),
      survivors=result.survivors,
      dropped={at: tuple(clients) for at, clients in dropped.items()},
      refused=dict(self._server.refused),
      bytes_up=self._up,
      bytes_down=self._down,
      plain_bytes=0.0,
      seconds_work=self._meter.seconds['work'],
      seconds_clients=self._meter.seconds['clients'],
      seconds_protocol=self._meter.seconds['server'],
    )
    return SessionOutcome(values=result.values, report=report)

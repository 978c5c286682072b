"""Report of a simulated round: what it did and cost."""

import dataclasses
import statistics
from collections.abc import Mapping

from tff_privacy_agg import secagg


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundReport:
  """Survivors, refusals, bytes and seconds of a round.

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
  seconds_server: float

  @classmethod
  def of(
    cls, result: secagg.SessionResult, *, session: int, plain_bytes: float, seconds_server: float
  ) -> 'RoundReport':
    """The report of a session's result."""
    dropped: dict[int, list[int]] = {}
    for client, at in sorted(result.silent.items()):
      dropped.setdefault(at, []).append(client)
    return cls(
      session=session,
      clients=len(result.bytes_up),
      survivors=result.survivors,
      dropped={at: tuple(clients) for at, clients in dropped.items()},
      refused=result.refused,
      bytes_up={client: sum(sent) for client, sent in result.bytes_up.items()},
      bytes_down={client: sum(received) for client, received in result.bytes_down.items()},
      plain_bytes=plain_bytes,
      seconds_work=result.seconds_work,
      seconds_clients=sum(result.seconds_client.values()),
      seconds_protocol=result.seconds_server,
      seconds_server=seconds_server,
    )

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

"""One session on the server: how long it waits, whom it asked, heard and answered."""

import dataclasses

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg.deployment import framing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deadlines:
  """How long the coordinator waits, in seconds.

  Args:
    join: For the clients of a session to be there.
    work: From the offer of a session to the client's keys: training included.
    round: For each further round of the protocol.
  """

  join: float = 60.0
  work: float = 600.0
  round: float = 30.0

  def __post_init__(self):
    _validate.positive(join=self.join, work=self.work, round=self.round)

  def of(self, at: secagg.Round) -> float:
    """The deadline of one round of the protocol."""
    return self.work if at == secagg.Round.KEYS else self.round


class LiveSession:
  """What has been offered, heard and sent; guarded by its service's lock.

  Args:
    server: The protocol's server.
    offer: Parameters and broadcast, as every client of the cohort is sent them.
    cohort: Ids of the clients that are asked.

  Attributes:
    offered: Clients that have the offer.
    pending: Clients that the open round waits for.
    sent: {protocol round: {client: message}} once the round has closed.
    over: Whether nothing more will come.
    limit: Most bytes of one message.
    missing: Clients that a closed round waited for in vain.
    rubbish: Clients that sent what is no message.
  """

  def __init__(self, server: secagg.Server, offer: bytes, cohort: frozenset[int]):
    self.server = server
    self.id = server.params.session_id.hex()
    self.offer = offer
    self.cohort = cohort
    self.offered: set[int] = set()
    self.pending = set(cohort)
    self.sent: dict[int, dict[int, bytes]] = {}
    self.over = False
    self.missing: set[int] = set()
    self.rubbish: set[int] = set()
    self.limit = framing.largest_message(server.params, len(cohort))

  def blame(self) -> secagg.Blame:
    """What the session has shown of its clients; of why it failed, its error tells more."""
    proven = frozenset(self.server.proven | self.rubbish)
    return secagg.Blame(proven=proven, silent=frozenset(self.missing) - proven)

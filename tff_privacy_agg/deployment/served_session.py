"""One session on the server: how long it waits, whom it asked, heard and answered."""

import asyncio
import dataclasses
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg.deployment import framing
from tff_privacy_agg.errors import ConfigurationError

LONGEST_DEADLINE = 7 * 86_400.0


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Deadlines:
  """How long the coordinator waits, in seconds.

  Args:
    join: For the clients of a session to be there.
    work: From the offer of a session to the client's keys: training included.
    round: For each further round of the protocol.

  Raises:
    ConfigurationError: If one is not positive, or longer than the week that clients accept.
  """

  join: float = 60.0
  work: float = 600.0
  round: float = 30.0

  def __post_init__(self) -> None:
    _validate.positive(join=self.join, work=self.work, round=self.round)
    for name in ('work', 'round'):
      if getattr(self, name) > LONGEST_DEADLINE:
        raise ConfigurationError(
          f'`{name}` must be at most {LONGEST_DEADLINE:g} s, a week, got {getattr(self, name):g}: clients '
          'take part in no session whose deadlines are longer.'
        )

  def of(self, at: secagg.Round) -> float:
    """The deadline of one round of the protocol."""
    return self.work if at == secagg.Round.KEYS else self.round


class LiveSession:
  """What has been offered, heard and sent.

  Methods compute, in the coordinator's one thread for that; the event loop calls `wake` after
  them, and reads only what they have set.

  Args:
    server: The protocol's server.
    offer: Parameters and broadcast, as every client of the cohort is sent them.
    cohort: Ids of the clients that are asked.

  Attributes:
    offered: Clients that have the offer.
    pending: Clients that the open round waits for.
    sent: {protocol round: {client: message}} once the round has closed. Of the rounds before the last
      one, no messages: who still needs one has dropped out, and all together are GBs.
    over: Whether nothing more will come.
    limit: Most bytes of one message.
    late: Clients that the last round to close waited for in vain.
    missing: Clients of which any round had nothing: that it waited for in vain, that declined, or
      that left without a complaint.
    rubbish: Clients that sent what is no message.
    heard: Set whenever a client has been heard.
    moved: Set, and replaced, when a round has closed or the session is over.
  """

  def __init__(self, server: secagg.Server, offer: bytes, cohort: frozenset[int]):
    self.server = server
    self.id = server.params.session_id.hex()
    self.offer = offer
    self.cohort = cohort
    self.offered: set[int] = set()
    self.pending = set(cohort)
    self._asked = cohort
    self.sent: dict[int, dict[int, bytes]] = {}
    self.over = False
    self.late: frozenset[int] = frozenset()
    self.missing: set[int] = set()
    self.rubbish: set[int] = set()
    self.limit = framing.largest_message(server.params, len(cohort))
    self.heard = asyncio.Event()
    self.moved = asyncio.Event()

  def wake(self) -> None:
    """Wakes those that wait for an answer, once each."""
    moved, self.moved = self.moved, asyncio.Event()
    moved.set()

  def receive(self, client: int, head: Mapping[str, Any], message: bytes) -> int | None:
    """Takes a message; returns the protocol round whose closing answers it, None for none."""
    at = head.get('round')
    if isinstance(at, int) and client in self.sent.get(at, ()):
      return at  # Sent again after a lost connection: the answer is there.
    try:
      self.server.receive(client, message)
    except secagg.DuplicateMessage:
      raise
    except secagg.SecAggError:
      self.let_go(client)
      raise
    self.let_go(client)
    return None if head.get('last') else self.server.round

  def let_go(self, client: int) -> None:
    """Waits no longer for a client."""
    self.pending.discard(client)

  def cast_out(self, client: int) -> None:
    """Waits no longer for a client, which sent what is no message."""
    self.rubbish.add(client)
    self.let_go(client)

  def close_round(self) -> None:
    """Closes the open round; `late` are then those that it waited for in vain."""
    at = self.server.round
    self.late = frozenset(self.pending)
    self.missing |= self._asked - self.server.heard.keys()
    outgoing = self.server.close_round()
    self.pending = set(outgoing)
    self._asked = frozenset(outgoing)
    self.sent = {earlier: {} for earlier in self.sent} | {at: outgoing}

  def finish(self, error: secagg.SecAggError | None) -> secagg.Blame:
    """What the session has shown; with an error, every client is told that there is no result."""
    if error is not None:
      message = self.server.abort_message(error)
      self.sent.setdefault(self.server.round, dict.fromkeys(self.cohort, message))
    return self.blame()

  def blame(self) -> secagg.Blame:
    """What the session has shown of its clients; of why it failed, its error tells more."""
    proven = frozenset(self.server.proven | self.rubbish)
    return secagg.Blame(proven=proven, silent=frozenset(self.missing) - proven)

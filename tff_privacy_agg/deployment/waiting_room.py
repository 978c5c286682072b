"""Clients that wait for a session, and the session that is open to them."""

import asyncio
from collections.abc import Mapping, Set

from tff_privacy_agg.deployment import event_loop
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.served_session import LiveSession

_POLL_SECONDS = 20.0
_PAUSE_SECONDS = 1.0


class WaitingRoom:
  """Who is there; all of it runs on the event loop.

  Args:
    names: {client: name}, for the events.
    events: Takes what happens.

  Attributes:
    waiting: {client: what ends its wait} of those that wait for a session; one call a client.
    known: Clients that joined and have been heard since.
    served: {client: the greatest round number that it has served, as it says}.
    session: The open session.
    ended: Why there will be no other, once that is so.
  """

  def __init__(self, names: Mapping[int, str], events: Events):
    self.waiting: dict[int, asyncio.Future[None]] = {}
    self.known: set[int] = set()
    self.served: dict[int, int] = {}
    self.session: LiveSession | None = None
    self.ended: str | None = None
    self._names, self._events = names, events
    self._came_or_left = asyncio.Event()

  async def gather(
    self, expected: int, among: frozenset[int] | None, seconds: float
  ) -> frozenset[int]:
    """Waits for so many clients; returns who waits for a session then, or once the time is up."""

    def there() -> frozenset[int]:
      return frozenset(self.waiting) if among is None else among & self.waiting.keys()

    await event_loop.until(
      lambda: len(self.waiting) >= expected and len(there()) >= expected,
      lambda: self._came_or_left,
      seconds,
    )
    return there()

  def call(self, clients: Set[int]) -> None:
    """Ends the wait of these clients, of those that wait."""
    for client in clients & self.waiting.keys():
      _release(self.waiting[client])

  async def empty(self, seconds: float) -> None:
    """Ends all waits, and waits itself until no client is left that has not been told the end."""
    for future in self.waiting.values():
      _release(future)
    await event_loop.until(lambda: not self.known, lambda: self._came_or_left, seconds)

  async def wait(self, client: int, served: int, expires: str = '') -> LiveSession | None:
    """Has a client wait; returns the session that is open to it, or None: it shall ask again.

    Args:
      client: The client.
      served: The greatest round number that it has served, as it says.
      expires: When its certificate ends, for the events.
    """
    self.served[client] = served
    if client not in self.known:
      self.known.add(client)
      self._events('joined', name=self._names[client], certificate_expires=expires)
    if client in self.waiting:
      # It has come back by another connection; or runs twice, and the two take turns.
      _release(self.waiting[client])
    future = self.waiting[client] = asyncio.get_running_loop().create_future()
    self._came_or_left.set()
    if self.ended is not None or self._offered(client) is not None:
      _release(future)
    try:
      await asyncio.wait({future}, timeout=_POLL_SECONDS)
      if self.waiting.get(client) is not future:
        await asyncio.sleep(_PAUSE_SECONDS)
        return None
      if self.ended is not None:
        self.known.discard(client)
      session = self._offered(client)
      if session is not None:
        session.offered.add(client)
      return session
    finally:
      if self.waiting.get(client) is future:
        del self.waiting[client]
      self._came_or_left.set()

  def _offered(self, client: int) -> LiveSession | None:
    """The session that is open to a client which does not have it yet."""
    session = self.session
    open_to = session is not None and client in session.cohort and client not in session.offered
    return session if open_to else None


def _release(future: 'asyncio.Future[None]') -> None:
  if not future.done():
    future.set_result(None)

"""The two calls of the gRPC service: a client joins, a client sends and waits.

All of it runs on one event loop, but for the protocol's arithmetic, which has a thread of its own:
a large sum holds up nobody's call. Each wait ends with a deadline, the session, or the client.
"""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeVar

import grpc
import grpc.aio

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import event_loop, framing, limits
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.served_session import Deadlines, LiveSession
from tff_privacy_agg.deployment.standing import Standing

_POLL_SECONDS = 20.0
_PAUSE_SECONDS = 1.0

Result = TypeVar('Result')


class Service:
  """What the handlers and the coordinator share; its coroutines run on one event loop.

  Args:
    clients: {name in the certificate: client id}.
    task: Name of the task.
    schema: What both sides must compute, as text.
    deadlines: How long to wait.
    events: Takes what happens.
    standing: Who is out of the run.

  Attributes:
    waiting: {client: what ends its wait} of those that wait for a session; one call a client.
    known: Clients that joined and have been heard since.
    served: {client: the greatest round number that it has served, as it says}.
    session: The open session.
    ended: Why there will be no other, once that is so.
    limits: What each client holds.
    traffic: Bytes of messages, 'received' and 'sent'.
  """

  def __init__(
    self,
    clients: Mapping[str, int],
    task: str,
    schema: str,
    deadlines: Deadlines,
    events: Events,
    standing: Standing,
  ):
    self.waiting: dict[int, asyncio.Future[None]] = {}
    self.known: set[int] = set()
    self.served: dict[int, int] = {}
    self.session: LiveSession | None = None
    self.ended: str | None = None
    self.limits = limits.Limits()
    self.traffic = {'received': 0, 'sent': 0}
    self._clients = dict(clients)
    self._names = {client: name for name, client in clients.items()}
    self._task, self._schema = task, schema
    self._deadlines, self._events, self._standing = deadlines, events, standing
    self._came_or_left = asyncio.Event()
    self._arithmetic = concurrent.futures.ThreadPoolExecutor(1, 'protocol')

  def named(self, clients: Any) -> str:
    """The names of clients, for people."""
    return ', '.join(self._names.get(client, str(client)) for client in sorted(clients)) or 'nobody'

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

  async def serve(self, session: LiveSession) -> secagg.Aggregate:
    """Runs a session to its result."""
    self.session = session
    for client in session.cohort & self.waiting.keys():
      _release(self.waiting[client])
    while (result := session.server.result) is None:
      at = session.server.round
      await self._all_heard(session, at)
      try:
        await self._compute(session.close_round)
      finally:
        late, session.late = session.late, frozenset()
        self.known -= late
        if late:
          self._events('round closed', protocol_round=at, missing=self.named(late))
      session.wake()
    await self._all_heard(session, secagg.Round.RESULT)
    return result

  async def end(
    self, session: LiveSession, error: secagg.SecAggError | None = None
  ) -> secagg.Blame:
    """Ends a session, and returns what it has shown; with an error, its clients are told why."""
    try:
      return await self._compute(session.finish, error)
    finally:
      session.over, self.session = True, None
      session.wake()

  async def dismiss(self) -> None:
    """Has those that wait, and are out of the run by now, told so."""
    for client in self._standing.out & self.waiting.keys():
      _release(self.waiting[client])

  async def close(self, reason: str, seconds: float) -> None:
    """Tells the clients that there is nothing more to do; waits a moment for those on their way."""
    self.ended = reason
    if self.session is not None:
      self.session.over = True
      self.session.wake()
    for future in self.waiting.values():
      _release(future)
    await event_loop.until(lambda: not self.known, lambda: self._came_or_left, seconds)

  def stop(self) -> None:
    """Lets the computing thread end, once it has done what it was given."""
    self._arithmetic.shutdown(wait=False)

  async def join(self, _: AsyncIterator[bytes], context: Any) -> None:
    """Answers with a session once there is one; or to ask again, or that there will be none."""
    client = await self._caller(context)
    try:
      with self.limits.call(client):
        await self._join(client, context)
    except limits.TooMuch as error:
      await self._refuse(client, error, context)

  async def exchange(self, _: AsyncIterator[bytes], context: Any) -> None:
    """Takes a client's message, and answers when the round has closed."""
    client = await self._caller(context)
    try:
      with self.limits.call(client):
        await self._exchange(client, context)
    except limits.TooMuch as error:
      await self._refuse(client, error, context)

  async def _caller(self, context: Any) -> int:
    """The client id of the certificate at the other end; refuses names that are unknown."""
    name = tls.common_name(context.auth_context())
    if name not in self._clients:
      self._refused(None, name[:100], 'unknown certificate')
      await context.abort(grpc.StatusCode.PERMISSION_DENIED, f'no client is named {name[:100]!r}')
    return self._clients[name]

  async def _refuse(self, client: int, error: limits.TooMuch, context: Any) -> None:
    if self.limits.tell(('limited', client), 1):
      self._events('limited', name=self._names[client], reason=str(error))
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

  def _refused(self, client: int | None, name: str, reason: str) -> None:
    # Those without a client id count together: an authority may give out any number of names.
    if self.limits.tell(client, limits.LINES):
      self._events('refused', reason=reason, name=name)

  async def _join(self, client: int, context: Any) -> None:
    try:
      async with _cut_after(limits.HELLO_SECONDS, context):
        hello = framing.parse_head(await self._frame(context))
      served = framing.served_round(hello)
    except secagg.InvalidMessage as error:
      await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    ours = framing.hello(self._task, self._schema)
    differs = [name for name, value in ours.items() if hello.get(name) != value]
    if differs:
      self._refused(client, self._names[client], f'another {differs[0]}')
      about = {'task': self._task, 'schema': self._schema}.get(differs[0], framing.FORMAT)
      reason = f'it has {differs[0]} {about[:2000]}'
      await self._send(context, {'state': 'refused', 'what': differs[0], 'reason': reason})
      return
    out = self._standing.is_out(client)
    session = None if out else await self._await_session(client, served)
    if self._standing.is_out(client):
      self.known.discard(client)
      reason = 'this client sent what no honest client sends too often; the operator can forgive it'
      await self._send(context, {'state': 'end', 'reason': reason})
      return
    if session is None:
      ended = {'state': 'end', 'reason': self.ended}
      await self._send(context, {'state': 'wait'} if self.ended is None else ended)
      return
    deadlines = [self._deadlines.of(at) for at in secagg.Round]
    head: dict[str, Any] = {'state': 'session', 'session': session.id, 'deadlines': deadlines}
    await self._send(context, head, session.offer)

  async def _await_session(self, client: int, served: int) -> LiveSession | None:
    self.served[client] = served
    if client not in self.known:
      self.known.add(client)
      self._events('joined', name=self._names[client])
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

  async def _exchange(self, client: int, context: Any) -> None:
    session = self.session
    if session is None or client not in session.cohort:
      reason = 'no session of this server is open to this client'
      await self._send(context, {'state': 'refused', 'reason': reason})
      return
    try:
      at = await self._take(session, client, context)
    except secagg.SecAggError as error:
      self._refused(client, self._names[client], str(error))
      await self._send(context, {'state': 'refused', 'reason': str(error)})
      return
    await self._send(context, *await self._answer(session, client, at))

  async def _take(self, session: LiveSession, client: int, context: Any) -> int | None:
    """Reads a message and hands it on; returns the protocol round whose closing answers it."""
    held = contextlib.ExitStack()
    try:
      head, payload = await self._read(session, client, context, held)
      if head.get('session') != session.id:
        raise secagg.SessionAborted('The message belongs to a session that has ended.')
      if 'declined' in head:
        if client in session.pending:
          reason = str(head['declined'])[:300]
          self._events('declined', name=self._names[client], reason=reason)
        await self._compute(session.let_go, client)
        return None
      return await self._compute(session.receive, client, head, payload)
    finally:
      held.close()
      session.heard.set()

  async def _read(
    self, session: LiveSession, client: int, context: Any, held: contextlib.ExitStack
  ) -> tuple[dict[str, Any], bytes]:
    """Reads a message, whose bytes count until `held` is closed."""
    try:
      # A client that stops in the middle of its message is cut off.
      async with _cut_after(self._deadlines.round, context):
        message = framing.Assembly(await self._frame(context), session.limit)
        held.enter_context(self.limits.message(client, message.size, session.limit))
        while not message.complete:
          message.add(await self._frame(context))
        return message.head, message.payload()
    except secagg.InvalidMessage:
      await self._compute(session.cast_out, client)
      raise

  async def _answer(
    self, session: LiveSession, client: int, at: int | None
  ) -> tuple[dict[str, str], bytes]:
    if at is None:
      return {'state': 'end', 'reason': 'nothing more is expected of this client'}, b''
    seconds = self._deadlines.of(secagg.Round(at)) + self._deadlines.round
    await event_loop.until(
      lambda: session.over or at in session.sent, lambda: session.moved, seconds
    )
    message = session.sent.get(at, {}).get(client)
    if message is not None:
      return {'state': 'message'}, message
    return {'state': 'end', 'reason': 'the session is over for this client'}, b''

  async def _frame(self, context: Any) -> bytes:
    """The next frame of a message that has not ended.

    A connection that breaks looks like the end of the call. It shows nothing of the client, which
    sends its message again, or has dropped out.

    gRPC's iterator over the frames refers to itself: a call that is not read to its end would be
    kept, and would count as one of its connection, until the garbage is collected.
    """
    frame = await context.read()
    if frame is grpc.aio.EOF:
      await context.abort(grpc.StatusCode.CANCELLED, 'the call ended before its message')
    self.traffic['received'] += len(frame)
    return bytes(frame)

  async def _send(self, context: Any, head: Mapping[str, Any], payload: bytes = b'') -> None:
    # Nobody holds a call open by not reading its answer.
    async with _cut_after(self._deadlines.work, context):
      for frame in framing.frames(head, payload):
        self.traffic['sent'] += len(frame)
        await context.write(frame)

  async def _all_heard(self, session: LiveSession, at: secagg.Round) -> None:
    """Waits until all have been heard, or the deadline passes."""
    seconds = self._deadlines.of(at)
    await event_loop.until(lambda: not session.pending, lambda: session.heard, seconds)

  async def _compute(self, function: Callable[..., Result], *arguments: Any) -> Result:
    """Runs a function in the one thread that computes, after those before it.

    Ends when the function has, even if the client has gone: until then what it computes with
    counts as the client's, and whoever waits for what it changes must be woken after it.
    """
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(self._arithmetic, function, *arguments)
    try:
      return await asyncio.shield(future)
    except asyncio.CancelledError:
      await asyncio.wait({future})
      raise


@contextlib.asynccontextmanager
async def _cut_after(seconds: float, context: Any) -> AsyncIterator[None]:
  """Ends the call if what is in the block takes longer."""
  try:
    async with asyncio.timeout(seconds):
      yield
  except TimeoutError:
    await context.abort(grpc.StatusCode.CANCELLED, f'it took longer than {seconds:g} s')


def _release(future: 'asyncio.Future[None]') -> None:
  if not future.done():
    future.set_result(None)

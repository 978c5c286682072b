"""The two calls of the gRPC service: a client joins, a client sends and waits.

All of it runs on one event loop, but for the protocol's arithmetic, which has a thread of its own:
a large sum holds up nobody's call. Each wait ends with a deadline, the session, or the client.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import event_loop, framing, limits
from tff_privacy_agg.deployment.call_frames import Frames, cut_after
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.served_session import Deadlines, LiveSession
from tff_privacy_agg.deployment.standing import Standing
from tff_privacy_agg.deployment.waiting_room import WaitingRoom


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
    room: Who waits for a session, and the one that is open.
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
    self.limits = limits.Limits()
    self._clients = dict(clients)
    self._names = {client: name for name, client in clients.items()}
    self._task, self._schema = task, schema
    self._deadlines, self._events, self._standing = deadlines, events, standing
    self.room = WaitingRoom(self._names, events)
    self._arithmetic = event_loop.OneThread('protocol')
    self._frames = Frames(deadlines.work)
    self.traffic = self._frames.traffic

  def named(self, clients: Any) -> str:
    """The names of clients, for people."""
    return ', '.join(self._names.get(client, str(client)) for client in sorted(clients)) or 'nobody'

  async def serve(self, session: LiveSession) -> secagg.Aggregate:
    """Runs a session to its result."""
    self.room.session = session
    self.room.call(session.cohort)
    while (result := session.server.result) is None:
      at = session.server.round
      await self._all_heard(session, at)
      try:
        await self._arithmetic.run(session.close_round)
      finally:
        late, session.late = session.late, frozenset()
        self.room.known -= late
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
      return await self._arithmetic.run(session.finish, error)
    finally:
      session.over, self.room.session = True, None
      session.wake()

  async def dismiss(self) -> None:
    """Has those that wait, and are out of the run by now, told so."""
    self.room.call(self._standing.out)

  async def close(self, reason: str, seconds: float) -> None:
    """Tells the clients that there is nothing more to do; waits a moment for those on their way."""
    self.room.ended = reason
    if self.room.session is not None:
      self.room.session.over = True
      self.room.session.wake()
    await self.room.empty(seconds)

  def stop(self) -> None:
    """Lets the computing thread end, once it has done what it was given."""
    self._arithmetic.stop()

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
      async with cut_after(limits.HELLO_SECONDS, context):
        hello = framing.parse_head(await self._frames.read(context))
      served = framing.served_round(hello)
    except secagg.InvalidMessage as error:
      await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    ours = framing.hello(self._task, self._schema)
    differs = [name for name, value in ours.items() if hello.get(name) != value]
    if differs:
      self._refused(client, self._names[client], f'another {differs[0]}')
      about = {'task': self._task, 'schema': self._schema}.get(differs[0], framing.FORMAT)
      reason = f'it has {differs[0]} {about[:2000]}'
      await self._frames.write(context, {'state': 'refused', 'what': differs[0], 'reason': reason})
      return
    out = self._standing.is_out(client)
    expires = tls.expiry_of_peer(context.auth_context())
    session = None if out else await self.room.wait(client, served, expires)
    if self._standing.is_out(client):
      self.room.known.discard(client)
      reason = 'this client sent what no honest client sends too often; the operator can forgive it'
      await self._frames.write(context, {'state': 'end', 'reason': reason})
      return
    if session is None:
      ended = {'state': 'end', 'reason': self.room.ended}
      await self._frames.write(context, {'state': 'wait'} if self.room.ended is None else ended)
      return
    deadlines = [self._deadlines.of(at) for at in secagg.Round]
    head: dict[str, Any] = {'state': 'session', 'session': session.id, 'deadlines': deadlines}
    await self._frames.write(context, head, session.offer)

  async def _exchange(self, client: int, context: Any) -> None:
    session = self.room.session
    if session is None or client not in session.cohort:
      reason = 'no session of this server is open to this client'
      await self._frames.write(context, {'state': 'refused', 'reason': reason})
      return
    try:
      at = await self._take(session, client, context)
    except secagg.SecAggError as error:
      self._refused(client, self._names[client], str(error))
      await self._frames.write(context, {'state': 'refused', 'reason': str(error)})
      return
    await self._frames.write(context, *await self._answer(session, client, at))

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
        await self._arithmetic.run(session.let_go, client)
        return None
      return await self._arithmetic.run(session.receive, client, head, payload)
    finally:
      held.close()
      session.heard.set()

  async def _read(
    self, session: LiveSession, client: int, context: Any, held: contextlib.ExitStack
  ) -> tuple[dict[str, Any], bytes]:
    """Reads a message, whose bytes count until `held` is closed."""
    try:
      # A client that stops in the middle of its message is cut off.
      async with cut_after(self._deadlines.round, context):
        message = framing.Assembly(await self._frames.read(context), session.limit)
        held.enter_context(self.limits.message(client, message.size, session.limit))
        while not message.complete:
          message.add(await self._frames.read(context))
        return message.head, message.payload()
    except secagg.InvalidMessage:
      await self._arithmetic.run(session.cast_out, client)
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

  async def _all_heard(self, session: LiveSession, at: secagg.Round) -> None:
    """Waits until all have been heard, or the deadline passes."""
    seconds = self._deadlines.of(at)
    await event_loop.until(lambda: not session.pending, lambda: session.heard, seconds)

"""The two calls of the gRPC service: a client joins, a client sends and waits.

Handlers run in the threads of gRPC's pool, under one lock with the coordinator's thread, which
opens sessions and closes rounds. Each wait ends with a deadline, the session, or the client.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
from cryptography import x509
from cryptography.x509.oid import NameOID

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import framing
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.served_session import Deadlines, LiveSession
from tff_privacy_agg.deployment.standing import Standing

_POLL_SECONDS = 20.0


class Service:
  """What the handlers and the coordinator share.

  Args:
    clients: {name in the certificate: client id}.
    task: Name of the task.
    schema: What both sides must compute, as text.
    deadlines: How long to wait.
    events: Takes what happens.
    standing: Who is out of the run.

  Attributes:
    changed: Lock of all that follows; notified when any of it changes.
    waiting: {client: its call} of those that wait for a session.
    known: Clients that joined and have been heard since.
    served: {client: the greatest round number that it has served, as it says}.
    session: The open session.
    ended: Why there will be no other, once that is so.
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
    self.changed = threading.Condition()
    self.waiting: dict[int, object] = {}
    self.known: set[int] = set()
    self.served: dict[int, int] = {}
    self.session: LiveSession | None = None
    self.ended: str | None = None
    self._clients = dict(clients)
    self._names = {client: name for name, client in clients.items()}
    self._task, self._schema = task, schema
    self._deadlines, self._events, self._standing = deadlines, events, standing

  def named(self, clients: Any) -> str:
    """The names of clients, for people."""
    return ', '.join(self._names.get(client, str(client)) for client in sorted(clients)) or 'nobody'

  def _caller(self, context: grpc.ServicerContext) -> int:
    """The client id of the certificate at the other end; refuses names that are unknown."""
    name = _common_name(context.auth_context())
    if name not in self._clients:
      self._events('refused', reason='unknown certificate', name=name[:100])
      context.abort(grpc.StatusCode.PERMISSION_DENIED, f'no client is named {name[:100]!r}')
    return self._clients[name]

  def join(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Answers with a session once there is one; or to ask again, or that there will be none."""
    client = self._caller(context)
    try:
      hello = framing.parse_head(request)
      served = framing.served_round(hello)
    except secagg.InvalidMessage as error:
      context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    ours = framing.hello(self._task, self._schema)
    differs = [name for name, value in ours.items() if hello.get(name) != value]
    if differs:
      self._events('refused', reason=f'another {differs[0]}', name=self._names[client])
      about = {'task': self._task, 'schema': self._schema}.get(differs[0], framing.FORMAT)
      reason = f'it has {differs[0]} {about[:2000]}'
      yield from framing.frames({'state': 'refused', 'what': differs[0], 'reason': reason})
      return
    if client in self._standing.out:
      reason = 'this client sent what no honest client sends too often; the operator can forgive it'
      yield from framing.frames({'state': 'end', 'reason': reason})
      return
    context.add_callback(self._notify)
    session = self._await_session(client, served, context)
    if session is None:
      ended = {'state': 'end', 'reason': self.ended}
      yield from framing.frames({'state': 'wait'} if self.ended is None else ended)
      return
    deadlines = [self._deadlines.of(at) for at in secagg.Round]
    head: dict[str, Any] = {'state': 'session', 'session': session.id, 'deadlines': deadlines}
    yield from framing.frames(head, session.offer)

  def _await_session(
    self, client: int, served: int, context: grpc.ServicerContext
  ) -> LiveSession | None:
    token = object()

    def offered() -> bool:
      session = self.session
      return session is not None and client in session.cohort - session.offered

    with self.changed:
      self.served[client] = served
      if client not in self.known:
        self.known.add(client)
        self._events('joined', name=self._names[client])
      self.waiting[client] = token
      self.changed.notify_all()
      self.changed.wait_for(
        lambda: (
          self.ended is not None
          or not context.is_active()
          or self.waiting.get(client) is not token
          or offered()
        ),
        _POLL_SECONDS,
      )
      if self.waiting.get(client) is not token:
        return None  # The client has come back by another connection.
      del self.waiting[client]
      if self.ended is not None:
        self.known.discard(client)
        self.changed.notify_all()
      if not context.is_active() or not offered():
        return None
      session = self.session
      if session is not None:
        session.offered.add(client)
      return session

  def exchange(self, stream: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
    """Takes a client's message, and answers when the round has closed."""
    client = self._caller(context)
    context.add_callback(self._notify)
    session = self.session
    if session is None or client not in session.cohort:
      yield from framing.frames(
        {'state': 'refused', 'reason': 'no session of this server is open to this client'}
      )
      return
    try:
      head, message = self._read(session, client, stream, context)
      if head.get('session') != session.id:
        raise secagg.SessionAborted('The message belongs to a session that has ended.')
      if 'declined' in head:
        self._let_go(session, client, str(head['declined']))
        yield from framing.frames({'state': 'end', 'reason': 'the session runs without it'})
        return
      at = self._receive(session, client, head, message)
    except secagg.SecAggError as error:
      self._events('refused', reason=str(error), name=self._names[client])
      yield from framing.frames({'state': 'refused', 'reason': str(error)})
      return
    yield from framing.frames(*self._answer(session, client, at, context))

  def _read(
    self, session: LiveSession, client: int, stream: Any, context: grpc.ServicerContext
  ) -> tuple[dict[str, Any], bytes]:
    # A client that stops in the middle of its message is cut off.
    cut = threading.Timer(self._deadlines.round, context.cancel)
    cut.start()
    try:
      return framing.gather(stream, session.limit)
    except secagg.InvalidMessage:
      with self.changed:
        session.rubbish.add(client)
        session.pending.discard(client)
        self.changed.notify_all()
      raise
    finally:
      cut.cancel()

  def _let_go(self, session: LiveSession, client: int, reason: str) -> None:
    """Waits no longer for a client that declines the session."""
    self._events('declined', name=self._names[client], reason=reason[:300])
    with self.changed:
      session.pending.discard(client)
      self.changed.notify_all()

  def _receive(
    self, session: LiveSession, client: int, head: Mapping[str, Any], message: bytes
  ) -> int | None:
    """Takes the message; returns the protocol round whose closing answers it, None for none."""
    at = head.get('round')
    with self.changed:
      if isinstance(at, int) and client in session.sent.get(at, ()):
        return at  # Sent again after a lost connection: the answer is there.
      server = session.server
      try:
        server.receive(client, message)
      except secagg.DuplicateMessage:
        raise
      except secagg.SecAggError:
        session.pending.discard(client)
        self.changed.notify_all()
        raise
      session.pending.discard(client)
      self.changed.notify_all()
      return None if head.get('last') else server.round

  def _answer(self, session, client, at, context) -> tuple[dict[str, str], bytes]:
    if at is None:
      return {'state': 'end', 'reason': 'nothing more is expected of this client'}, b''
    limit = self._deadlines.of(at) + self._deadlines.round
    with self.changed:
      self.changed.wait_for(
        lambda: session.over or not context.is_active() or at in session.sent, limit
      )
      message = session.sent.get(at, {}).get(client)
    if message is not None:
      return {'state': 'message'}, message
    return {'state': 'end', 'reason': 'the session is over for this client'}, b''

  def _notify(self) -> None:
    with self.changed:
      self.changed.notify_all()


def _common_name(peer: Mapping[str, Sequence[bytes]]) -> str:
  """The one name in a peer's certificate; empty if it has none, or several.

  gRPC tells the first of several, and an authority may have checked another.
  """
  try:
    certificate = x509.load_pem_x509_certificate(peer['x509_pem_cert'][0])
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
  except (KeyError, IndexError, ValueError):
    return ''
  return str(names[0].value) if len(names) == 1 else ''

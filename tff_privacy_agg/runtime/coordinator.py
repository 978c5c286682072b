"""The server of real sessions: gRPC with mutual TLS, deadlines, one session at a time.

The coordinator relays the protocol's bytes and keeps its clock. It knows a client by the name
in its certificate and by nothing else. No vector, share or key is ever logged.
"""

import concurrent.futures
import dataclasses
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import grpc

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime import framing
from tff_privacy_agg.runtime.events import Events

_POLL_SECONDS = 20.0
_GOODBYE_SECONDS = 2.0
_HELLO_BYTES = 2**12


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

  def of(self, round_number: int) -> float:
    """The deadline of one round of the protocol."""
    return self.work if round_number == 0 else self.round


class _Session:
  """One session: what has been offered, heard and sent."""

  def __init__(self, server: secagg.Server, offer: bytes, cohort: frozenset[int]):
    self.server = server
    self.id = server.params.session_id.hex()
    self.offer = offer
    self.cohort = cohort
    self.offered: set[int] = set()
    self.pending = set(cohort)
    self.sent: dict[int, dict[int, bytes]] = {}
    self.over = False
    self.limit = framing.largest_message(server.params, len(cohort))


class Coordinator:
  """Serves sessions of one task to clients that connect with mutual TLS.

  Args:
    address: `host:port` to listen on; port 0 takes a free one, see `port`.
    credentials: TLS of the server; it must require client certificates.
    clients: {name in the certificate: client id}.
    task: Name of the task; a client of another task is refused.
    schema: What both sides must compute, as text; a client of another is refused.
    deadlines: How long to wait.
    roster: {client id: Ed25519 public key}, for the authenticated mode.
    identity: Ed25519 private key that signs the receipts, or None.
    events: Takes what happens.

  Raises:
    RuntimeUnavailableError: If the address cannot be listened on.
  """

  def __init__(
    self,
    *,
    address: str,
    credentials: grpc.ServerCredentials,
    clients: Mapping[str, int],
    task: str,
    schema: str,
    deadlines: Deadlines,
    roster: Mapping[int, bytes] | None = None,
    identity: bytes | None = None,
    events: Events | None = None,
  ):
    self._clients = dict(clients)
    self._names = {client: name for name, client in clients.items()}
    self._task, self._schema, self._deadlines = task, schema, deadlines
    self._roster, self._identity = roster, identity
    self._events = events or Events.silent()
    self._changed = threading.Condition()
    self._waiting: dict[int, object] = {}
    self._known: set[int] = set()
    self._session: _Session | None = None
    self._ended: str | None = None
    # Each client holds a thread while it waits, and may have come back in a second one.
    pool = concurrent.futures.ThreadPoolExecutor(2 * len(clients) + 4, 'coordinator')
    self._grpc = framing.server(pool, self._join, self._exchange)
    host = address.rpartition(':')[0]
    try:
      self.port: int = self._grpc.add_secure_port(address, credentials)
    except RuntimeError as error:
      raise RuntimeUnavailableError(
        f'The coordinator was to listen on {address}; the system refused ({error}). Choose another '
        'address, or end the program that uses it.'
      ) from None
    self.address = f'{host}:{self.port}'
    self._grpc.start()
    self._events('listening', address=self.address, clients=len(clients))

  def gather(self, expected: int, minimum: int) -> frozenset[int]:
    """Waits for clients and returns those that wait for a session.

    Args:
      expected: Clients that end the wait at once.
      minimum: Fewest that will do once the deadline has passed.

    Raises:
      RoundTimeout: If fewer are there when the deadline passes.
    """
    seconds = self._deadlines.join
    with self._changed:
      self._changed.wait_for(lambda: len(self._waiting) >= expected, seconds)
      found = frozenset(self._waiting)
    if len(found) < minimum:
      raise secagg.RoundTimeout(
        f'{minimum} clients were waited for {seconds:g} s; {len(found)} are there: '
        f'{self._named(found)}. Start the others, or raise the deadline.',
        clients=found,
      )
    return found

  def run(
    self, params: secagg.SessionParams, broadcast: bytes, cohort: frozenset[int]
  ) -> secagg.Aggregate:
    """Runs one session.

    Args:
      params: Its parameters; their context is the digest of `broadcast`.
      broadcast: What every client of the cohort is sent.
      cohort: Ids of the clients that are offered the session.

    Raises:
      SecAggError: If it ends without a result; the clients are told why.
    """
    roster = self._roster
    if roster is not None:
      roster = {client: key for client, key in roster.items() if client in cohort}
    encoded = params.to_bytes()
    offer = len(encoded).to_bytes(4, 'little') + encoded + broadcast
    server = secagg.Server(params, roster, identity=self._identity)
    session = _Session(server, offer, cohort)
    self._events('session', round=params.round_number, cohort=self._named(cohort))
    with self._changed:
      self._session = session
      self._changed.notify_all()
    try:
      while server.result is None:
        self._close_round(session)
      self._await(session, 5)
    except secagg.SecAggError as error:
      self._abort(session, error)
      raise
    except BaseException:
      self._abort(session, secagg.SessionAborted('The coordinator ended the session.'))
      raise
    finally:
      with self._changed:
        session.over, self._session = True, None
        self._changed.notify_all()
    verdicts = server.verdicts
    self._events(
      'result',
      round=params.round_number,
      survivors=self._named(server.result.survivors),
      verdicts=f'{sum(verdicts.values())} of {len(verdicts)} good',
      refused=dict(server.refused),
    )
    return server.result

  def close(self, reason: str = 'the run has ended') -> None:
    """Tells the clients that there is nothing more to do, and stops listening."""
    with self._changed:
      if self._ended is not None:
        return
      self._ended = reason
      if self._session is not None:
        self._session.over = True
      self._changed.notify_all()
      # Those that are on their way back from the last session are told too.
      self._changed.wait_for(lambda: not self._known, _GOODBYE_SECONDS)
    self._grpc.stop(2.0).wait(5.0)

  def _close_round(self, session: _Session) -> None:
    at = session.server.round
    missing = self._await(session, at)
    with self._changed:
      self._known -= missing
      if missing:
        self._events('round closed', protocol_round=at, missing=self._named(missing))
      outgoing = session.server.close_round()
      session.sent[at] = outgoing
      session.pending = set(outgoing)
      self._changed.notify_all()

  def _await(self, session: _Session, at: int) -> frozenset[int]:
    """Waits until all have been heard, or the deadline passes; returns who has not."""
    with self._changed:
      self._changed.wait_for(lambda: not session.pending, self._deadlines.of(at))
      return frozenset(session.pending)

  def _abort(self, session: _Session, error: secagg.SecAggError) -> None:
    self._events('aborted', reason=str(error))
    with self._changed:
      message = session.server.abort_message(error)
      at = session.server.round
      session.sent.setdefault(at, dict.fromkeys(session.cohort, message))
      self._changed.notify_all()

  def _named(self, clients: Any) -> str:
    return ', '.join(self._names.get(client, str(client)) for client in sorted(clients)) or 'nobody'

  def _caller(self, context: grpc.ServicerContext) -> int:
    """The client id of the certificate at the other end; refuses names that are unknown."""
    names = context.auth_context().get('x509_common_name', [])
    name = names[0].decode(errors='replace') if len(names) == 1 else ''
    if name not in self._clients:
      self._events('refused', reason='unknown certificate', name=name[:100])
      context.abort(grpc.StatusCode.PERMISSION_DENIED, f'no client is named {name[:100]!r}')
    return self._clients[name]

  def _join(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    client = self._caller(context)
    try:
      hello = framing.parse_head(request[:_HELLO_BYTES])
    except secagg.InvalidMessage as error:
      context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
    ours = {'format': framing.FORMAT, 'task': self._task, 'schema': self._schema}
    for name, value in ours.items():
      if hello.get(name) != value:
        theirs = str(hello.get(name))[:300]
        self._events('refused', reason=f'another {name}', name=self._names[client])
        reason = f'the server has {name} {value[:2000]!r}, the client {theirs!r}'
        yield from framing.frames({'state': 'refused', 'reason': reason})
        return
    context.add_callback(self._notify)
    session = self._await_session(client, context)
    if session is None:
      ended = {'state': 'end', 'reason': self._ended}
      yield from framing.frames({'state': 'wait'} if self._ended is None else ended)
      return
    deadlines = [self._deadlines.of(at) for at in range(6)]
    head: dict[str, Any] = {'state': 'session', 'session': session.id, 'deadlines': deadlines}
    yield from framing.frames(head, session.offer)

  def _await_session(self, client: int, context: grpc.ServicerContext) -> _Session | None:
    token = object()

    def offered() -> bool:
      session = self._session
      return session is not None and client in session.cohort - session.offered

    with self._changed:
      if client not in self._known:
        self._known.add(client)
        self._events('joined', name=self._names[client])
      self._waiting[client] = token
      self._changed.notify_all()
      self._changed.wait_for(
        lambda: (
          self._ended is not None
          or not context.is_active()
          or self._waiting.get(client) is not token
          or offered()
        ),
        _POLL_SECONDS,
      )
      if self._waiting.get(client) is not token:
        return None  # The client has come back by another connection.
      del self._waiting[client]
      if self._ended is not None:
        self._known.discard(client)
        self._changed.notify_all()
      if not context.is_active() or not offered():
        return None
      session = self._session
      if session is not None:
        session.offered.add(client)
      return session

  def _exchange(self, stream: Any, context: grpc.ServicerContext) -> Iterator[bytes]:
    client = self._caller(context)
    context.add_callback(self._notify)
    session = self._session
    if session is None or client not in session.cohort:
      yield from framing.frames(
        {'state': 'refused', 'reason': 'no session of this server is open to this client'}
      )
      return
    try:
      head, message = self._read(session, client, stream, context)
      if head.get('session') != session.id:
        raise secagg.SessionAborted('The message belongs to a session that has ended.')
      at = self._receive(session, client, head, message)
    except secagg.SecAggError as error:
      self._events('refused', reason=str(error), name=self._names[client])
      yield from framing.frames({'state': 'refused', 'reason': str(error)})
      return
    yield from framing.frames(*self._answer(session, client, at, context))

  def _read(
    self, session: _Session, client: int, stream: Any, context: grpc.ServicerContext
  ) -> tuple[dict[str, Any], bytes]:
    # A client that stops in the middle of its message is cut off.
    cut = threading.Timer(self._deadlines.round, context.cancel)
    cut.start()
    try:
      return framing.gather(stream, session.limit)
    except secagg.InvalidMessage:
      with self._changed:
        session.pending.discard(client)
        self._changed.notify_all()
      raise
    finally:
      cut.cancel()

  def _receive(
    self, session: _Session, client: int, head: Mapping[str, Any], message: bytes
  ) -> int | None:
    """Takes the message; returns the protocol round whose closing answers it, None for none."""
    at = head.get('round')
    with self._changed:
      if isinstance(at, int) and client in session.sent.get(at, ()):
        return at  # Sent again after a lost connection: the answer is there.
      server = session.server
      try:
        server.receive(client, message)
      except secagg.DuplicateMessage:
        raise
      except secagg.SecAggError:
        session.pending.discard(client)
        self._changed.notify_all()
        raise
      session.pending.discard(client)
      self._changed.notify_all()
      return None if head.get('last') else server.round

  def _answer(self, session, client, at, context) -> tuple[dict[str, str], bytes]:
    if at is None:
      return {'state': 'end', 'reason': 'nothing more is expected of this client'}, b''
    limit = self._deadlines.of(at) + self._deadlines.round
    with self._changed:
      self._changed.wait_for(
        lambda: session.over or not context.is_active() or at in session.sent, limit
      )
      message = session.sent.get(at, {}).get(client)
    if message is not None:
      return {'state': 'message'}, message
    return {'state': 'end', 'reason': 'the session is over for this client'}, b''

  def _notify(self) -> None:
    with self._changed:
      self._changed.notify_all()

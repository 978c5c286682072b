"""The server of real sessions: gRPC with mutual TLS, deadlines, one session at a time.

The coordinator relays the protocol's bytes and keeps its clock. It knows a client by the name
in its certificate and by nothing else. No vector, share or key is ever logged.
"""

import concurrent.futures
from collections.abc import Mapping

import grpc

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import framing
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.grpc_service import Service
from tff_privacy_agg.deployment.served_session import Deadlines, LiveSession
from tff_privacy_agg.deployment.standing import Standing
from tff_privacy_agg.errors import RuntimeUnavailableError

_GOODBYE_SECONDS = 2.0


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
    standing: What sessions have shown of the clients; a new one keeps it in memory.

  Attributes:
    standing: What sessions have shown of the clients.
    events: Takes what happens.
    address: Where it listens, with the port that was taken.

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
    standing: Standing | None = None,
  ):
    self._deadlines, self._roster, self._identity = deadlines, roster, identity
    self.events = events or Events.silent()
    names = {client: name for name, client in clients.items()}
    self.standing = standing or Standing(names, events=self.events)
    self._service = Service(clients, task, schema, deadlines, self.events, self.standing)
    # Each client holds a thread while it waits, and may have come back in a second one.
    pool = concurrent.futures.ThreadPoolExecutor(2 * len(clients) + 4, 'coordinator')
    self._grpc = framing.server(pool, self._service.join, self._service.exchange)
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
    self.events('listening', address=self.address, clients=len(clients))

  def gather(
    self, expected: int, minimum: int, among: frozenset[int] | None = None
  ) -> frozenset[int]:
    """Waits for clients and returns those that wait for a session.

    Args:
      expected: Clients that end the wait at once.
      minimum: Fewest that will do once the deadline has passed.
      among: Clients that may take part; None for all.

    Raises:
      RoundTimeout: If fewer are there when the deadline passes.
    """
    seconds = self._deadlines.join
    expected = expected if among is None else min(expected, len(among))

    def there() -> frozenset[int]:
      waiting = frozenset(self._service.waiting)
      return waiting if among is None else waiting & among

    with self._service.changed:
      self._service.changed.wait_for(lambda: len(there()) >= expected, seconds)
      found = there()
    if len(found) < minimum:
      raise secagg.RoundTimeout(
        f'{minimum} clients were waited for {seconds:g} s; {len(found)} are there: '
        f'{self._service.named(found)}. Start the others, or raise the deadline.',
        clients=found,
      )
    return found

  def served(self, clients: frozenset[int]) -> dict[int, int]:
    """{client: the greatest round number that it has served}, as these clients say."""
    with self._service.changed:
      return {client: self._service.served.get(client, 0) for client in clients}

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
    session = LiveSession(server, offer, cohort)
    self.events('session', round=params.round_number, cohort=self._service.named(cohort))
    with self._service.changed:
      self._service.session = session
      self._service.changed.notify_all()
    try:
      while server.result is None:
        self._close_round(session)
      self._await(session, secagg.Round.RESULT)
    except secagg.SecAggError as error:
      self._abort(session, error)
      self.standing.note(session.blame() | error.blame, failed=True)
      raise
    except BaseException:
      self._abort(session, secagg.SessionAborted('The coordinator ended the session.'))
      raise
    finally:
      with self._service.changed:
        session.over, self._service.session = True, None
        self._service.changed.notify_all()
    self.standing.note(session.blame(), failed=False)
    verdicts = server.verdicts
    self.events(
      'result',
      round=params.round_number,
      survivors=self._service.named(server.result.survivors),
      verdicts=f'{sum(verdicts.values())} of {len(verdicts)} good',
      refused=dict(server.refused),
    )
    return server.result

  def close(self, reason: str = 'the run has ended') -> None:
    """Tells the clients that there is nothing more to do, and stops listening."""
    with self._service.changed:
      if self._service.ended is not None:
        return
      self._service.ended = reason
      if self._service.session is not None:
        self._service.session.over = True
      self._service.changed.notify_all()
      # Those that are on their way back from the last session are told too.
      self._service.changed.wait_for(lambda: not self._service.known, _GOODBYE_SECONDS)
    self._grpc.stop(2.0).wait(5.0)

  def _close_round(self, session: LiveSession) -> None:
    at = session.server.round
    missing = self._await(session, at)
    with self._service.changed:
      self._service.known -= missing
      session.missing |= missing
      if missing:
        self.events('round closed', protocol_round=at, missing=self._service.named(missing))
      outgoing = session.server.close_round()
      session.sent[at] = outgoing
      session.pending = set(outgoing)
      self._service.changed.notify_all()

  def _await(self, session: LiveSession, at: secagg.Round) -> frozenset[int]:
    """Waits until all have been heard, or the deadline passes; returns who has not."""
    with self._service.changed:
      self._service.changed.wait_for(lambda: not session.pending, self._deadlines.of(at))
      return frozenset(session.pending)

  def _abort(self, session: LiveSession, error: secagg.SecAggError) -> None:
    self.events('aborted', reason=str(error))
    with self._service.changed:
      message = session.server.abort_message(error)
      at = session.server.round
      session.sent.setdefault(at, dict.fromkeys(session.cohort, message))
      self._service.changed.notify_all()

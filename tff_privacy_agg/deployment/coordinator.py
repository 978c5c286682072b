"""The server of real sessions: gRPC with mutual TLS, deadlines, one session at a time.

The coordinator relays the protocol's bytes and keeps its clock. It knows a client by the name
in its certificate and by nothing else. No vector, share or key is ever logged.

Calls are served on an event loop, so that one that waits costs neither a thread nor others their
turn. The methods here may be called from any other thread.
"""

from collections.abc import Mapping

import grpc

from tff_privacy_agg import secagg
from tff_privacy_agg._wording import counted
from tff_privacy_agg.deployment import event_loop, framing, limits
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.grpc_service import Service
from tff_privacy_agg.deployment.keys.tls import Expiry
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
    expiry: When the server's certificate ends, if that is to be told.

  Attributes:
    standing: What sessions have shown of the clients.
    events: Takes what happens.
    address: Where it listens, with the port that was taken.
    expiry: When the server's certificate ends, if that is known.

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
    expiry: Expiry | None = None,
  ):
    self._deadlines, self._roster, self._identity = deadlines, roster, identity
    self.events, self.expiry = events or Events.silent(), expiry
    names = {client: name for name, client in clients.items()}
    self.standing = standing or Standing(names, events=self.events)
    self._service = Service(clients, task, schema, deadlines, self.events, self.standing)
    self._address, self._connections = address, limits.connections(len(clients))
    self.port: int = event_loop.call(self._listen(credentials))
    self.address = f'{address.rpartition(":")[0]}:{self.port}'
    self.events(
      'listening',
      address=self.address,
      clients=len(clients),
      connections=self._connections,
      certificate_expires=str(expiry or ''),
    )

  async def _listen(self, credentials: grpc.ServerCredentials) -> int:
    service = self._service
    self._grpc = framing.server(service.join, service.exchange, self._connections)
    try:
      port = self._grpc.add_secure_port(self._address, credentials)
    except RuntimeError as error:
      raise RuntimeUnavailableError(
        f'Cannot listen on {self._address}: {error}. Choose another address, or end the program '
        'that uses it.'
      ) from None
    await self._grpc.start()
    return port

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
    self._tell_expiry()
    seconds = self._deadlines.join
    expected = expected if among is None else min(expected, len(among))
    found = event_loop.call(self._service.room.gather(expected, among, seconds))
    if len(found) < minimum:
      self._tell_expiry()
      raise secagg.RoundTimeout(
        f'{minimum} clients were waited for {seconds:g} s; {counted(len(found), "is", "are")} '
        f'there: {self._service.named(found)}. Start the others, or raise the deadline.',
        clients=found,
      )
    return found

  def _tell_expiry(self) -> None:
    if self.expiry is not None:
      self.expiry.tell(self.events)

  def served(self, clients: frozenset[int]) -> dict[int, int]:
    """{client: the greatest round number that it has served}, as these clients say."""
    return {client: self._service.room.served.get(client, 0) for client in clients}

  @property
  def traffic(self) -> Mapping[str, int]:
    """Bytes of messages, 'received' and 'sent', without those of TLS and HTTP/2."""
    return self._service.traffic

  @property
  def waiting(self) -> int:
    """Clients that wait for a session."""
    return len(self._service.room.waiting)

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
    try:
      result = event_loop.call(self._service.serve(session))
    except secagg.SecAggError as error:
      self.events('aborted', reason=str(error))
      blame = event_loop.call(self._service.end(session, error))
      self._note(blame | error.blame, failed=True)
      raise
    except BaseException:
      ended = secagg.SessionAborted('The coordinator ended the session.')
      self.events('aborted', reason=str(ended))
      event_loop.call(self._service.end(session, ended))
      raise
    self._note(event_loop.call(self._service.end(session)), failed=False)
    verdicts = server.verdicts
    self.events(
      'result',
      round=params.round_number,
      survivors=self._service.named(result.survivors),
      verdicts=f'{sum(verdicts.values())} of {len(verdicts)} good',
      refused=dict(server.refused),
    )
    return result

  def _note(self, blame: secagg.Blame, *, failed: bool) -> None:
    self.standing.note(blame, failed=failed)
    event_loop.call(self._service.dismiss())

  def close(self, reason: str = 'the run has ended') -> None:
    """Tells the clients that there is nothing more to do, and stops listening."""
    event_loop.call(self._close(reason))

  async def _close(self, reason: str) -> None:
    if self._service.room.ended is not None:
      return
    try:
      await self._service.close(reason, _GOODBYE_SECONDS)
    finally:
      await self._grpc.stop(_GOODBYE_SECONDS)
      self._service.stop()

"""The server of a session: bytes in, bytes out; no clock, no socket.

References: Bonawitz et al., CCS 2017, figure 4; Bell et al., CCS 2020, algorithm 2.
"""

import collections
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import graph, inputs, thresholds, unmask, verify, wire
from tff_privacy_agg.secagg.enrolment import Enrolment
from tff_privacy_agg.secagg.errors import (
  CODES,
  BadShares,
  Blame,
  CapacityError,
  DuplicateMessage,
  InvalidMessage,
  LateMessage,
  NotEnoughClients,
  SecAggError,
  SenderMismatch,
  SessionAborted,
  UnknownClient,
  WrongRound,
)
from tff_privacy_agg.secagg.mailbox import Mailbox
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys, prg
from tff_privacy_agg.secagg.primitives.packed_sum import PackedSum
from tff_privacy_agg.secagg.results import Aggregate
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.wire import Kind


class Server:
  """The server of one session.

  A message that is refused raises, is counted, and leaves the session as it was;
  its sender takes no further part in it if the message itself was wrong.

  Args:
    params: Parameters of the session.
    roster: {id: Ed25519 public key}; needed in the authenticated mode, else the clients
      that may take part if given.
    identity: Ed25519 private key or its 32 bytes, to sign the statement of the result.

  Attributes:
    round: The round that is open; 5 once there is a result.
    result: The sum, once the last round has closed.
    heard: {client: fingerprint of its message of the round, or b'' if it left with a complaint}.
    refused: {error class: messages refused with it}.
    verdicts: {client: whether it found the result right}.
    proven: Clients whose message no honest client sends.
  """

  def __init__(
    self,
    params: SessionParams,
    roster: Mapping[int, bytes] | None = None,
    *,
    identity: keys.Identity | None = None,
  ):
    _validate.instance(SessionParams, params=params)
    if params.authenticated and roster is None:
      raise ConfigurationError("mode='authenticated' needs a `roster` of public keys.")
    self.params = params
    self.round = Round.KEYS
    self.result: Aggregate | None = None
    self.refused: collections.Counter[str] = collections.Counter()
    self.verdicts: dict[int, bool] = {}
    self.proven: set[int] = set()
    self._anyone = roster is None
    self._roster = keys.verifying_keys(dict(roster or {}))
    self._identity = None if identity is None else keys.signing_key(identity)
    self._salt = params.salt()
    self._leaves = verify.wire_leaves(params)
    self._aborted = False
    self._fingerprint = keys.fingerprints()
    self.heard: dict[int, bytes] = {}
    self._expected: set[int] | None = None  # clients of the open round; None for anyone
    self._excluded: set[int] = set()
    self._enrolment = Enrolment(params.maximum_clients, params.layout.hybrid)
    self._mailbox: Mailbox | None = None
    self._shared: list[int] = []
    self._uploads: list[PackedSum] = []
    self._sum: list[np.ndarray] = []
    self._complaints: dict[int, np.ndarray] = {}
    self._survivors: list[int] = []
    self._signatures: dict[int, bytes] = {}
    self._answers: unmask.Answers | None = None
    self._roll = verify.NO_ROLL

  def __repr__(self) -> str:
    state = 'aborted' if self._aborted else f'round {self.round}'
    return f'<Server of task {self.params.task!r}, {state}>'

  def __reduce__(self) -> NoReturn:
    raise TypeError('A Server holds a session and cannot be pickled or copied.')

  def receive(self, client_id: int, message: bytes) -> None:
    """Takes one client's message of the open round; the same bytes a second time are ignored.

    Args:
      client_id: The client at the other end of the channel, as the channel vouches.
      message: Its bytes.

    Raises:
      SecAggError: If the message is refused; the session goes on.
    """
    if self._aborted:
      raise SessionAborted('The session has ended.', round=self.round, clients=(client_id,))
    try:
      self._take(client_id, message)
    except SecAggError as error:
      error.round = self.round if error.round is None else error.round
      error.clients = error.clients or (client_id,)
      self.refused[type(error).__name__] += 1
      raise
    except BaseException:
      self.abort()  # out of memory, say: the sum may hold a part of the vector
      raise

  def _take(self, client_id: int, data: bytes) -> None:
    if isinstance(client_id, bool) or not isinstance(client_id, int | np.integer):
      raise UnknownClient(f'`client_id` must be an integer, got {client_id!r}.')
    client_id = int(client_id)
    expected = self._expected is None or client_id in self._expected
    if not (expected and self._admitted(client_id)):
      self._refuse(client_id, data)
    heard = self.heard.get(client_id)
    data = bytes(data) if isinstance(data, bytearray) else data  # it is read after this returns
    try:
      message = wire.decode(data, self.params.session_id, self.params.version)
      if message.number != client_id:
        raise SenderMismatch(
          f'The channel of client {client_id} carried a message of client {message.number}.'
        )
      if message.kind is Kind.ABORT:
        return self._take_abort(client_id, message)
      self._check_turn(message.kind)
      seen = self._fingerprint(data)
      if heard is not None:
        if heard != seen:
          raise DuplicateMessage(
            f'Client {client_id} sent a second, different message. The first stands.'
          )
        return
      self._handler()(client_id, message)
    except (WrongRound, SenderMismatch, DuplicateMessage, CapacityError):
      raise
    except SecAggError:
      if heard is None:
        self._excluded.add(client_id)
        self.proven.add(client_id)
      raise
    self.heard[client_id] = seen

  def _admitted(self, client_id: int) -> bool:
    known = self._anyone or client_id in self._roster
    return known and 0 <= client_id < 2**32 and client_id not in self._excluded

  def _refuse(self, client_id: int, data: bytes) -> NoReturn:
    """Refuses a client that is not expected; of its message only the header is read."""
    if self._admitted(client_id):
      message = wire.decode(data, self.params.session_id, self.params.version)
      self._check_turn(message.kind)
    raise UnknownClient(f'Client {client_id} has no part in round {self.round}.')

  def _check_turn(self, kind: Kind) -> None:
    if kind <= Kind.VERDICT and kind.round < self.round:
      raise LateMessage(f'Round {kind.round} is closed; round {self.round} is open.')
    if kind > Kind.VERDICT or kind.round != self.round:
      raise WrongRound(f'A message of type {kind.name} came in round {self.round}. It is ignored.')

  def _take_abort(self, client_id: int, message: wire.Message) -> None:
    abort = wire.decode_abort(message.body, self.params.version)
    if self.round == Round.RESULT:
      self.verdicts[client_id] = False
    elif client_id not in self.heard:
      self._excluded.add(client_id)
      if self.round == Round.MASKED and abort.code == BadShares.code:
        # It leaves for want of a mask key: a complaint too.
        row = self._graph.row(client_id)
        blamed = np.isin(np.take(self._graph.ids, row), abort.clients) & self._shared_flags[row]
        self._complaints[client_id] = blamed
        if blamed.any():
          self.heard[client_id] = b''
    self.refused[f'Abort {abort.code}' if abort.code in CODES else 'Abort'] += 1

  def _handler(self) -> Callable[[int, wire.Message], None]:
    return (
      self._take_keys,
      self._take_shares,
      self._take_masked,
      self._take_confirmation,
      self._take_answers,
      self._take_verdict,
    )[self.round]

  def _authentic(self, client_id: int, message: wire.Message) -> tuple[memoryview, bytes]:
    """Splits off and checks the signature of rounds 0 to 2."""
    content, signature = wire.split_signature(message.body, self.params.authenticated)
    if self.params.authenticated:
      keys.verify(self._roster[client_id], signature, self._salt, self.round, client_id, content)
    return content, signature

  def _take_keys(self, client_id: int, message: wire.Message) -> None:
    content, signature = self._authentic(client_id, message)
    advert = wire.decode_advertisement(content, self.params.layout)
    # A decoded message has one form: these are the bytes that came.
    form = self._encode(message.kind, message.number, message.body)
    self._enrolment.add(client_id, advert, signature, form)

  def _take_shares(self, client_id: int, message: wire.Message) -> None:
    content, _ = self._authentic(client_id, message)
    self._letters().put(self._graph.position(client_id), content)

  def _letters(self) -> Mailbox:
    self._mailbox = self._mailbox or Mailbox(self._graph, self.params.layout)
    return self._mailbox

  def _take_masked(self, client_id: int, message: wire.Message) -> None:
    content, _ = self._authentic(client_id, message)
    packed, complaints = wire.decode_masked(content, self._leaves, self._parameters.k)
    shared = self._shared_flags[self._graph.row(client_id)]
    if (complaints & ~shared).any():
      raise InvalidMessage('The message complains of clients that shared nothing.')
    self._complaints[client_id] = complaints
    for total, matrix in zip(self._uploads, packed, strict=True):
      total.add(matrix)

  def _take_confirmation(self, client_id: int, message: wire.Message) -> None:
    body = message.body
    wire.expect(body, keys.SIGNATURE_BYTES, 'a signature')
    digest = verify.survivors_digest(self._salt, self._roll, self._survivors)
    keys.verify(
      self._roster[client_id], bytes(body), self._salt, Round.CONSISTENCY, client_id, digest
    )
    self._signatures[client_id] = bytes(body)

  def _take_answers(self, client_id: int, message: wire.Message) -> None:
    answered, shares = wire.decode_answers(message.body, self._parameters.k)
    position = self._graph.position(client_id)
    shared = self._shared_flags[self._graph.neighbours[position]]
    if (answered & (~shared | self._complaints[client_id])).any():
      raise InvalidMessage('The message holds shares that the client cannot have.')
    self._open_answers().add(position, answered, shares)

  def _open_answers(self) -> unmask.Answers:
    self._answers = self._answers or unmask.Answers(self._graph)
    return self._answers

  def _take_verdict(self, client_id: int, message: wire.Message) -> None:
    wire.expect(message.body, 1, 'a verdict')
    if message.body[0] > 1:
      raise InvalidMessage(f'A verdict is 0 or 1, got {message.body[0]}.')
    self.verdicts[client_id] = message.body[0] == 1

  def close_round(self) -> dict[int, bytes]:
    """Closes the open round; returns each client's next message, at the end its receipt.

    Raises:
      SecAggError: If the session must end here. Nothing about the sum is known.
    """
    if self._aborted:
      raise SessionAborted('The session has ended.', round=self.round)
    if self.round == Round.RESULT:
      raise WrongRound('The last round has been closed. Read `result`.', round=self.round)
    try:
      heard = sorted(self.heard.keys() - self._excluded)
      outgoing = (
        self._send_keys,
        self._send_shares,
        self._freeze,
        self._send_signatures,
        self._finish,
      )[self.round](heard)
    except BaseException as error:
      if isinstance(error, SecAggError):
        error.round = self.round
        error.blame |= Blame(proven=frozenset(self.proven))
        if self._complaints and not (error.blame.disputes or error.blame.proven):
          # Too few to end a session by themselves; together with what else was missing they did.
          disputes = unmask.disputes_of(self._graph, self._shared, self._complaints)
          error.blame |= Blame(disputes=tuple(disputes))
        # Up to there a round that raises has not asked for shares.
        error.unopened = not self.params.authenticated and self.round <= Round.MASKED
      self.abort()
      raise
    skips = self.round is Round.MASKED and not self.params.authenticated
    self.round = Round(self.round + 1 + skips)
    self.heard, self._expected = {}, set(outgoing)
    return outgoing

  def abort(self) -> None:
    """Ends the session and forgets what it held."""
    self._aborted = True
    self._uploads, self._sum, self._signatures, self._complaints = [], [], {}, {}
    self._answers = self._mailbox = None

  def abort_message(self, error: SecAggError) -> bytes:
    """The message that tells a client that, and why, the session has ended."""
    return wire.encode_abort(self.params.session_id, wire.SERVER, error, self.params.version)

  def _message(self, kind: Kind, body: bytes, flags: int = 0) -> bytes:
    return self._encode(kind, self._parameters.clients, body, flags)

  def _encode(self, kind: Kind, number: int, body: keys.Buffer, flags: int = 0) -> bytes:
    params = self.params
    return wire.encode(kind, params.session_id, number, body, flags=flags, version=params.version)

  def _need(self, clients: list[int], needed: int, what: str) -> None:
    if len(clients) < needed:
      raise NotEnoughClients(f'{len(clients)} clients {what}, {needed} needed', clients=clients)

  def _send_keys(self, heard: list[int]) -> dict[int, bytes]:
    self._need(heard, self.params.minimum_clients, 'sent keys')
    self._parameters = thresholds.session_parameters(self.params, len(heard))
    transcript = self._enrolment.keep(heard)
    tail = graph.notice(self._parameters, heard, transcript, self.params.version)
    self._graph = graph.build(self._parameters, heard, self._salt, transcript)
    if self.params.authenticated:
      self._roll = verify.roll_digest(self._salt, self._enrolment.adverts)
    keys_of = self._enrolment.keys_message
    bodies = {client: keys_of(heard, self._graph.row(client)) + tail for client in heard}
    return {client: self._message(Kind.KEYS, body) for client, body in bodies.items()}

  def _send_shares(self, heard: list[int]) -> dict[int, bytes]:
    self._need(heard, self.params.minimum_clients, 'shared their secrets')
    shared = self._graph.flags(heard)
    for client in heard:
      unmask.require_shares(client, int(shared[self._graph.row(client)].sum()), self._parameters.t)
    self._shared, self._shared_flags = heard, shared
    self._uploads = [PackedSum(count, bits) for count, bits in self._leaves]
    letters = self._letters()
    bodies = {client: letters.body_for(self._graph.position(client), shared) for client in heard}
    letters.forget_shares()
    return {client: self._message(Kind.SHARES, body) for client, body in bodies.items()}

  def _freeze(self, heard: list[int]) -> dict[int, bytes]:
    """Fixes the survivors; a vector that comes later is never read."""
    unmask.check_complaints(self._graph, self._parameters.t, self._shared, self._complaints)
    self._need(heard, self.params.minimum_clients, 'sent a masked vector')
    survivors = {client: self._complaints[client] for client in heard}
    unmask.check_recoverable(self._graph, self._parameters.t, self._shared, survivors)
    alive = self._graph.flags(heard)
    self._survivors = heard
    self._sum, self._uploads = [upload.words() for upload in self._uploads], []
    if self.params.authenticated:
      return dict.fromkeys(heard, self._message(Kind.SURVIVORS, wire.encode_bitmap(alive)))
    return {
      client: self._message(Kind.UNMASK_REQUEST, wire.encode_bitmap(alive[self._graph.row(client)]))
      for client in heard
    }

  def _send_signatures(self, heard: list[int]) -> dict[int, bytes]:
    self._need(heard, self._parameters.t + 1, 'signed the survivors')
    body = wire.encode_entries([(client, self._signatures[client]) for client in heard])
    return dict.fromkeys(heard, self._message(Kind.UNMASK_REQUEST, body))

  def _finish(self, heard: list[int]) -> dict[int, bytes]:
    positions = [self._graph.position(client) for client in self._survivors]
    lost = sorted(set(self._shared) - set(self._survivors))
    dropped = [self._graph.position(client) for client in lost]
    mask_keys = {client: advert.mask_key for client, advert in self._enrolment.adverts.items()}
    letters, bound_to = self._letters(), None
    if self.params.verify:
      contributors = {
        client: letters.contributions[self._graph.position(client)] for client in self._shared
      }
      bound_to = verify.binding(self._salt, contributors)
    unmasker = unmask.Unmasker(
      self._graph, self.params, self._parameters, self._open_answers(), letters, bound_to
    )
    # Whatever comes of them, neither shares nor offers are kept.
    self._answers = self._mailbox = None
    unmasker.check_counts(sorted(positions + dropped))
    plus, minus = unmasker.masks(positions, dropped, mask_keys)
    prg.add_masks(self._sum, plus, minus)
    receipts, members = self._receipts(heard), tuple(self._survivors)  # no second sum yet
    self.result = Aggregate(inputs.restore(self.params, self._sum), members, unmasker.blamed)
    return receipts

  def _receipts(self, heard: list[int]) -> dict[int, bytes]:
    packed = verify.pack_leaves(self.params, self._sum)
    statement, flags = verify.signed_statement(
      self._salt, self._roll, self._survivors, packed, self._identity
    )
    alive = self._graph.flags(self._survivors)
    tail = packed if self.params.verify else b''
    seen = {client: wire.encode_bitmap(alive[self._graph.row(client)]) for client in heard}
    return {
      client: self._message(Kind.RESULT, statement + bitmap + tail, flags)
      for client, bitmap in seen.items()
    }

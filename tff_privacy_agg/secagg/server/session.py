"""The server of a session: bytes in, bytes out; no clock, no socket.

References: Bonawitz et al., CCS 2017, figure 4; Bell et al., CCS 2020, algorithm 2.
"""

import collections
from collections.abc import Callable, Mapping
from typing import NoReturn

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.errors import (
  CODES,
  BadShares,
  Blame,
  CapacityError,
  DuplicateMessage,
  InvalidMessage,
  LateMessage,
  SecAggError,
  SenderMismatch,
  SessionAborted,
  UnknownClient,
  WrongRound,
)
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys
from tff_privacy_agg.secagg.results import Aggregate
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.server.collected import Collected
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
    self._aborted = False
    self._fingerprint = keys.fingerprints()
    self.heard: dict[int, bytes] = {}
    self._expected: set[int] | None = None  # clients of the open round; None for anyone
    self._excluded: set[int] = set()
    self._collected = Collected(
      params, self._roster, None if identity is None else keys.signing_key(identity)
    )

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
      if (
        self.round == Round.MASKED
        and abort.code == BadShares.code
        and self._collected.take_blame(client_id, abort.clients)
      ):
        self.heard[client_id] = b''
    self.refused[f'Abort {abort.code}' if abort.code in CODES else 'Abort'] += 1

  def _handler(self) -> Callable[[int, wire.Message], None]:
    return (
      self._collected.take_keys,
      self._collected.take_shares,
      self._collected.take_masked,
      self._collected.take_confirmation,
      self._collected.take_answers,
      self._take_verdict,
    )[self.round]

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
        self._collected.send_keys,
        self._collected.send_shares,
        self._collected.freeze,
        self._collected.send_signatures,
        self._finish,
      )[self.round](heard)
    except BaseException as error:
      if isinstance(error, SecAggError):
        error.round = self.round
        error.blame |= Blame(proven=frozenset(self.proven))
        if self._collected.complaints and not (error.blame.disputes or error.blame.proven):
          # Too few to end a session by themselves; together with what else was missing they did.
          error.blame |= Blame(disputes=self._collected.disputes())
        # Up to there a round that raises has not asked for shares.
        error.unopened = not self.params.authenticated and self.round <= Round.MASKED
      self.abort()
      raise
    skips = self.round is Round.MASKED and not self.params.authenticated
    self.round = Round(self.round + 1 + skips)
    self.heard, self._expected = {}, set(outgoing)
    return outgoing

  def _finish(self, heard: list[int]) -> dict[int, bytes]:
    receipts, self.result = self._collected.finish(heard)
    return receipts

  def abort(self) -> None:
    """Ends the session and forgets what it held."""
    self._aborted = True
    self._collected.forget()

  def abort_message(self, error: SecAggError) -> bytes:
    """The message that tells a client that, and why, the session has ended."""
    return wire.encode_abort(self.params.session_id, wire.SERVER, error, self.params.version)

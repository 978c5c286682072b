"""One client of a session: bytes in, bytes out; no clock, no socket.

References: Bonawitz et al., CCS 2017, figure 4 (rounds and masks); Bell et al., CCS
2020 (neighbours only).
"""

import bisect
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import inputs, receipts, tags, wire
from tff_privacy_agg.secagg.client.custody import Custody
from tff_privacy_agg.secagg.client.policy import Policy
from tff_privacy_agg.secagg.client.states import State, check_turn
from tff_privacy_agg.secagg.client.view import View
from tff_privacy_agg.secagg.errors import (
  InvalidMessage,
  SecAggError,
  SessionAborted,
  WrongRound,
)
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys, prg
from tff_privacy_agg.secagg.primitives.keys import Secret
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.wire import Kind


class Client:
  """One client in one session.

  Every error but InvalidMessage and WrongRound, whose messages are ignored, ends the
  session for this client: its secrets are erased and it sends nothing more.

  Args:
    params: Parameters of the session, with this client's own view of the context.
    client_id: This client's id, 32 bits.
    identity: Ed25519 private key or its 32 bytes; authenticated mode.
    roster: {id: Ed25519 public key}, not from the server; authenticated mode.
    policy: What this client insists on.
    last_round: Greatest round number that this client has served for the task.
    server_key: Ed25519 public key of the server: its receipt must be signed.

  Attributes:
    state: What this client has last sent.
    receipt: The server's statement, once the result has come.
    result: {leaf: sum} once it has been checked, with verify='mac'.
  """

  def __init__(
    self,
    params: SessionParams,
    client_id: int,
    identity: keys.Identity | None = None,
    roster: Mapping[int, bytes] | None = None,
    *,
    policy: Policy | None = None,
    last_round: int | None = None,
    server_key: bytes | None = None,
  ):
    _validate.instance(SessionParams, params=params)
    _validate.at_least(0, client_id=client_id)
    if client_id >= 2**32:
      raise ConfigurationError(f'`client_id` must be below 2**32, got {client_id}.')
    (policy or Policy()).check(params, last_round)
    self._signer = None
    if params.authenticated:
      if identity is None or roster is None:
        raise ConfigurationError("mode='authenticated' needs the client's `identity` and `roster`.")
      self._signer = keys.signing_key(identity)
      if roster.get(client_id) != self._signer.public_key().public_bytes_raw():
        raise ConfigurationError(f'`roster` does not hold the public key of client {client_id}.')
    self.params = params
    self.client_id = int(client_id)
    self.state = State.NEW
    self.receipt: receipts.Receipt | None = None
    self._view = View(params, self.client_id, roster or {}, server_key)
    self._salt = params.salt()
    self._custody = Custody(self.client_id, self._salt, params.version)
    self._tag_key: Secret | None = None
    self._values: list[np.ndarray] | None = None
    self.result: dict[str, np.ndarray] | None = None

  def __repr__(self) -> str:
    return f'<Client {self.client_id}, sent {self.state.value}>'

  def __reduce__(self) -> NoReturn:
    raise TypeError('A Client holds secrets and cannot be pickled or copied.')

  def provide(self, values: Mapping[str, Any]) -> None:
    """Sets this client's input; needed before the shares of the others arrive.

    Args:
      values: {leaf: array of integers, of the leaf's shape}.

    Raises:
      InputOutOfRange: If a value is no integer or does not fit its leaf.
    """
    if self.state not in (State.NEW, State.ADVERTISED, State.SHARED):
      raise WrongRound('Values were provided after the masked vector was sent, or after an abort.')
    self._values = inputs.prepare(self.params, values)

  def start(self) -> bytes:
    """Draws the keys and returns the message of round 0."""
    if self.state is not State.NEW:
      raise WrongRound('The client has started before. Take a new Client for a new session.')
    self.state = State.ADVERTISED
    return self._signed(Kind.ADVERTISE, self._custody.advertisement.encode())

  def receive(self, data: bytes) -> bytes | None:
    """Takes the server's message and returns the next one to send, or None.

    Raises:
      SecAggError: If the message is refused; see the class.
      ConfigurationError: If `provide` must be called first; the message may be given again.
    """
    if self.state is State.ABORTED:
      raise SessionAborted('This client has left the session.')
    try:
      return self._dispatch(wire.decode(data, self.params.session_id, self.params.version))
    except (InvalidMessage, WrongRound):
      raise
    except SecAggError:
      if self.state not in (State.ANSWERED, State.DONE):
        self._leave(State.ABORTED)
      raise

  def abort(self, error: SecAggError) -> bytes:
    """Leaves the session and returns the message that tells the server why."""
    self._leave(State.ABORTED)
    return wire.encode_abort(self.params.session_id, self.client_id, error, self.params.version)

  def _dispatch(self, message: wire.Message) -> bytes:
    if message.kind is Kind.ABORT:
      abort = wire.decode_abort(message.body, self.params.version)
      self._leave(State.ABORTED)
      raise SessionAborted(f'The server ended the session. It says: {abort.text}')
    check_turn(message.kind, self.state, self.params.authenticated)
    if self._view.parameters.clients and message.number != self._view.parameters.clients:
      raise InvalidMessage('The number of clients that advertised has changed.')
    steps: dict[Kind, Callable[[wire.Message], bytes]] = {
      Kind.KEYS: self._share,
      Kind.SHARES: self._send_masked,
      Kind.SURVIVORS: self._confirm,
      Kind.UNMASK_REQUEST: self._unmask,
      Kind.RESULT: self._check_result,
    }
    return steps[message.kind](message)

  def _signed(self, kind: Kind, *body: keys.Buffer) -> bytes:
    """A message of rounds 0 to 2, which a signature closes in the authenticated mode."""
    return self._message(kind, *body, self._signature(kind.round, *body))

  def _signature(self, round: int, *body: keys.Buffer) -> bytes:
    if self._signer is None:
      return b''
    return keys.sign(self._signer, self._salt, round, self.client_id, *body)

  def _message(self, kind: Kind, *body: keys.Buffer) -> bytes:
    return wire.encode(
      kind, self.params.session_id, self.client_id, *body, version=self.params.version
    )

  def _leave(self, state: State) -> None:
    """Erases what could open an input."""
    self._custody.erase()
    for vector in self._values or ():
      vector[:] = 0
    if self._tag_key is not None and state is not State.ANSWERED:
      self._tag_key.erase()
    self._values = None
    self.state = state

  def _share(self, message: wire.Message) -> bytes:
    """Round 1: checks the neighbours' keys, shares the two secrets among them."""
    parameters, adverts = self._view.meet(message, self._custody.advertisement)
    body = self._custody.distribute(adverts, parameters, bool(self.params.verify))
    self._view.parameters, self._view.neighbours = parameters, list(adverts)
    self.state = State.SHARED
    return self._signed(Kind.SHARE, body)

  def _send_masked(self, message: wire.Message) -> bytes:
    """Round 2: opens the shares, masks the input, sends it for once and all."""
    params, parameters = self.params, self._view.parameters
    if self._values is None:
      raise ConfigurationError('`provide` must be called before the shares of the others arrive.')
    lower = bisect.bisect(self._view.neighbours, self.client_id)
    shared, ciphertexts, commitments, offers = wire.decode_share_download(
      message.body, params.layout, parameters.k, lower
    )
    self._view.check_shares(len(ciphertexts))
    extras = self._custody.open(shared, ciphertexts, offers)
    if params.verify:
      self._tag_key = self._custody.tag_key(extras, commitments)
    plus, minus = self._custody.mask_keys()
    vectors, self._values = self._values, None
    if self._tag_key is not None:
      vectors += tags.tags(self._tag_key.data, params, vectors)
    # From here on no second vector can leave, whatever happens.
    self.state = State.MASKED
    prg.add_masks(vectors, plus, minus)
    body = wire.encode_masked(tags.wire_leaves(params), vectors, self._custody.complaints)
    del vectors  # before the message is put together: a large one is a copy
    return self._signed(Kind.MASKED, *body)

  def _confirm(self, message: wire.Message) -> bytes:
    """Round 3: signs the set of survivors."""
    survivors = wire.decode_bitmap(message.body, self._view.parameters.clients)
    own = bisect.bisect(self._view.neighbours, self.client_id)
    alive = np.delete(survivors, own)
    self._view.check_survivors(bool(survivors[own]), alive, self._custody.shared)
    self._view.survivors = alive
    self.state = State.CONFIRMED
    digest = self._view.survivors_digest()
    return self._message(Kind.CONSISTENCY, self._signature(Round.CONSISTENCY, digest))

  def _unmask(self, message: wire.Message) -> bytes:
    """Round 4: one share for each neighbour, of the one secret or the other; then erases all."""
    if self.params.authenticated:
      self._view.check_confirmations(
        wire.decode_signatures(message.body, self._view.parameters.clients)
      )
    else:
      alive = wire.decode_bitmap(message.body, self._view.parameters.k)
      self._view.check_survivors(True, alive, self._custody.shared)
      self._view.survivors = alive
    body = self._custody.answer(self._view.survivors)
    self._leave(State.ANSWERED)
    return self._message(Kind.UNMASK, body)

  def _check_result(self, message: wire.Message) -> bytes:
    """Round 5: compares the server's statement, and the sum if there are tags."""
    params = self.params
    statement, signature, survivors, packed = wire.decode_result(
      message, self._view.parameters.k, tags.wire_leaves(params) if params.verify else []
    )
    self.receipt = receipts.Receipt(
      params.session_id, params.digest(), params.context, *statement, signature
    )
    try:
      self._view.check_receipt(self.receipt, survivors)
      if self._tag_key is not None:
        self.result = tags.checked_sum(params, self._salt, self._tag_key.data, statement, packed)
    finally:
      self._leave(State.DONE)
    return self._message(Kind.VERDICT, b'\x01')

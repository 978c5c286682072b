"""What the clients of a session have sent, and what the server makes of it round by round."""

from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg import graph, inputs, receipts, tags, thresholds, wire
from tff_privacy_agg.secagg.errors import Dispute, InvalidMessage, NotEnoughClients
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys, prg
from tff_privacy_agg.secagg.primitives.packed_sum import PackedSum
from tff_privacy_agg.secagg.results import Aggregate
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.server import unmask
from tff_privacy_agg.secagg.server.complaints import (
  check_complaints,
  check_recoverable,
  disputes_of,
  require_shares,
)
from tff_privacy_agg.secagg.server.enrolment import Enrolment
from tff_privacy_agg.secagg.server.mailbox import Mailbox
from tff_privacy_agg.secagg.wire import Kind


class Collected:
  """The contents of one session at the server; `Server` says whose turn it is.

  Args:
    params: Parameters of the session.
    roster: {id: the key that a client's signatures are checked with}.
    identity: Signs the statement of the result, if there is one.

  Attributes:
    complaints: {client: [k]; of whose shares, or mask key, it complains}.
  """

  def __init__(
    self,
    params: SessionParams,
    roster: Mapping[int, Ed25519PublicKey],
    identity: Ed25519PrivateKey | None,
  ):
    self._params, self._roster, self._identity = params, roster, identity
    self._salt = params.salt()
    self._leaves = tags.wire_leaves(params)
    self._enrolment = Enrolment(params.maximum_clients, params.layout.hybrid)
    self._mailbox: Mailbox | None = None
    self._shared: list[int] = []
    self._uploads: list[PackedSum] = []
    self._sum: list[np.ndarray] = []
    self.complaints: dict[int, np.ndarray] = {}
    self._survivors: list[int] = []
    self._signatures: dict[int, bytes] = {}
    self._answers: unmask.Answers | None = None
    self._roll = receipts.NO_ROLL

  def forget(self) -> None:
    """Forgets vectors, shares, signatures and complaints."""
    self._uploads, self._sum, self._signatures, self.complaints = [], [], {}, {}
    self._answers = self._mailbox = None

  def take_blame(self, client_id: int, clients: tuple[int, ...]) -> bool:
    """Round 2: a client leaves for want of a mask key, which is a complaint of these clients too.

    Returns:
      Whether it complains of anyone that shared.
    """
    row = self._graph.row(client_id)
    blamed = np.isin(np.take(self._graph.ids, row), clients) & self._shared_flags[row]
    self.complaints[client_id] = blamed
    return bool(blamed.any())

  def disputes(self) -> tuple[Dispute, ...]:
    """Each client of which others complain, with these; once there are complaints."""
    return tuple(disputes_of(self._graph, self._shared, self.complaints))

  def _authentic(self, client_id: int, message: wire.Message) -> tuple[memoryview, bytes]:
    """Splits off and checks the signature of rounds 0 to 2."""
    content, signature = wire.split_signature(message.body, self._params.authenticated)
    if self._params.authenticated:
      at = message.kind.round
      keys.verify(self._roster[client_id], signature, self._salt, at, client_id, content)
    return content, signature

  def take_keys(self, client_id: int, message: wire.Message) -> None:
    """Round 0: enters a client."""
    content, signature = self._authentic(client_id, message)
    advert = wire.decode_advertisement(content, self._params.layout)
    # A decoded message has one form: these are the bytes that came.
    form = self._encode(message.kind, message.number, message.body)
    self._enrolment.add(client_id, advert, signature, form)

  def take_shares(self, client_id: int, message: wire.Message) -> None:
    """Round 1: keeps sealed shares for their receivers."""
    content, _ = self._authentic(client_id, message)
    self._letters().put(self._graph.position(client_id), content)

  def _letters(self) -> Mailbox:
    self._mailbox = self._mailbox or Mailbox(self._graph, self._params.layout)
    return self._mailbox

  def take_masked(self, client_id: int, message: wire.Message) -> None:
    """Round 2: adds a masked vector, and notes of whom its sender complains."""
    content, _ = self._authentic(client_id, message)
    packed, complaints = wire.decode_masked(content, self._leaves, self._parameters.k)
    shared = self._shared_flags[self._graph.row(client_id)]
    if (complaints & ~shared).any():
      raise InvalidMessage('The message complains of clients that shared nothing.')
    self.complaints[client_id] = complaints
    for total, matrix in zip(self._uploads, packed, strict=True):
      total.add(matrix)

  def take_confirmation(self, client_id: int, message: wire.Message) -> None:
    """Round 3: keeps a signature on the survivors."""
    body = message.body
    wire.expect(body, keys.SIGNATURE_BYTES, 'a signature')
    digest = receipts.survivors_digest(self._salt, self._roll, self._survivors)
    keys.verify(
      self._roster[client_id], bytes(body), self._salt, Round.CONSISTENCY, client_id, digest
    )
    self._signatures[client_id] = bytes(body)

  def take_answers(self, client_id: int, message: wire.Message) -> None:
    """Round 4: keeps a survivor's shares."""
    answered, shares = wire.decode_answers(message.body, self._parameters.k)
    position = self._graph.position(client_id)
    shared = self._shared_flags[self._graph.neighbours[position]]
    if (answered & (~shared | self.complaints[client_id])).any():
      raise InvalidMessage('The message holds shares that the client cannot have.')
    self._open_answers().add(position, answered, shares)

  def _open_answers(self) -> unmask.Answers:
    self._answers = self._answers or unmask.Answers(self._graph)
    return self._answers

  def _message(self, kind: Kind, body: bytes, flags: int = 0) -> bytes:
    return self._encode(kind, self._parameters.clients, body, flags)

  def _encode(self, kind: Kind, number: int, body: keys.Buffer, flags: int = 0) -> bytes:
    params = self._params
    return wire.encode(kind, params.session_id, number, body, flags=flags, version=params.version)

  def _need(self, clients: list[int], needed: int, what: str) -> None:
    if len(clients) < needed:
      raise NotEnoughClients(
        f'{counted(len(clients), "client")} {what}, {needed} needed', clients=clients
      )

  def send_keys(self, heard: list[int]) -> dict[int, bytes]:
    """Closes round 0: draws the graph, and tells each client its neighbours' keys."""
    self._need(heard, self._params.minimum_clients, 'sent keys')
    self._parameters = thresholds.session_parameters(self._params, len(heard))
    transcript = self._enrolment.keep(heard)
    tail = graph.notice(self._parameters, heard, transcript, self._params.version)
    self._graph = graph.build(self._parameters, heard, self._salt, transcript)
    if self._params.authenticated:
      self._roll = receipts.roll_digest(self._salt, self._enrolment.adverts)
    keys_of = self._enrolment.keys_message
    bodies = {client: keys_of(heard, self._graph.row(client)) + tail for client in heard}
    return {client: self._message(Kind.KEYS, body) for client, body in bodies.items()}

  def send_shares(self, heard: list[int]) -> dict[int, bytes]:
    """Closes round 1: delivers the sealed shares."""
    self._need(heard, self._params.minimum_clients, 'shared their secrets')
    shared = self._graph.flags(heard)
    for client in heard:
      require_shares(client, int(shared[self._graph.row(client)].sum()), self._parameters.t)
    self._shared, self._shared_flags = heard, shared
    self._uploads = [PackedSum(count, bits) for count, bits in self._leaves]
    letters = self._letters()
    bodies = {client: letters.body_for(self._graph.position(client), shared) for client in heard}
    letters.forget_shares()
    return {client: self._message(Kind.SHARES, body) for client, body in bodies.items()}

  def freeze(self, heard: list[int]) -> dict[int, bytes]:
    """Closes round 2: fixes the survivors; a vector that comes later is never read."""
    check_complaints(self._graph, self._parameters.t, self._shared, self.complaints)
    self._need(heard, self._params.minimum_clients, 'sent a masked vector')
    survivors = {client: self.complaints[client] for client in heard}
    check_recoverable(self._graph, self._parameters.t, self._shared, survivors)
    alive = self._graph.flags(heard)
    self._survivors = heard
    self._sum, self._uploads = [upload.words() for upload in self._uploads], []
    if self._params.authenticated:
      return dict.fromkeys(heard, self._message(Kind.SURVIVORS, wire.encode_bitmap(alive)))
    return {
      client: self._message(Kind.UNMASK_REQUEST, wire.encode_bitmap(alive[self._graph.row(client)]))
      for client in heard
    }

  def send_signatures(self, heard: list[int]) -> dict[int, bytes]:
    """Closes round 3: shows each survivor the signatures of all."""
    self._need(heard, self._parameters.t + 1, 'signed the survivors')
    body = wire.encode_entries([(client, self._signatures[client]) for client in heard])
    return dict.fromkeys(heard, self._message(Kind.UNMASK_REQUEST, body))

  def finish(self, heard: list[int]) -> tuple[dict[int, bytes], Aggregate]:
    """Closes round 4: takes the masks off the sum; the receipts, and the sum."""
    positions = [self._graph.position(client) for client in self._survivors]
    lost = sorted(set(self._shared) - set(self._survivors))
    dropped = [self._graph.position(client) for client in lost]
    mask_keys = {client: advert.mask_key for client, advert in self._enrolment.adverts.items()}
    letters, bound_to = self._letters(), None
    if self._params.verify:
      contributors = {
        client: letters.contributions[self._graph.position(client)] for client in self._shared
      }
      bound_to = tags.binding(self._salt, contributors)
    unmasker = unmask.Unmasker(
      self._graph, self._params, self._parameters, self._open_answers(), letters, bound_to
    )
    # Whatever comes of them, neither shares nor offers are kept.
    self._answers = self._mailbox = None
    unmasker.check_counts(sorted(positions + dropped))
    plus, minus = unmasker.masks(positions, dropped, mask_keys)
    prg.add_masks(self._sum, plus, minus)
    receipts, members = self._receipts(heard), tuple(self._survivors)  # no second sum yet
    return receipts, Aggregate(inputs.restore(self._params, self._sum), members, unmasker.blamed)

  def _receipts(self, heard: list[int]) -> dict[int, bytes]:
    packed = tags.pack_leaves(self._params, self._sum)
    statement, flags = receipts.signed_statement(
      self._salt, self._roll, self._survivors, packed, self._identity
    )
    alive = self._graph.flags(self._survivors)
    tail = packed if self._params.verify else b''
    seen = {client: wire.encode_bitmap(alive[self._graph.row(client)]) for client in heard}
    return {
      client: self._message(Kind.RESULT, statement + bitmap + tail, flags)
      for client, bitmap in seen.items()
    }

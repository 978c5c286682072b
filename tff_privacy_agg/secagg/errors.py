"""The errors of the secure aggregation protocol, and what they show of clients that lied.

    SecAggError (PrivacyAggError)
    ├── what one message got wrong: the sender is refused, the session goes on
    │     InvalidMessage, WrongRound (LateMessage), DuplicateMessage, SenderMismatch,
    │     UnknownClient, InvalidPublicKey, SignatureInvalid
    ├── an input that the client cannot send: refused before it is masked
    │     InputOutOfRange, CapacityError, UnsupportedModulusError, ClearAggregandError
    └── what ends a session, or keeps it from starting: nothing is revealed
          UnsafeParameters, GraphMismatch, ContextMismatch, NotEnoughClients, NotEnoughShares,
          BadShares, UnsafeUnmaskRequest, InconsistentSurvivors, VerificationFailed,
          SessionAborted, RoundTimeout

No text, and no attribute, holds a secret.
"""

import dataclasses
import random
from collections.abc import Iterable

from tff_privacy_agg.errors import PrivacyAggError

Dispute = tuple[int, tuple[int, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blame:
  """Clients that the evidence of a session points at.

  Attributes:
    proven: Clients that sent what no honest client sends, as the server saw for itself.
    disputes: (client, its accusers): the client lied, or all of its accusers did. Without accusers,
      it lied or more of its holders than can be told apart did.
    silent: Clients that the session waited for in vain.
  """

  proven: frozenset[int] = frozenset()
  disputes: tuple[Dispute, ...] = ()
  silent: frozenset[int] = frozenset()

  def __or__(self, other: 'Blame') -> 'Blame':
    return Blame(
      proven=self.proven | other.proven,
      disputes=self.disputes + other.disputes,
      silent=self.silent | other.silent,
    )

  def pairs(self) -> list[Dispute]:
    """Disjoint parts of the disputes: each accused with one accuser, drawn at random.

    At least one of the two lied, so of the clients in all pairs at least half did. A dispute whose
    accusers are all in other pairs waits: without them the next session has none of it.
    """
    taken = set(self.proven)
    chosen: list[Dispute] = []
    for accused, accusers in self.disputes:
      left = sorted(set(accusers) - taken)
      if accused in taken or (accusers and not left):
        continue
      pair = (accused, tuple(random.SystemRandom().sample(left, min(1, len(left)))))
      taken.update((accused, *pair[1]))
      chosen.append(pair)
    return chosen


class SecAggError(PrivacyAggError):
  """Base class of all errors of the protocol.

  Attributes:
    code: Number of the error on the wire, 16 bits.
    round: Protocol round in which it arose, 0 to 5, or None outside a session.
    clients: Ids of the clients that it concerns.
    blame: What the session shows of clients that sent something false.
    unopened: Whether the session is known to have released nothing: it was semi-honest, and ended
      before the server asked any client for shares. What an active server says of that in the
      authenticated mode is no evidence.
  """

  code = 0

  def __init__(
    self,
    message: str,
    *,
    round: int | None = None,
    clients: Iterable[int] = (),
    blame: Blame | None = None,
  ):
    super().__init__(message)
    self.round = round
    self.clients = tuple(clients)
    self.blame = blame or Blame()
    self.unopened = False

  def __str__(self) -> str:
    where = '' if self.round is None else f'(round={self.round})'
    return f'{type(self).__name__}{where}: {super().__str__()}'


class InvalidMessage(SecAggError):
  """Bytes that are no message of this session: wrong length, type, flags, order or padding."""

  code = 1


class WrongRound(SecAggError):
  """A message, or a session, whose turn it is not."""

  code = 2


class LateMessage(WrongRound):
  """A message of a round that is closed; dropped unread."""

  code = 3


class DuplicateMessage(SecAggError):
  """A second, different message of one client in one round; the first stands."""

  code = 4


class SenderMismatch(SecAggError):
  """The message names another sender than the channel it came by."""

  code = 5


class UnknownClient(SecAggError):
  """A client that is not in the roster, or no longer in the session."""

  code = 6


class InvalidPublicKey(SecAggError):
  """A key of low order, or a key that appears twice."""

  code = 7


class SignatureInvalid(SecAggError):
  """A signature that the roster's key does not confirm."""

  code = 8


class ContextMismatch(SecAggError):
  """The others were given other parameters, or another model, than this client."""

  code = 9


class UnsafeParameters(SecAggError):
  """No graph and threshold withstand the stated threat, or a client's policy asks for more."""

  code = 10


class GraphMismatch(SecAggError):
  """The neighbours that were announced are not those of the session's graph."""

  code = 11


class NotEnoughClients(SecAggError):
  """Fewer clients than the session needs."""

  code = 12


class NotEnoughShares(SecAggError):
  """Fewer shares of a client's secret than the threshold."""

  code = 13


class BadShares(SecAggError):
  """Shares that do not open, or do not give the secret that was committed to."""

  code = 14

  @property
  def blamed(self) -> tuple[int, ...]:
    """Clients of which at least one sent something false."""
    return self.clients


class UnsafeUnmaskRequest(SecAggError):
  """A request for shares whose answer could open one client's input."""

  code = 15


class InconsistentSurvivors(SecAggError):
  """The server showed different sets of survivors, or too few clients confirm one."""

  code = 16


class InputOutOfRange(SecAggError):
  """A value that is no integer, or does not fit its leaf."""

  code = 17


class CapacityError(SecAggError):
  """More clients, or larger values, than the modulus or the session was made for."""

  code = 18


class UnsupportedModulusError(SecAggError):
  """A modulus that is not a power of two between 2 and 2**62."""

  code = 19


class ClearAggregandError(SecAggError):
  """Values that would reach the server outside the secure sum."""

  code = 20


class VerificationFailed(SecAggError):
  """The published sum is not the sum of what the clients sent."""

  code = 21


class SessionAborted(SecAggError):
  """The session has ended without a result."""

  code = 22


class RoundTimeout(SecAggError):
  """A round's deadline passed; raised by the runtimes, the protocol has no clock."""

  code = 23


def _family(cls: type[SecAggError]) -> list[type[SecAggError]]:
  return [cls, *(member for child in cls.__subclasses__() for member in _family(child))]


# All codes on the wire.
CODES = frozenset(cls.code for cls in _family(SecAggError))

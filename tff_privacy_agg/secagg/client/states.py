"""The order of a client's messages: what it has sent, and what may come then."""

import enum

from tff_privacy_agg.secagg.errors import UnsafeUnmaskRequest, WrongRound
from tff_privacy_agg.secagg.rounds import Round
from tff_privacy_agg.secagg.wire import Kind


class State(enum.Enum):
  """The last message that a client has sent."""

  NEW = 'nothing'
  ADVERTISED = 'its keys'
  SHARED = 'its shares'
  MASKED = 'its masked vector'
  CONFIRMED = 'its signature on the survivors'
  ANSWERED = 'its answer to the unmask request'
  DONE = 'its verdict'
  ABORTED = 'an abort'


_NEXT = {
  State.ADVERTISED: Kind.KEYS,
  State.SHARED: Kind.SHARES,
  State.CONFIRMED: Kind.UNMASK_REQUEST,
  State.ANSWERED: Kind.RESULT,
}


def check_turn(kind: Kind, state: State, authenticated: bool) -> None:
  """Raises unless a message of this kind may come now.

  Raises:
    UnsafeUnmaskRequest: If it asks for shares once more.
    WrongRound: If it may not come; it is ignored.
  """
  expected = _NEXT.get(state)
  if state is State.MASKED:
    expected = Kind.SURVIVORS if authenticated else Kind.UNMASK_REQUEST
  if kind is expected:
    return
  if kind is Kind.UNMASK_REQUEST and state in (State.ANSWERED, State.DONE):
    raise UnsafeUnmaskRequest(
      'The server asked for shares a second time; a client answers once.', round=Round.UNMASK
    )
  raise WrongRound(
    f'A message of type {kind.name} came when this client had sent {state.value}. It is ignored.',
    round=kind.round,
  )

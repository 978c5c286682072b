"""One client of real sessions: its own process, its own data, its own keys."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg.deployment import arrays, framing
from tff_privacy_agg.deployment.connection import REASON_CHARACTERS, Connection
from tff_privacy_agg.deployment.events import Events, one_line
from tff_privacy_agg.deployment.keys.member import Member
from tff_privacy_agg.deployment.keys.tls import Expiry
from tff_privacy_agg.deployment.round_numbers import RoundBook
from tff_privacy_agg.deployment.served_session import LONGEST_DEADLINE
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError

_PATIENCE = 15.0
_PARAMETER_BYTES = 2**24


class WorkError(PrivacyAggError):
  """A client's own computation failed."""


Work = Callable[[Sequence[np.ndarray], Sequence[secagg.Leaf]], Mapping[str, Any]]
"""From the arrays of the broadcast, and the session's leaves, to this client's input."""


@dataclasses.dataclass(frozen=True)
class _Offer:
  params: secagg.SessionParams
  broadcast: bytes
  session: str
  deadlines: list[float]


class Participant:
  """Takes part in the sessions of one server.

  Args:
    address: `host:port` of the server.
    credentials: Mutual TLS.
    member: Who this client is.
    task: Name of the task.
    schema: What both sides must compute, as text.
    book: The greatest round that was served, on disk.
    reconnect_seconds: How long to look for a server that was lost or is not there.
    largest_broadcast: Most bytes that a session's broadcast may have.
    events: Takes what happens.
    expiry: When this client's certificate ends, if that is to be told.
  """

  def __init__(
    self,
    *,
    address: str,
    credentials: grpc.ChannelCredentials,
    member: Member,
    task: str,
    schema: str,
    book: RoundBook,
    reconnect_seconds: float = 60.0,
    largest_broadcast: int = 2**30,
    events: Events | None = None,
    expiry: Expiry | None = None,
  ):
    _validate.positive(reconnect_seconds=reconnect_seconds)
    self._member = member
    self._task, self._schema, self._book = task, schema, book
    self._patience, self._limit = reconnect_seconds, largest_broadcast
    self._events = events or Events.silent()
    self._connection = Connection(address, credentials, member.name, self._events, expiry)
    self._events('joining', server=address, certificate_expires=str(expiry or ''))

  def serve(self, work: Work) -> int:
    """Takes part until the server says that the run has ended.

    A session that fails is told, and the next one waited for.

    Args:
      work: This client's computation.

    Returns:
      How many sessions this client took part in to their end.

    Raises:
      RoundTimeout: If the server was not there for `reconnect_seconds`.
      ConfigurationError: If the server has another task or schema.
      RuntimeUnavailableError: If the server refuses this client.
    """
    done = 0
    while (offer := self._join()) is not None:
      try:
        self._take_part(offer, work)
        done += 1
      except (secagg.SecAggError, WorkError) as error:
        self._events('session failed', round=offer.params.round_number, reason=str(error))
    return done

  def close(self) -> None:
    """Closes the connection."""
    self._connection.close()

  def _join(self) -> _Offer | None:
    """Waits for a session; None if there will be none."""
    hello = {**framing.hello(self._task, self._schema), 'served': self._book.last(self._task) or 0}
    request = next(framing.frames(hello))
    while True:
      limit = self._limit + _PARAMETER_BYTES
      head, payload = self._connection.patiently(
        lambda: self._connection.join(request, limit),  # noqa: B023
        self._patience,
        'to offer a session',
      )
      if head.get('state') == 'session':
        return self._read_offer(head, payload)
      if head.get('state') == 'end':
        self._events('ended', reason=_told(head))
        return None
      if head.get('state') != 'wait':
        ours = {'task': self._task, 'schema': self._schema}.get(str(head.get('what')), '')
        raise ConfigurationError(
          f'Client {self._member.name!r} asked to join; the server refused: '
          f'{_told(head, 3000)}, this client {ours[:2000] or "another"}. Give both the '
          'same task and process.'
        )

  def _read_offer(self, head: Mapping[str, Any], payload: bytes) -> _Offer:
    size = int.from_bytes(payload[:4], 'little')
    params = secagg.SessionParams.from_bytes(payload[4 : 4 + size])
    deadlines = head.get('deadlines')
    if not isinstance(deadlines, list) or len(deadlines) != 6:
      raise secagg.InvalidMessage('The offer of a session lacks its deadlines.')
    for seconds in deadlines:
      if not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST_DEADLINE:
        raise secagg.InvalidMessage(f'A deadline is 0 to {LONGEST_DEADLINE:g} s, got {seconds!r}.')
    return _Offer(params, payload[4 + size :], str(head.get('session')), deadlines)

  def _take_part(self, offer: _Offer, work: Work) -> None:
    params, member = offer.params, self._member
    self._events('session', round=params.round_number)
    try:
      broadcast = arrays.decode(offer.broadcast)
      # Never the server's word for it: what was received decides which key this client has.
      params = dataclasses.replace(params, context=secagg.context_digest(broadcast))
      if params.task != self._task:
        raise secagg.ContextMismatch(f'A session of task {params.task!r} was offered.')
      client = secagg.Client(
        params,
        member.client_id,
        member.identity if params.authenticated else None,
        member.roster if params.authenticated else None,
        policy=member.policy,
        last_round=self._book.last(params.task) or 0,
        server_key=member.server_key,
      )
      self._book.record(params.task, params.round_number)
    except Exception as error:
      self._decline(offer, self._reason(error))
      raise
    rounds = list(secagg.Round)
    if not params.authenticated:
      rounds.remove(secagg.Round.CONSISTENCY)
    at = 0
    try:
      client.provide(self._input(work, broadcast, params.leaves))
      message = client.start()
      for current, following in itertools.pairwise(rounds):
        answer = self._exchange(offer, current, message)
        at = following
        message = client.receive(answer) or b''
    except Exception as error:
      self._leave(offer, at, client, error)
      raise
    self._exchange(offer, rounds[-1], message, last=True)
    self._events('session done', round=params.round_number)

  def _input(
    self, work: Work, broadcast: Sequence[np.ndarray], leaves: Sequence[secagg.Leaf]
  ) -> Mapping[str, Any]:
    try:
      return work(broadcast, leaves)
    except PrivacyAggError:
      raise
    except Exception as error:
      raise WorkError(f'The work failed: {type(error).__name__}: {error}') from error

  def _decline(self, offer: _Offer, error: Exception) -> None:
    """Tells the server that, and why, this client takes no part: nobody waits for it then."""
    head = {'session': offer.session, 'declined': str(error)[:REASON_CHARACTERS]}
    self._connection.patiently(
      lambda: self._connection.send(head, b'', _PATIENCE, REASON_CHARACTERS),
      min(_PATIENCE, self._patience),
      'to hear that it declines',
    )

  def _leave(self, offer: _Offer, at: int, client: secagg.Client, error: Exception) -> None:
    """Tells the server that, and why, this client takes no further part."""
    ended = isinstance(error, secagg.SessionAborted | secagg.RoundTimeout)
    if ended:
      return
    self._exchange(offer, at, client.abort(self._reason(error)), last=True)

  def _reason(self, error: Exception) -> secagg.SecAggError:
    """What the server is told; the text of another error could tell of the data."""
    if isinstance(error, secagg.SecAggError):
      return error
    return secagg.SessionAborted(f'The work of client {self._member.name!r} failed.')

  def _exchange(self, offer: _Offer, at: int, message: bytes, *, last: bool = False) -> bytes:
    """Sends one message and waits for the round to close; the last one waits for nothing."""
    head = {'session': offer.session, 'round': at, 'last': last}
    limit = framing.largest_message(offer.params, offer.params.maximum_clients or 2**10)
    seconds = offer.deadlines[at] + offer.deadlines[min(at + 1, 5)] + _PATIENCE
    answer, payload = self._connection.patiently(
      lambda: self._connection.send(head, message, seconds, limit),
      min(seconds, self._patience),
      f'to close round {at}',
    )
    if answer.get('state') == 'refused':
      raise secagg.SessionAborted(f'The server refused the message: {_told(answer)}', round=at)
    if answer.get('state') != 'message' and not last:
      raise secagg.SessionAborted('The session is over for this client.', round=at)
    return payload


def _told(head: Mapping[str, Any], most: int = REASON_CHARACTERS) -> str:
  """The reason that the server gives."""
  return one_line(str(head.get('reason'))[:most])

"""Clients that a training goes on without: for the rest of a round, or to its end."""

import json
import os
import pathlib
from collections.abc import Mapping

from tff_privacy_agg import _validate
from tff_privacy_agg._files import read_bounded, remove_leftovers, write_json
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import Blame

STRIKES = 3
"""Messages that no honest client sends, after which a client is out of the run."""


class Standing:
  """Record of what sessions have shown of the clients of a roster.

  A client that is proven to have sent what no honest client sends has a strike, and is not asked
  again in the round; after `strikes` of them it is out of the run. Of two clients of which one
  must have lied, without proof which, neither is asked again in the round, and none has a strike.
  Clients that a failed session waited for in vain, and those that accused others, are asked again
  only if there are too few without them.

  Args:
    names: {client id: name}.
    strikes: Strikes after which a client is out; 0 for never.
    path: JSON file of {name: strikes}, which outlives the process; None keeps none. Whoever
      edits it while no server runs decides otherwise.
    events: Takes who is out, and why.

  Raises:
    ConfigurationError: If the file holds something else.
  """

  def __init__(
    self,
    names: Mapping[int, str] | None = None,
    strikes: int = STRIKES,
    path: str | os.PathLike[str] | None = None,
    events: Events | None = None,
  ):
    _validate.at_least(0, strikes=strikes)
    self._names, self._limit = dict(names or {}), strikes
    self._path = None if path is None else pathlib.Path(path)
    self._events = events or Events.silent()
    self._strikes: dict[str, int] = {} if self._path is None else _read(self._path)
    self._round = 0
    self._suspended: set[int] = set()
    self._spare: set[int] = set()

  @property
  def out(self) -> frozenset[int]:
    """Clients that are out of the run."""
    return frozenset(client for client in self._names if self.is_out(client))

  def is_out(self, client: int) -> bool:
    """Whether a client is out of the run."""
    return 0 < self._limit <= self._strikes.get(self._name(client), 0)

  def begin(self, round_number: int) -> None:
    """Forgets the suspensions of an earlier round."""
    if round_number != self._round:
      self._round, self._suspended, self._spare = round_number, set(), set()

  def note(self, blame: Blame, *, failed: bool) -> None:
    """Takes what a session has shown.

    Args:
      blame: The evidence.
      failed: Whether the session had no sum, so that its round runs again.
    """
    for client in sorted(blame.proven):
      name = self._name(client)
      self._strikes[name] = self._strikes.get(name, 0) + 1
      left = 'out of the run' if self.is_out(client) else 'out of this round'
      self._events('strike', name=name, strikes=self._strikes[name], effect=left)
    if blame.proven and self._path is not None:
      write_json(self._path, self._strikes)
    self._suspended |= blame.proven
    if not failed:
      return
    for accused, accusers in blame.pairs():
      self._suspended.add(accused)
      self._spare.update(accusers)
      by = ', '.join(map(self._name, accusers)) or 'shares that do not fit'
      self._events('suspended', name=self._name(accused), against=by)
    self._spare |= blame.silent

  def asked(self, clients: frozenset[int], minimum: int) -> frozenset[int]:
    """The clients, of these, that may be asked in the round."""
    left = clients - self.out - self._suspended
    return left - self._spare if len(left - self._spare) >= minimum else left

  def _name(self, client: int) -> str:
    return self._names.get(client, str(client))


def _read(path: pathlib.Path) -> dict[str, int]:
  remove_leftovers(path)
  if not path.exists():
    return {}
  try:
    found = json.loads(read_bounded(path, 2**28))
    if not all(type(count) is int and count >= 0 for count in found.values()):
      raise ValueError('a count is no number')
  except (ValueError, AttributeError, RecursionError) as error:
    raise ConfigurationError(
      f'{path} must hold the strikes of clients by name; it holds something else ({error}). Restore '
      'it, or delete it to forgive all.'
    ) from None
  return found

"""Rounds of a TFF process over real parties: what server and client compute, and what is told."""

import dataclasses
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg._tff import compat, structures
from tff_privacy_agg._wording import counted
from tff_privacy_agg.deployment import arrays
from tff_privacy_agg.deployment.coordinator import Coordinator
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.metrics_port import MeasuredEvents
from tff_privacy_agg.deployment.participant import Work
from tff_privacy_agg.deployment.round_numbers import RoundBook
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.preparation.session_limits import SessionLimits
from tff_privacy_agg.learning.rounds.source import RoundResult, round_result
from tff_privacy_agg.runtime.round_form import RoundForm


def form_of(process: Any, maximum_clients: int) -> RoundForm:
  """The round of a process; nothing may leave its clients in the clear.

  Args:
    process: An object with `initialize` and `next`, a `LearningProcess` say.
    maximum_clients: Clients of the roster; server and clients must say the same.

  Raises:
    ConfigurationError: If it is no such process.
    ClearAggregandError: If it sums clients' values in the clear.
  """
  computation = getattr(process, 'next', None)
  if not hasattr(computation, 'to_building_block'):
    raise ConfigurationError(
      f'A process with TFF computations `initialize` and `next` was expected, got {process!r}. '
      "Return one of `tff.learning.algorithms`' from the entry point."
    )
  return RoundForm(computation, maximum_clients=maximum_clients)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServedRounds:
  """The rounds of a training with the clients of a coordinator: a `learning.Rounds`.

  Attributes:
    form: The round.
    coordinator: Where the clients are.
    book: Numbers of the sessions.
    ids: {name: client id} of the roster.
    clients: Most clients of a round; a round waits for so many.
    session: Arguments of `secagg.SessionParams`: `task`, `minimum_clients`, `mode`, ...
  """

  form: RoundForm
  coordinator: Coordinator
  book: RoundBook
  ids: Mapping[str, int]
  clients: int
  session: Mapping[str, Any]

  @property
  def client_ids(self) -> Sequence[str]:
    """Names of the roster."""
    return list(self.ids)

  @property
  def sampling(self) -> None:
    """Nothing is claimed: a cohort is who is there."""

  @property
  def limits(self) -> SessionLimits:
    """Limits that every session keeps."""
    return SessionLimits(
      minimum_clients=self.session['minimum_clients'],
      maximum_clients=self.clients,
      colluding_fraction=self.session['colluding_fraction'],
      dropout_fraction=self.session.get('dropout_fraction', 0.0),
    )

  @property
  def identity(self) -> Mapping[str, str]:
    """Nothing beyond the process: clients come and go, and keep their data to themselves."""
    return {}

  def select(self, round_number: int, eligible: Sequence[str] | None = None) -> Sequence[str]:
    """Waits for the clients of the next round; of more, so many are drawn at random.

    Raises:
      ConfigurationError: If the participation cap leaves too few.
      NotEnoughClients: If too few are left whom no session has shown to lie.
      RoundTimeout: If too few are there when the deadline passes.
    """
    names = {client: name for name, client in self.ids.items()}
    minimum = self.session['minimum_clients']
    among = frozenset(self.ids[name] for name in (self.ids if eligible is None else eligible))
    if len(among) < minimum:
      raise ConfigurationError(
        f'Round {round_number} needs {minimum} clients; the participation cap leaves {len(among)}. '
        'Raise the cap, or train for fewer rounds.'
      )
    standing = self.coordinator.standing
    standing.begin(round_number)
    among = standing.asked(among, minimum)
    if len(among) < minimum:
      raise secagg.NotEnoughClients(
        f'Round {round_number} needs {minimum} clients; {counted(len(among), "is", "are")} left '
        'that no session has shown to lie. Look at the `strike` and `suspended` events, and correct '
        'these clients.'
      )
    found = self._within_reach(self.coordinator.gather(self.clients, minimum, among))
    if len(found) < minimum:
      raise secagg.NotEnoughClients(
        f'Round {round_number} needs {minimum} clients; {counted(len(found), "is", "are")} within '
        "reach of its number. Restore the server's `sessions.json`, or the `rounds.json` of clients "
        'that are left out.'
      )
    if len(found) > self.clients:
      found = frozenset(random.SystemRandom().sample(sorted(found), self.clients))
    return [names[client] for client in sorted(found)]

  def _within_reach(self, found: frozenset[int]) -> frozenset[int]:
    """Those of the clients that can serve the next number, which goes above what they served.

    As many may lie about it as may help the server or drop out, and one in any case.
    """
    task, served = self.session['task'], self.coordinator.served(found)
    fractions = (self.limits.colluding_fraction, self.limits.dropout_fraction)
    liars = max(1, *(int(fraction * len(found)) for fraction in fractions))
    reached = self.book.catch_up(task, served, liars)
    if reached is not None:
      self.coordinator.events('numbers', after=reached, reason='clients have served more sessions')
    last = self.book.last(task) or 0
    ahead = {client: number for client, number in served.items() if number > last}
    for client, number in sorted(ahead.items()):
      name = next(name for name, one in self.ids.items() if one == client)
      self.coordinator.events('left out', name=name, served=number, next=last + 1)
    return found - ahead.keys()

  def run(self, state: Any, cohort: Sequence[str]) -> RoundResult:
    """Runs one round as one session.

    Raises:
      SecAggError: If there is no sum; the state is as it was.
    """
    broadcast = self.form.broadcast_arrays(self.form.prepare(state))
    params = secagg.SessionParams(
      round_number=self.book.draw(self.session['task']),
      leaves=self.form.leaves,
      context=secagg.context_digest(broadcast),
      **self.session,
    )
    asked = frozenset(self.ids[name] for name in cohort)
    result = self.coordinator.run(params, arrays.encode(broadcast), asked)
    output = self.form.update(state, self.form.join(result.words, []))
    return round_result(self.form.result(output), len(result.survivors))

  def close(self, reason: str) -> None:
    """Tells the clients that there are no more rounds, and why."""
    self.coordinator.close(reason)


def client_work(form: RoundForm, dataset: Any) -> Work:
  """A client's computation when a session is offered: its own `work` on its own data.

  Args:
    form: The round, made by this client from its own code.
    dataset: Its data.

  Raises:
    ConfigurationError: At the first round, if the data do not fit the process.
  """

  def work(broadcast: Sequence[np.ndarray], leaves: Sequence[secagg.Leaf]) -> Any:
    if tuple(leaves) != form.leaves:
      raise secagg.ContextMismatch('The session sums other leaves than this client computes.')
    types = [below for _, below in structures.paths(form.broadcast_type)]
    if len(broadcast) != len(types) or not all(map(_fits, broadcast, types)):
      raise secagg.ContextMismatch(
        f'What the server sent is no {form.broadcast_type}, which this client computes with.'
      )
    received = structures.pack(
      iter(_as_sent(value, below) for value, below in zip(broadcast, types, strict=True)),
      form.broadcast_type,
    )
    try:
      result = form.work(dataset, received)
    except (TypeError, ValueError, NotImplementedError) as error:
      spec = getattr(dataset, 'element_spec', type(dataset).__name__)
      wanted = form.work.type_signature.parameter[0]
      raise ConfigurationError(
        f"The process takes this client's data as {wanted}; they are {spec}. Batch and map them "
        'as the process was built for.'
      ) from error
    return form.split(result).inputs

  return work


def _fits(value: np.ndarray, below: Any) -> bool:
  shape = below.shape
  return shape is None or (
    len(shape) == value.ndim
    and all(wanted in (None, found) for wanted, found in zip(shape, value.shape, strict=True))
  )


def _as_sent(value: np.ndarray, below: Any) -> Any:
  dtype = np.dtype(getattr(below.dtype, 'as_numpy_dtype', below.dtype))
  return value.astype(dtype) if dtype.kind not in 'SUO' else value


class MeasuredRounds(compat.ReleaseManager):
  """Tells the metrics' port of each round."""

  def __init__(self, measured: MeasuredEvents):
    self._measured = measured

  async def release(self, value: Mapping[str, Any], key: int) -> None:
    """Counts the survivors of round `key`."""
    self._measured.trained(key, float(value['survivors']))


class RoundEvents(compat.ReleaseManager):
  """Tells each round's metrics as an event, for machines."""

  def __init__(self, events: Events, rounds: int):
    self._events, self._rounds = events, rounds

  async def release(self, value: Mapping[str, Any], key: int) -> None:
    """Tells the numbers of round `key`; one that is not finite is null."""
    numbers = {name: float(one) for name, one in value.items() if np.shape(one) == ()}
    told = {name: one if math.isfinite(one) else None for name, one in numbers.items()}
    self._events('trained', round=f'{key}/{self._rounds}', **told)

"""Rounds of a training: on this machine, or with real clients."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow_federated as tff

from tff_privacy_agg import accounting
from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.data_source import CohortDataSource
from tff_privacy_agg.ledger import LedgerFacts, Sampling

_STEPS = 10_000  # of the fractions of a session


@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionLimits:
  """Limits that the runtime keeps in every secure sum.

  Attributes:
    minimum_clients: Fewest clients in a sum that is opened.
    maximum_clients: Most clients of a round; None if that is not known beforehand.
    colluding_fraction: At most this part of a round's clients helps the server.
    dropout_fraction: A sum stands if at most this part of a round's clients drops out.
  """

  minimum_clients: int
  maximum_clients: int | None
  colluding_fraction: float
  dropout_fraction: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundResult:
  """Result of a round.

  Attributes:
    state: The process's new state.
    metrics: Its metrics, nested.
    survivors: Clients in the sum, as the runtime counted them; None if it does not count.
  """

  state: Any
  metrics: Mapping[str, Any]
  survivors: int | None


class Rounds(Protocol):
  """Runs the rounds of one process; `LocalRounds` here, or served to real clients."""

  @property
  def client_ids(self) -> Sequence[str]:
    """All clients; no two alike."""

  @property
  def sampling(self) -> Sampling | None:
    """How cohorts are drawn, as a ledger records it; None claims nothing."""

  @property
  def limits(self) -> SessionLimits | None:
    """What every secure sum keeps; None where sums are only simulated."""

  @property
  def identity(self) -> Mapping[str, str]:
    """What a resumed training must have again, such as a digest of the clients."""

  def select(self, round_number: int, eligible: Sequence[str] | None = None) -> Sequence[str]:
    """Clients of a round, chosen before it is charged.

    Args:
      round_number: The round, from 1.
      eligible: Clients whom the participation cap leaves; None for all.
    """

  def run(self, state: Any, cohort: Sequence[str]) -> RoundResult:
    """Runs one round with its cohort.

    Raises:
      SecAggError: If there is no sum; the state is as it was.
    """

  def close(self, reason: str) -> None:
    """Tells the clients that there are no more rounds, and why."""


def round_result(output: Any, survivors: int | None) -> RoundResult:
  """Converts the output of a process's `next` to a `RoundResult`.

  Args:
    output: A `LearningProcessOutput`, or a pair of state and metrics.
    survivors: Clients in the sum, as the runtime counted them, or None.
  """
  state, metrics = (output.state, output.metrics) if hasattr(output, 'state') else output
  return RoundResult(
    state=state, metrics=metrics if isinstance(metrics, Mapping) else {}, survivors=survivors
  )


class LocalRounds:
  """Rounds in the current TFF context, with all data on this machine.

  Args:
    process: A TFF learning process.
    source: The clients' data and cohorts; without a ledger, which the training charges.
  """

  def __init__(self, process: tff.learning.templates.LearningProcess, source: CohortDataSource):
    self._process, self._source = process, source

  @property
  def client_ids(self) -> Sequence[str]:
    """All clients."""
    return self._source.cohorts.client_ids

  @property
  def sampling(self) -> Sampling:
    """What the sampler of the cohorts does."""
    return self._source.cohorts.sampling

  @property
  def limits(self) -> SessionLimits | None:
    """Those of a `SecAggContext`; a simulation opens every sum."""
    session = getattr(compat.running_context(), 'session', None)
    if session is None:
      return None
    return SessionLimits(
      minimum_clients=session['minimum_clients'],
      maximum_clients=getattr(self._source.cohorts, 'size', None),
      colluding_fraction=session['colluding_fraction'],
      dropout_fraction=session['dropout_fraction'],
    )

  @property
  def identity(self) -> Mapping[str, str]:
    """Digest of the client ids, and the type of their batches."""
    ids = json.dumps(sorted(self.client_ids)).encode()
    return {
      'clients': hashlib.sha256(ids).hexdigest()[:16],
      'examples': str(self._source.federated_type.member),
    }

  def select(self, round_number: int, eligible: Sequence[str] | None = None) -> Sequence[str]:
    """Clients of a round, as the sampler draws them; refuses one whose batches do not fit."""
    cohort = self._source.cohorts.cohort(round_number, eligible)
    for client in cohort:
      self._source.dataset(client)
    return cohort

  def run(self, state: Any, cohort: Sequence[str]) -> RoundResult:
    """Runs one round in the current context."""
    output = self._process.next(state, [self._source.dataset(client) for client in cohort])
    return round_result(output, compat.protocol_survivors())

  def close(self, reason: str) -> None:
    """Does nothing: nobody waits."""


def check_limits(facts: LedgerFacts, limits: SessionLimits | None) -> None:
  """Raises unless secure sums keep what a ledger counts on.

  A session's colluding fraction is one of its clients, the ledger's one of the survivors, and
  colluders do not drop out: all of them may be among the fewest survivors.

  Args:
    facts: What the ledger rests on.
    limits: What every sum keeps; None for simulated sums, which have no limits.

  Raises:
    ConfigurationError: If the ledger counts on more clients, or on more honest ones.
  """
  if limits is None:
    return
  fewest = limits.minimum_clients
  if facts.minimum_clients is not None and facts.minimum_clients > fewest:
    raise ConfigurationError(
      f'The ledger counts on sums of at least {facts.minimum_clients} clients (`minimum_clients` '
      f'of the accounting); a session opens sums of {fewest}. Raise `minimum_clients` of the '
      'session, or lower that of the accounting.'
    )
  clients = limits.maximum_clients or facts.maximum
  if clients > facts.maximum:
    raise ConfigurationError(
      f"A session has up to {clients} clients; the ledger's stack admits at most {facts.maximum}. "
      'Set `clients_per_round` to no more, or raise `Cohort.maximum`.'
    )
  colluders = clients - accounting.honest_survivors(clients, limits.colluding_fraction)
  for survivors in range(fewest, clients + 1):
    if facts.honest(survivors) > max(survivors - colluders, 1):
      needed = -(-_STEPS * min(colluders / fewest, 0.9999) // 1) / _STEPS
      raise ConfigurationError(
        f'A session assumes that {colluders} of {clients} clients collude, all of whom may be in a '
        f'sum of {survivors} when others drop out; the ledger counts {facts.honest(survivors)} '
        f'honest ones there. Raise `minimum_clients`, or `Cohort.colluding_fraction` to {needed:g}.'
      )

"""Rounds of a training: on this machine, or with real clients."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg.learning.data_source import CohortDataSource
from tff_privacy_agg.learning.preparation.session_limits import SessionLimits, running_limits
from tff_privacy_agg.ledger import Sampling


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
    return running_limits(getattr(self._source.cohorts, 'size', None))

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

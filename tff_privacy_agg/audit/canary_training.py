"""A training that lies in a run directory, once more and with canaries among its clients."""

import contextlib
import dataclasses
import pathlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow_federated as tff

from tff_privacy_agg._files import read_table
from tff_privacy_agg.audit.canaries import Canaries, mark_ordinary, with_canaries
from tff_privacy_agg.audit.canary_run import CanaryResult, run_with_canaries
from tff_privacy_agg.learning import UniformCohorts
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord

# Called with what is going on, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AuditedTask(TrainingTask):
  """The same training with canaries among its clients."""

  def model_fn(self) -> Callable[[], tff.learning.models.VariableModel]:
    return with_canaries(super().model_fn())


def train_with_canaries(
  task: TrainingTask,
  config: Mapping[str, Any],
  record: LedgerRecord,
  canaries: Canaries,
  confidence: float,
  progress: Progress,
) -> tuple[CanaryResult, Mapping[str, Any]]:
  """Trains once more with canaries; also what it cost and at which length they were clipped.

  Args:
    task: The training.
    config: Its options, as the run directory has them.
    record: What its ledger says.
    canaries: Whom to add.
    confidence: Of every bound and interval.
    progress: Called after every round.
  """
  audited = _AuditedTask(**{**config, 'target_epsilon': None, 'metrics': 'none'})
  examples, spec = task.load(), audited.model_fn()().input_spec
  held = {canary: canaries.dataset(canary, spec) for canary in canaries.ids}
  for client in examples.train.client_ids:
    batches = task.preprocess(examples.train.create_tf_dataset_for_client(client))
    held[client] = mark_ordinary(batches, spec)
  cohorts = UniformCohorts(client_ids=list(held), size=task.clients_per_round, seed=task.seed)
  seen: Counter[str] = Counter()

  def cohort_of(number: int) -> list[str]:
    cap = record.facts.participation_cap
    eligible = None if cap is None else [client for client in held if seen[client] < cap]
    cohort = cohorts.cohort(number, eligible)
    seen.update(cohort)
    return cohort

  # Questions that share the ledger are none of its training.
  rounds = record.state.kinds[0].rounds
  moments, at_full_length = [time.monotonic()], []

  def observe(number: int, metrics: Mapping[str, Any]) -> None:
    moments.append(time.monotonic())
    told = metrics.get('aggregator') or {}
    if 'clipping' in told and 'zeroing' in told:  # TFF drops them under Mime
      clip, threshold = float(told['clipping']['norm']), float(told['zeroing']['threshold'])
      at_full_length.append(clip <= canaries.norm <= threshold)
    progress('training with canaries', number, rounds)

  progress('training with canaries', 0, rounds)
  collected = run_with_canaries(
    audited.process(),
    canaries,
    dataset_of=held.__getitem__,
    cohort_of=cohort_of,
    rounds=rounds,
    observe_round=observe,
  )
  shown = collected.result(delta=record.facts.delta, confidence=confidence)
  costs = {
    'norm': canaries.norm,
    'rounds_at_full_length': sum(at_full_length) if at_full_length else None,
    'seconds_a_round': statistics.median(np.diff(moments)),
  }
  return shown, costs


def seconds_without(path: pathlib.Path) -> Mapping[str, float]:
  """Seconds that a round of the run itself took, if its metrics say.

  Args:
    path: The run directory.
  """
  rows = read_table(path / 'metrics.csv')
  with contextlib.suppress(ValueError, KeyError, statistics.StatisticsError):
    return {'seconds_a_round_without': statistics.median(float(row['seconds']) for row in rows)}
  return {}

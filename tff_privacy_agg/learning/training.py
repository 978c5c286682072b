"""The training loop: cohorts, rounds, progress, checkpoints, metrics."""

import dataclasses
import functools
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting import PrivacyLedger
from tff_privacy_agg.learning.cohorts import UniformCohorts
from tff_privacy_agg.learning.run_directory import RunDirectory

# Making a client's dataset costs milliseconds, keeping it a few kilobytes.
_DATASETS_KEPT = 4096


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
  """What a training ends with.

  Attributes:
    state: The process's last state.
    metrics: The last round's metrics, flat.
    rounds_run: Rounds that this call ran; fewer than asked after a resume.
  """

  state: Any
  metrics: Mapping[str, float]
  rounds_run: int


def flatten(metrics: Any, prefix: str = '') -> Mapping[str, Any]:
  """Nested metrics as one level, with names joined by `/`."""
  flat: OrderedDict[str, Any] = OrderedDict()
  for name, value in metrics.items():
    path = f'{prefix}{name}'
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{path}/'))
    else:
      flat[path] = value
  return flat


def progress_line(
  round_number: int, rounds: int, metrics: Mapping[str, Any], seconds: float
) -> str:
  """One round in one line: what a person watches a training by."""
  parts = [f'round {round_number:>{len(str(rounds))}}/{rounds}']
  if 'loss' in metrics:
    parts.append(f'loss {metrics["loss"]:.3f}')
  if 'accuracy' in metrics:
    parts.append(f'accuracy {100 * metrics["accuracy"]:5.1f} %')
  epsilon = metrics.get('ledger/epsilon', metrics.get('privacy/epsilon'))
  if epsilon is not None:
    parts.append(f'epsilon {epsilon:.2f}' if math.isfinite(epsilon) else 'epsilon inf')
    parts.append(f'survivors {int(metrics["privacy/survivors"])}')
  if 'clipping/norm' in metrics:
    parts.append(f'clip {metrics["clipping/norm"]:.3f}')
  parts.append(f'{seconds:.1f} s')
  if not metrics.get('privacy/accepted', True):
    parts.append('too few survivors: model unchanged')
  return '  '.join(parts)


def train(
  process: tff.learning.templates.LearningProcess,
  *,
  client_data: tff.simulation.datasets.ClientData,
  preprocess: Callable[[tf.data.Dataset], tf.data.Dataset],
  cohorts: UniformCohorts,
  rounds: int,
  run_directory: RunDirectory,
  evaluate: Callable[[Any], Mapping[str, float]],
  ledger: PrivacyLedger | None = None,
  report: Callable[[str], None] = print,
) -> TrainingResult:
  """Runs, or resumes, a federated training.

  After each round the state is checkpointed, the metrics are appended to the
  run directory's files, and a progress line is reported. A training that was
  interrupted goes on after its last checkpoint, with the cohorts that it would
  have had. The epsilon in the state then forgets a round that was cut off; that of
  the ledger does not.

  Args:
    process: A TFF learning process.
    client_data: The clients' examples.
    preprocess: From a client's examples to its batches.
    cohorts: Who takes part in which round.
    rounds: Rounds in all; at least 1.
    run_directory: Where the files go.
    evaluate: From the model weights to metrics on held-out data.
    ledger: Record of what every round may have revealed, charged before the round and settled
      after it; its epsilon, which counts rounds that were cut off, is then the one reported.
    report: Takes each line of progress.
    report: Takes each line of progress.

  Returns:
    The last state and metrics.

  Raises:
    ConfigurationError: If `rounds` is not a positive integer.
  """
  _validate.at_least(1, rounds=rounds)
  report('compiling, the first round takes some seconds longer')
  initial = process.initialize()
  state, done = run_directory.latest(initial)
  if state is None:
    state = initial
  else:
    report(f'resuming after round {done}; a round that was cut off runs again and stays charged')
  metrics = run_directory.last_metrics()

  @functools.lru_cache(maxsize=_DATASETS_KEPT)
  def batches(client: str) -> tf.data.Dataset:
    return preprocess(client_data.create_tf_dataset_for_client(client))

  for round_number in range(done + 1, rounds + 1):
    started = time.monotonic()
    cohort = cohorts.cohort(round_number)
    charge = None
    if ledger is not None:
      charge = ledger.charge(round_number, planned_survivors=len(cohort), cohort=cohort)
    output = process.next(state, [batches(client) for client in cohort])
    if ledger is not None and charge is not None:
      facts = output.metrics['aggregator']['privacy']
      ledger.settle(
        charge,
        survivors=int(facts['survivors']),
        honest=int(facts['honest']),
        accepted=bool(facts['accepted']),
      )
    state = output.state
    metrics = OrderedDict(evaluate(process.get_model_weights(state)))
    metrics.update(flatten(output.metrics.get('aggregator') or {}))
    if ledger is not None:
      metrics['ledger/epsilon'] = ledger.epsilon('server')
      metrics['ledger/release_epsilon'] = ledger.epsilon('release')
    seconds = time.monotonic() - started
    # Released first: a checkpoint then always has its line in the metrics.
    run_directory.release(OrderedDict(metrics, seconds=seconds), round_number)
    run_directory.save(state, round_number)
    report(progress_line(round_number, rounds, metrics, seconds))
  return TrainingResult(state=state, metrics=metrics, rounds_run=max(0, rounds - done))

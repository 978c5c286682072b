"""The training program: cohorts, charges, rounds, settlements, progress, checkpoints, metrics."""

import asyncio
import contextlib
import dataclasses
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import compat
from tff_privacy_agg._tff.error_hints import announced
from tff_privacy_agg.errors import BudgetExceededError, ConfigurationError
from tff_privacy_agg.learning.cohorts import Cohorts
from tff_privacy_agg.learning.data_source import CohortDataSource, CohortIterator
from tff_privacy_agg.learning.flat_metrics import flatten
from tff_privacy_agg.learning.ledger_release import settle
from tff_privacy_agg.learning.private_process import PrivateLearningProcess, check_ledger
from tff_privacy_agg.learning.run_directory import RunDirectory
from tff_privacy_agg.learning.statement_release import StatementReleaseManager
from tff_privacy_agg.ledger import PrivacyLedger
from tff_privacy_agg.ledger.card.field import rounded_up


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
  """What a training ends with.

  Attributes:
    state: The process's last state.
    metrics: The last round's metrics, flat.
    rounds_run: Rounds that this call ran; fewer than asked after a resume.
    stopped: Why it ended before the last round ('budget'), or None.
    rounds_done: Rounds that the training has behind it, those before a resume too.
  """

  state: Any
  metrics: Mapping[str, float]
  rounds_run: int
  stopped: str | None = None
  rounds_done: int = 0


def progress_line(
  round_number: int, rounds: int, metrics: Mapping[str, Any], seconds: float, left: float
) -> str:
  """One round in one line: what a person watches a training by.

  Args:
    round_number: The round.
    rounds: Rounds in all.
    metrics: Its metrics, flat.
    seconds: How long it took.
    left: Seconds that the rest will take.
  """
  parts = [f'round {round_number:>{len(str(rounds))}}/{rounds}']
  if 'loss' in metrics:
    parts.append(f'loss {metrics["loss"]:.3f}')
  if 'accuracy' in metrics:
    parts.append(f'accuracy {100 * metrics["accuracy"]:5.1f} %')
  epsilon = metrics.get('ledger/epsilon', metrics.get('privacy/epsilon'))
  if epsilon is not None:
    parts.append(f'epsilon {rounded_up(epsilon, 4)}')
    parts.append(f'survivors {int(metrics["privacy/survivors"])}')
  if 'clipping/norm' in metrics:
    parts.append(f'clip {metrics["clipping/norm"]:.3f}')
  parts.append(f'{seconds:.1f} s' + (f', {left:.0f} s left' if round_number < rounds else ''))
  if not metrics.get('ledger/complete', True):
    parts.append('NOT ALL IS COVERED')
  if not metrics.get('privacy/accepted', True):
    parts.append('too few survivors: model unchanged')
  return '  '.join(parts)


def train(
  process: tff.learning.templates.LearningProcess,
  data: tff.simulation.datasets.ClientData,
  rounds: int,
  *,
  cohorts: Cohorts,
  preprocess: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
  evaluate: Callable[[Any], Mapping[str, float]] | None = None,
  run_directory: RunDirectory | str | os.PathLike[str] | None = None,
  ledger: PrivacyLedger | None = None,
  release_managers: Sequence[compat.ReleaseManager] = (),
  report: Callable[[str], None] = print,
) -> TrainingResult:
  """Runs, or resumes, a federated training.

  Each round is charged in the ledger with its cohort, runs, and is settled; then the state
  is checkpointed, the metrics are appended to the run directory's files, and a progress
  line is reported. A training that was interrupted goes on after its last checkpoint, with
  the cohorts that it would have had. The epsilon in the state then forgets a round that was
  cut off; that of the ledger does not. It ends early once a budget is spent: the ledger's, or
  that of the process.

  Args:
    process: A TFF learning process.
    data: The clients' examples.
    rounds: Rounds in all; at least 1.
    cohorts: Who takes part in which round, such as `UniformCohorts`.
    preprocess: From a client's examples to its batches; None takes them as they are.
    evaluate: From the model weights to metrics on held-out data; None for no evaluation.
    run_directory: Where the files go, and from where a training resumes; None leaves no
      files. For a path, the training is defined by the facts of the process.
    ledger: Record of what every round may have revealed; its epsilon, which counts rounds
      that were cut off, is then the one reported. By default, a process from
      `build_private_learning_process` keeps one in the run directory.
    release_managers: Take each round's flat metrics, such as `learning.MLflowReleaseManager`.
    report: Takes each line of progress.

  Returns:
    The last state and metrics.

  Raises:
    ConfigurationError: If an argument is outside its range.
    LedgerError: If practice breaks what the ledger claims.
  """
  _validate.at_least(1, rounds=rounds)
  with contextlib.ExitStack() as stack:
    directory = _directory(run_directory, process)
    if ledger is None and directory is not None and isinstance(process, PrivateLearningProcess):
      ledger = stack.enter_context(process.open_ledger(directory.path / 'ledger.jsonl'))
    if ledger is not None and isinstance(process, PrivateLearningProcess):
      check_ledger(process, ledger)
    managers = list(release_managers)
    if ledger is not None and directory is not None:
      managers.append(StatementReleaseManager(directory.path / 'tensorboard/privacy', ledger))
    source = CohortDataSource(data, cohorts, preprocess=preprocess, ledger=ledger)
    report('compiling, the first round takes some seconds longer')
    initial = process.initialize()
    state, done = (None, 0) if directory is None else directory.latest(initial)
    if state is None:
      state = initial
    else:
      cut = '; a round that was cut off runs again and stays charged' if done < rounds else ''
      report(f'resuming after round {done}{cut}')
    metrics: Mapping[str, Any] = {} if directory is None else directory.last_metrics()
    iterator = CohortIterator(source, done)
    stopped, ran, first = None, 0, 0.0
    began = time.monotonic()
    for round_number in range(done + 1, rounds + 1):
      started = time.monotonic()
      try:
        selected = iterator.select()
      except BudgetExceededError as error:
        report(f'stopped before round {round_number}: {error}')
        stopped = 'budget'
        break
      # The first round compiles, as long as it likes; its own line says how long it took.
      with contextlib.nullcontext() if ran else announced(report, 'the first round', closing=False):
        output = process.next(state, selected)
      if ledger is not None:
        counted = compat.protocol_survivors()
        counted = len(iterator.cohort) if counted is None else counted
        settle(ledger, round_number, output.metrics, counted=counted)
      if _halted(output.metrics):
        report(f'stopped before round {round_number}: the process has spent its budget')
        stopped = 'budget'
        break
      state, ran = output.state, ran + 1
      metrics = _metrics(process, state, output, evaluate, ledger)
      seconds = time.monotonic() - started
      released = OrderedDict(metrics, seconds=seconds)
      if directory is not None:
        # Released first: a checkpoint then always has its line in the metrics.
        directory.release(released, round_number)
        directory.save(state, round_number)
      # Last: a tracking server that fails does not cost the round, whose state is kept.
      for manager in managers:
        asyncio.run(manager.release(released, round_number))
      # The first round compiles; the others tell how long the rest will take.
      first = first if ran > 1 else seconds
      mean = (time.monotonic() - began - first) / (ran - 1) if ran > 1 else seconds
      report(progress_line(round_number, rounds, metrics, seconds, mean * (rounds - round_number)))
  return TrainingResult(
    state=state, metrics=metrics, rounds_run=ran, stopped=stopped, rounds_done=done + ran
  )


def _halted(metrics) -> bool:
  return bool((metrics.get('aggregator') or {}).get('privacy', {}).get('halted', False))


def _metrics(process, state, output, evaluate, ledger) -> Mapping[str, Any]:
  metrics = OrderedDict(evaluate(process.get_model_weights(state)) if evaluate else {})
  metrics.update(flatten(output.metrics.get('aggregator') or {}))
  trained = flatten((output.metrics.get('client_work') or {}).get('train') or {}, 'train/')
  metrics.update(trained)
  if ledger is not None:
    metrics['ledger/epsilon'] = ledger.epsilon('server')
    metrics['ledger/release_epsilon'] = ledger.epsilon('release')
    metrics['ledger/complete'] = ledger.complete
  return metrics


def _directory(where, process) -> RunDirectory | None:
  if where is None or isinstance(where, RunDirectory):
    return where
  if not isinstance(process, PrivateLearningProcess):
    raise ConfigurationError(
      'A run directory resumes only the training that it holds; a path does not say which that is. '
      'Pass `RunDirectory(path, config)`, or a process from `build_private_learning_process`.'
    )
  return RunDirectory(where, {'facts': process.facts.as_dict()})

"""`tpa.train`: a training on this machine."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.data_source import CohortDataSource
from tff_privacy_agg.learning.preparation.checks import check_process
from tff_privacy_agg.learning.private_process import PrivateLearningProcess
from tff_privacy_agg.learning.rounds.cohorts import Cohorts
from tff_privacy_agg.learning.rounds.source import LocalRounds
from tff_privacy_agg.learning.run_directory import RunDirectory
from tff_privacy_agg.learning.training_loop import TrainingLoop, TrainingResult
from tff_privacy_agg.ledger import PrivacyLedger


@_validate.plain_numbers
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
  that of the process. A round whose secure sum fails runs again as a new session, in three
  at most and one more for each client that may drop out; each is charged, unless it was
  semi-honest and ended before the server asked for shares. A resumed training may ask for more rounds; its learning rates, the types of
  its model and its clients must be those it began with, and `history.jsonl` records what else changed.

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
    ConfigurationError: If an argument is outside its range, the runtime's secure sums do not keep
      what the ledger counts on, or the run directory holds another training; nothing is charged.
    LedgerError: If practice breaks what the ledger claims.
    SecAggError: If a round had no secure sum in any of its sessions.
  """
  source = check_training(
    process, data, rounds, cohorts=cohorts, preprocess=preprocess, evaluate=evaluate, ledger=ledger
  )
  loop = TrainingLoop(
    process=process,
    source=source,
    rounds=rounds,
    evaluate=evaluate,
    ledger=ledger,
    managers=release_managers,
    report=report,
  )
  return dataclasses.replace(loop, directory=_directory(run_directory, process)).run()


@_validate.plain_numbers
def check_training(
  process: tff.learning.templates.LearningProcess,
  data: tff.simulation.datasets.ClientData,
  rounds: int,
  *,
  cohorts: Cohorts,
  preprocess: Callable[[tf.data.Dataset], tf.data.Dataset] | None = None,
  evaluate: Callable[[Any], Mapping[str, float]] | None = None,
  ledger: PrivacyLedger | None = None,
) -> LocalRounds:
  """Refuses what would fail after the first charge; `train` does this before it makes a file.

  Args:
    process: As in `train`.
    data: As in `train`.
    rounds: As in `train`.
    cohorts: As in `train`.
    preprocess: As in `train`.
    evaluate: As in `train`.
    ledger: As in `train`.

  Returns:
    The rounds that are then run.

  Raises:
    ConfigurationError: If data, cohorts, stack, account and secure sums do not fit together.
    RuntimeUnavailableError: If the process cannot run in the current TFF context.
    LedgerError: If the ledger records another process.
  """
  _validate.at_least(1, rounds=rounds)
  check_process(process)
  if evaluate is not None and not callable(evaluate):
    raise ConfigurationError(
      f'`evaluate` must be a function of the model weights, got a {type(evaluate).__name__}. Return '
      'metrics by name from it.'
    )
  source = CohortDataSource(data, cohorts, preprocess=preprocess, ledger=ledger, process=process)
  source.check(rounds=rounds)
  local = LocalRounds(process, source)
  TrainingLoop(process=process, source=local, rounds=rounds, ledger=ledger).check()
  return local


def _directory(
  where: RunDirectory | str | os.PathLike[str] | None,
  process: tff.learning.templates.LearningProcess,
) -> RunDirectory | None:
  if where is None or isinstance(where, RunDirectory):
    return where
  if not isinstance(process, PrivateLearningProcess):
    raise ConfigurationError(
      'A run directory resumes only the training that it holds; a path does not say which that is. '
      'Pass `RunDirectory(path, config)`, or a process from `build_private_learning_process`.'
    )
  return RunDirectory(where, {'facts': process.facts.as_dict()})

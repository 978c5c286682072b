"""The training loop: cohorts, charges, rounds, settlements, progress, checkpoints, metrics."""

import asyncio
import contextlib
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._telling import announced
from tff_privacy_agg._tff import compat
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import BudgetExceededError, LedgerError
from tff_privacy_agg.learning.flat_metrics import flatten
from tff_privacy_agg.learning.ledger_release import account_of
from tff_privacy_agg.learning.preparation.session_limits import check_limits
from tff_privacy_agg.learning.private_process import PrivateLearningProcess, check_facts
from tff_privacy_agg.learning.progress import progress_line
from tff_privacy_agg.learning.rounds.attempts import RoundAttempts
from tff_privacy_agg.learning.rounds.noise_restart import NoiseRestart
from tff_privacy_agg.learning.rounds.source import RoundResult, Rounds
from tff_privacy_agg.learning.run_directory import RunDirectory
from tff_privacy_agg.learning.run_identity import identity_of
from tff_privacy_agg.learning.statement_release import StatementReleaseManager
from tff_privacy_agg.ledger import PrivacyLedger

BUDGET_SPENT = 'the privacy budget is spent'


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingResult:
  """Result of a training.

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingLoop:
  """A training over local or served rounds.

  Attributes:
    process: A process with TFF computations `initialize` and `next`.
    source: Where its rounds run.
    rounds: Rounds in all; at least 1.
    evaluate: From the model weights (for a process that has none: from the state) to metrics.
    directory: Where the files go, and from where a training resumes; None leaves no files.
    ledger: Record of what every round may have revealed. By default, a process from
      `build_private_learning_process` keeps one in the run directory.
    managers: Take each round's flat metrics.
    report: Takes each line of progress.
  """

  process: Any
  source: Rounds
  rounds: int
  evaluate: Callable[[Any], Mapping[str, float]] | None = None
  directory: RunDirectory | None = None
  ledger: PrivacyLedger | None = None
  managers: Sequence[compat.ReleaseManager] = ()
  report: Callable[[str], None] = print

  def run(self) -> TrainingResult:
    """Trains to the last round, or until the budget is spent.

    Raises:
      ConfigurationError: If the ledger counts on what the sums do not keep, or the run directory
        holds another training; nothing is charged then.
      LedgerError: If practice breaks what the ledger claims.
      SecAggError: If a round had no sum in any of its sessions: `ATTEMPTS`, and one more for each
        client of the round that may drop out. Each is charged, unless it is known to have
        released nothing.
    """
    self.check()
    with contextlib.ExitStack() as stack:
      if self.directory is not None:
        stack.enter_context(self.directory.locked())
      opened = self._with_ledger(stack)
      result = opened._train()
    reason = 'the training is complete' if result.stopped is None else BUDGET_SPENT
    self.source.close(f'{reason}, after {result.rounds_done} of {counted(self.rounds, "round")}')
    return result

  def check(self) -> None:
    """Refuses before anything is charged what the ledger could not record as it claims."""
    _validate.at_least(1, rounds=self.rounds)
    facts = getattr(self.process, 'facts', None)
    if self.ledger is not None:
      if facts is not None:
        check_facts(facts, self.ledger.facts)
      facts = self.ledger.facts
    if facts is not None:
      check_limits(facts, self.source.limits)

  def _with_ledger(self, stack: contextlib.ExitStack) -> 'TrainingLoop':
    ledger, managers = self.ledger, list(self.managers)
    if self.directory is not None:
      if ledger is None and isinstance(self.process, PrivateLearningProcess):
        path = self.directory.path / 'ledger.jsonl'
        ledger = stack.enter_context(self.process.open_ledger(path))
      self.directory.write_privacy(None if ledger is None else ledger.facts)
      if ledger is not None:
        path = self.directory.path / 'tensorboard/privacy'
        managers.append(StatementReleaseManager(path, ledger))
    return dataclasses.replace(self, ledger=ledger, managers=managers)

  def _train(self) -> TrainingResult:
    self.report('compiling, the first round takes some seconds longer')
    state, done = self._begin()
    metrics: Mapping[str, Any] = {} if self.directory is None else self.directory.last_metrics()
    attempts = RoundAttempts(
      source=self.source, ledger=self.ledger, report=self.report, noise=self._noise
    )
    stopped, ran, first = None, 0, 0.0
    began = time.monotonic()
    for round_number in range(done + 1, self.rounds + 1):
      started = time.monotonic()
      try:
        self._check_budget(round_number, state)
        # The first round compiles, as long as it likes; its own line says how long it took.
        with (
          contextlib.nullcontext()
          if ran
          else announced(self.report, 'the first round', closing=False)
        ):
          result, cohort = attempts.run(round_number, state)
        if account_of(result.metrics).get('halted', False):
          raise BudgetExceededError('The process has spent its budget.')
      except BudgetExceededError as error:
        self.report(f'stopped before round {round_number}: {error}')
        stopped = 'budget'
        break
      state, ran = result.state, ran + 1
      metrics = self._metrics(result, cohort)
      seconds = time.monotonic() - started
      self._release(OrderedDict(metrics, seconds=seconds), state, round_number)
      # The first round compiles; the others tell how long the rest will take.
      first = first if ran > 1 else seconds
      mean = (time.monotonic() - began - first) / (ran - 1) if ran > 1 else seconds
      left = mean * (self.rounds - round_number)
      self.report(progress_line(round_number, self.rounds, metrics, seconds, left))
    return TrainingResult(
      state=state, metrics=metrics, rounds_run=ran, stopped=stopped, rounds_done=done + ran
    )

  def _begin(self) -> tuple[Any, int]:
    """The state to go on from, and the rounds behind it."""
    initial = self.process.initialize()
    if self.directory is None:
      return self._noise.state_of(initial, 0), 0
    state, done = self.directory.latest(initial, self.report)
    if self.ledger is not None and self.ledger.state.rounds < done:
      raise LedgerError(
        f'{self.directory.path} has a checkpoint of round {done}; {self.ledger.path.name} has '
        f'charged {counted(self.ledger.state.rounds, "round")} and would understate epsilon. '
        'Restore the ledger.'
      )
    found = {**identity_of(self.process, initial), **self.source.identity}
    for line in self.directory.begin(found, rounds=self.rounds, after=done):
      self.report(line)
    if state is None:
      return self._noise.state_of(initial, 0), 0
    cut = '; a round that was cut off runs again and stays charged' if done < self.rounds else ''
    self.report(f'resuming after round {done}{cut}')
    return self._noise.state_of(state, done), done

  @property
  def _noise(self) -> NoiseRestart:
    return NoiseRestart(process=self.process, ledger=self.ledger, report=self.report)

  def _check_budget(self, round_number: int, state: Any) -> None:
    """Ends the training before clients are asked, if the budget is known to be spent."""
    if account_of({'aggregator': getattr(state, 'aggregator', None)}).get('halted', False):
      raise BudgetExceededError('The process has spent its budget.')
    if self.ledger is not None:
      # Whoever takes part: a cohort can only make it dearer.
      self.ledger.check_budget(round_number, most=self.ledger.state.most)

  def _metrics(self, result: RoundResult, cohort: Sequence[str]) -> Mapping[str, Any]:
    metrics: OrderedDict[str, Any] = OrderedDict()
    if self.evaluate is not None:
      weights = getattr(self.process, 'get_model_weights', lambda state: state)(result.state)
      metrics.update(self.evaluate(weights))
    metrics.update(flatten(result.metrics.get('aggregator') or {}))
    trained = (result.metrics.get('client_work') or {}).get('train') or {}
    metrics.update(flatten(trained, 'train/'))
    metrics['survivors'] = len(cohort) if result.survivors is None else result.survivors
    if self.ledger is not None:
      metrics['ledger/epsilon'] = self.ledger.epsilon('server')
      metrics['ledger/release_epsilon'] = self.ledger.epsilon('release')
      metrics['ledger/complete'] = self.ledger.complete
    return metrics

  def _release(self, metrics: Mapping[str, Any], state: Any, round_number: int) -> None:
    if self.directory is not None:
      # Released first: a checkpoint then always has its line in the metrics.
      self.directory.release(metrics, round_number)
      self.directory.save(state, round_number)
    # Last: a tracking server that fails does not cost the round, whose state is kept.
    for manager in self.managers:
      asyncio.run(manager.release(metrics, round_number))

"""Scores of canaries round by round, and the bounds on epsilon that follow."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.audit import one_run, one_shot
from tff_privacy_agg.audit.canaries import Canaries, flat_weights
from tff_privacy_agg.errors import ConfigurationError

# One-shot and one-run: the error that the stated confidence allows is divided between them.
_BOUNDS = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class CanaryResult:
  """Result of the canaries of one training.

  Attributes:
    lower: The larger of two lower bounds on epsilon, that of `all_iterates` and that of
      `one_run`; each is taken at half the error, so both hold at `confidence`.
    confidence: Of `lower`.
    delta: Of every epsilon here.
    all_iterates: Estimate for an attacker who sees the model after every round.
    final_model: Estimate for one who sees the last model only.
    one_run: Bound for all iterates that holds for every mechanism.
    rounds: Rounds observed.
    appearances: Mean number of rounds in which a canary was in the cohort.
    absent_mean: Mean score of the canaries that were left out, in units of `1 / sqrt(d)`;
      about 0.
    absent_stddev: Its standard deviation in that unit; about 1.
    seconds_scoring: Time that the scores took.
  """

  lower: float
  confidence: float
  delta: float
  all_iterates: one_shot.OneShotEstimate
  final_model: one_shot.OneShotEstimate
  one_run: one_run.OneRunBound
  rounds: int
  appearances: float
  absent_mean: float
  absent_stddev: float
  seconds_scoring: float

  def exceeds(self, epsilon: float) -> bool:
    """Whether the training leaked more than a claim allows, at `confidence`."""
    return self.lower > epsilon


class CanaryAudit:
  """Collects the scores of canaries while a training runs.

  For a training loop of one's own: build the process from `with_canaries(model_fn)`, give
  it `Canaries.dataset` for canaries and `mark_ordinary` for the others, and call `observe`
  after every round. The canaries take places in the cohorts; nothing else changes.

  Args:
    canaries: The canaries.
    initial: The first model's weights.
  """

  def __init__(self, canaries: Canaries, initial: tff.learning.models.ModelWeights):
    self._canaries = canaries
    self._first = self._last = flat_weights(initial)
    self._directions = canaries.directions(len(self._first))
    # Of each canary: the sum of the unit vectors along the model's changes in its rounds.
    self._sums = np.zeros_like(self._directions)
    self._cosines: list[np.ndarray] = []
    self._took_part: list[np.ndarray] = []
    self._seconds = 0.0

  def observe(self, cohort: Sequence[str], weights: tff.learning.models.ModelWeights) -> None:
    """Scores one round.

    Args:
      cohort: Who took part.
      weights: The model after the round.
    """
    started = time.process_time()
    now = flat_weights(weights)
    took_part = np.zeros(self._canaries.count, np.bool_)
    took_part[self._canaries.numbers(cohort)] = True
    self._took_part.append(took_part)
    change = now - self._last
    self._cosines.append(one_shot.cosines(self._directions, change))
    norm = np.linalg.norm(change)
    if norm > 0:
      self._sums[took_part] += (change / norm).astype(np.float32)
    self._last = now
    self._seconds += time.process_time() - started

  def result(self, *, delta: float, confidence: float = 0.95) -> CanaryResult:
    """The bounds after the rounds observed so far.

    Args:
      delta: Strictly between 0 and 1: that of the claim.
      confidence: Strictly between 0 and 1.

    Raises:
      ConfigurationError: If too few canaries took part.
    """
    _validate.fraction(delta=delta, confidence=confidence)
    if not self._cosines:
      raise ConfigurationError(
        'There is no observed round to score canaries by. Call `observe` after every round.'
      )
    started = time.process_time()
    took_part = np.stack(self._took_part)
    drawn = took_part.any(axis=0)
    included = self._canaries.included
    present, absent = int((drawn & included).sum()), int((drawn & ~included).sum())
    if present < one_shot.FEWEST_CANARIES or absent < 2:
      raise ConfigurationError(
        f'{self._canaries.count} canaries were added; in {len(took_part)} rounds {present} that '
        f'were included and {absent} that were left out were drawn, and it takes '
        f'{one_shot.FEWEST_CANARIES} and 2. Add canaries or rounds, or enlarge the cohorts.'
      )
    lengths = np.linalg.norm(self._sums, axis=1)
    scores = one_shot.combine_rounds(np.stack(self._cosines), took_part, lengths=lengths)
    final = one_shot.cosines(self._directions, self._last - self._first)
    each = 1 - (1 - confidence) / _BOUNDS
    dimension = len(self._first)
    keywords: Mapping[str, Any] = {'dimension': dimension, 'delta': delta, 'confidence': each}
    all_iterates = one_shot.estimate_epsilon(scores[drawn & included], **keywords)
    bound = one_run.one_run_lower_bound(
      scores[drawn], included[drawn], delta=delta, confidence=each
    )
    null = scores[drawn & ~included] * math.sqrt(dimension)
    return CanaryResult(
      lower=max(all_iterates.lower, bound.lower),
      confidence=confidence,
      delta=delta,
      all_iterates=all_iterates,
      final_model=one_shot.estimate_epsilon(final[drawn & included], **keywords),
      one_run=bound,
      rounds=len(took_part),
      appearances=float(took_part.sum(axis=0).mean()),
      absent_mean=float(null.mean()),
      absent_stddev=float(null.std(ddof=1)),
      seconds_scoring=self._seconds + time.process_time() - started,
    )


@_validate.plain_numbers
def run_with_canaries(
  process: tff.learning.templates.LearningProcess,
  canaries: Canaries,
  *,
  dataset_of: Callable[[str], tf.data.Dataset],
  cohort_of: Callable[[int], Sequence[str]],
  rounds: int,
  observe_round: Callable[[int, Mapping[str, Any]], None] = lambda number, metrics: None,
) -> CanaryAudit:
  """Runs a training with canaries among its clients; its models are not kept.

  Args:
    process: Built from `with_canaries(model_fn)`.
    canaries: The canaries.
    dataset_of: From a client's identity, a canary's too, to its marked batches.
    cohort_of: From a round's number, 1 and up, to the identities of its cohort.
    rounds: At least 1.
    observe_round: Called after each round with its number and its metrics.

  Returns:
    The audit, for `result`.
  """
  _validate.at_least(1, rounds=rounds)
  state = process.initialize()
  audit = CanaryAudit(canaries, process.get_model_weights(state))
  for number in range(1, rounds + 1):
    cohort = list(cohort_of(number))
    output = process.next(state, [dataset_of(client) for client in cohort])
    state = output.state
    audit.observe(cohort, process.get_model_weights(state))
    observe_round(number, output.metrics)
  return audit

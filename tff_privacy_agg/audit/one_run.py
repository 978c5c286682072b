"""A valid lower bound on epsilon from one run with canaries left in or out by a coin."""

import dataclasses
import math

import numpy as np
from scipy import special

from tff_privacy_agg import _validate
from tff_privacy_agg.audit import intervals
from tff_privacy_agg.errors import ConfigurationError

_PRECISION = 1e-6
_LARGEST_EPSILON = 700.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRunBound:
  """Result of `one_run_lower_bound`.

  Attributes:
    lower: Epsilon is at least this, in nats.
    confidence: With this confidence.
    delta: At this delta.
    canaries: Canaries in all, included or not.
    guesses: Canaries of which a guess was made; it abstained from the others.
    correct: Right guesses.
    candidates: Numbers of guesses that were tried, and paid for.
  """

  lower: float
  confidence: float
  delta: float
  canaries: int
  guesses: int
  correct: int
  candidates: int


@_validate.plain_numbers
def one_run_p_value(
  *, canaries: int, guesses: int, correct: int, epsilon: float, delta: float
) -> float:
  """Chance of so many right guesses at most, if the mechanism is `(epsilon, delta)` private.

  `P[W >= v] + 2 m delta max_i P[v > W >= v - i] / i` for W binomial with `r`
  trials of `e^epsilon / (1 + e^epsilon)`; arXiv:2305.08846, Theorem 5.2. The average
  over the last i terms rises with i until the next term is below it, so the
  maximum is found by bisection.

  Args:
    canaries: `m`, each included by a fair coin of its own, at least 1.
    guesses: `r`, at most `canaries`.
    correct: `v`, at most `guesses`.
    epsilon: In nats, at least 0.
    delta: In [0, 1).

  Examples:
    >>> f'{tpa.audit.one_run_p_value(canaries=100, guesses=100, correct=90, epsilon=1.0, delta=0.0):.1e}'
    '2.7e-05'
  """
  _validate.at_least(1, canaries=canaries)
  _validate.at_least(0, guesses=guesses, correct=correct)
  _validate.non_negative(epsilon=epsilon, delta=delta)
  if not correct <= guesses <= canaries:
    raise ConfigurationError(
      f'At most all of {canaries} canaries can be guessed, and at most all of these rightly; got '
      f'{guesses} guesses, {correct} right. Count again.'
    )
  q = 1 / (1 + math.exp(-min(epsilon, _LARGEST_EPSILON)))
  beta = _survival(correct, guesses, q)
  if delta == 0 or correct == 0:
    return min(1.0, beta)

  def average(i: int) -> float:
    return (_survival(correct - i, guesses, q) - beta) / i

  low, high = 1, correct
  while low < high:
    middle = (low + high) // 2
    if _mass(correct - middle - 1, guesses, q) > average(middle):
      low = middle + 1
    else:
      high = middle
  return min(1.0, beta + 2 * canaries * delta * average(low))


@_validate.plain_numbers
def one_run_lower_bound(
  scores: np.ndarray,
  included: np.ndarray,
  *,
  delta: float = 0.0,
  confidence: float = 0.95,
  seed: int = 0,
) -> OneRunBound:
  """Lower bound on epsilon from canaries that were each included by a fair coin.

  Canaries with the highest scores are guessed to be included, as many with the lowest
  (or none) to be left out; of the rest no guess is made. Numbers of guesses are
  tried by powers of two, and the error is divided among all of them
  (Bonferroni), so the best may be taken. Valid for every mechanism, whatever the scores
  are, if only the coins were fair, independent and unknown to the score.

  Args:
    scores: `[m]`, one for each canary; the higher, the likelier it was included.
    included: `[m]`, booleans: what the coins said.
    delta: Delta of the claim, in [0, 1).
    confidence: Strictly between 0 and 1.
    seed: Of the order among equal scores, which must not follow the coins.

  Returns:
    The bound; `lower` is 0 where nothing was proved.

  Raises:
    ConfigurationError: If there are too few canaries to prove anything.

  Examples:
    >>> included = np.arange(200) % 2 == 0
    >>> round(tpa.audit.one_run_lower_bound(1.0 * included, included).lower, 2)
    3.62
  """
  _validate.fraction(confidence=confidence)
  scores = intervals.scores(scores=scores)
  included = np.asarray(included)
  if included.shape != scores.shape or included.dtype != np.bool_:
    raise ConfigurationError(
      f'`included` must be a boolean for each of the {len(scores)} scores, got {included.dtype} '
      f'of shape {included.shape}. Give the coins in the order of the scores.'
    )
  candidates = _candidates(len(scores))
  significance = (1 - confidence) / len(candidates)
  if 0.5 ** len(scores) >= significance:
    raise ConfigurationError(
      f'{len(scores)} canaries prove nothing at a confidence of {confidence:g}, even if every guess '
      f'is right. Take at least {_fewest(confidence)}; see `canaries_for_bound` for a bound that '
      'is worth having.'
    )
  order = np.random.default_rng(seed).permutation(len(scores))
  order = order[np.argsort(-scores[order], kind='stable')]
  hits_above = np.concatenate([[0], np.cumsum(included[order])])
  hits_below = np.concatenate([[0], np.cumsum(~included[order[::-1]])])
  best = (-1.0, 0, 0)
  for above, below in candidates:
    correct = int(hits_above[above] + hits_below[below])
    lower = _largest_refuted(len(scores), above + below, correct, delta, significance)
    best = max(best, (lower, above + below, correct))
  return OneRunBound(
    lower=best[0],
    confidence=confidence,
    delta=delta,
    canaries=len(scores),
    guesses=best[1],
    correct=best[2],
    candidates=len(candidates),
  )


@_validate.plain_numbers
def canaries_for_bound(epsilon: float, *, confidence: float = 0.95) -> int:
  """Canaries that `one_run_lower_bound` needs to reach `epsilon` if every guess is right.

  Examples:
    >>> tpa.audit.canaries_for_bound(3.0)
    105
  """
  _validate.positive(epsilon=epsilon)
  _validate.fraction(confidence=confidence)
  high = _fewest(confidence)

  def reached(count: int) -> float:
    significance = (1 - confidence) / len(_candidates(count))
    return _largest_refuted(count, count, count, 0.0, significance)

  low = 1
  while reached(high) < epsilon:
    low, high = high, 2 * high
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (low, middle) if reached(middle) >= epsilon else (middle, high)
  return high


def _candidates(canaries: int) -> list[tuple[int, int]]:
  """Guesses from above and from below: all, then by powers of two; both ends, then one."""
  found = []
  count = canaries
  while count >= min(8, canaries):
    found += [(count - count // 2, count // 2), (count - count // 2, 0)]
    count //= 2
  return found


def _fewest(confidence: float) -> int:
  count = 2
  while 0.5**count >= (1 - confidence) / len(_candidates(count)):
    count += 1
  return count


def _largest_refuted(
  canaries: int, guesses: int, correct: int, delta: float, significance: float
) -> float:
  """Largest epsilon whose p-value is below the significance; 0 if there is none."""

  def refuted(epsilon: float) -> bool:
    p_value = one_run_p_value(
      canaries=canaries, guesses=guesses, correct=correct, epsilon=epsilon, delta=delta
    )
    return p_value < significance

  if not refuted(0.0):
    return 0.0
  low, high = 0.0, 1.0
  while high < _LARGEST_EPSILON and refuted(high):
    low, high = high, 2 * high
  while high - low > _PRECISION:
    middle = 0.5 * (low + high)
    low, high = (middle, high) if refuted(middle) else (low, middle)
  return low


def _survival(v: int, trials: int, q: float) -> float:
  """P[W >= v]."""
  if v <= 0:
    return 1.0
  return float(special.betainc(v, trials - v + 1, q)) if v <= trials else 0.0


def _mass(v: int, trials: int, q: float) -> float:
  """P[W = v]."""
  if v < 0:
    return 0.0
  log_choices = -special.betaln(v + 1, trials - v + 1) - math.log(trials + 1)
  return math.exp(log_choices + special.xlogy(v, q) + special.xlog1py(trials - v, -q))

"""Confidence intervals of rates, and the epsilon that two rates prove."""

import dataclasses
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Interval:
  """A number with a two-sided confidence interval.

  Attributes:
    value: The estimate.
    low: Lower end.
    high: Upper end.
  """

  value: float
  low: float
  high: float


def rate_lower(successes: int, trials: int, confidence: float) -> float:
  """One-sided lower Clopper-Pearson bound of a rate: the exact one of the binomial distribution.

  Args:
    successes: 0 to `trials`.
    trials: At least 1.
    confidence: Strictly between 0 and 1.
  """
  _check(successes, trials, confidence)
  if successes == 0:
    return 0.0
  return float(special.betaincinv(successes, trials - successes + 1, 1 - confidence))


def rate_upper(successes: int, trials: int, confidence: float) -> float:
  """One-sided upper Clopper-Pearson bound of a rate; arguments as for `rate_lower`."""
  _check(successes, trials, confidence)
  if successes == trials:
    return 1.0
  return float(special.betaincinv(successes + 1, trials - successes, confidence))


@_validate.plain_numbers
def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
  """Two-sided Clopper-Pearson interval of a rate; arguments as for `rate_lower`.

  Examples:
    >>> found = tpa.audit.clopper_pearson(9, 10)
    >>> round(found.low, 3), found.value, round(found.high, 3)
    (0.555, 0.9, 0.997)
  """
  _validate.fraction(confidence=confidence)
  side = 0.5 * (1 + confidence)
  return Interval(
    value=successes / max(trials, 1),
    low=rate_lower(successes, trials, side),
    high=rate_upper(successes, trials, side),
  )


@_validate.plain_numbers
def epsilon_from_rates(
  *,
  true_positives: int,
  members: int,
  false_positives: int,
  non_members: int,
  delta: float,
  confidence: float = 0.95,
) -> float:
  """Lower bound on epsilon from a test that says 'member' at a threshold fixed beforehand.

  `(epsilon, delta)` privacy holds any test to `TPR <= e^epsilon FPR + delta` and
  `1 - FPR <= e^epsilon (1 - TPR) + delta`; the rates are replaced by their
  Clopper-Pearson bounds, each at half the error (arXiv:2006.07709, section 3).
  The trials must be independent: one training each, or one of the many of a
  mechanism that treats them independently.

  Args:
    true_positives: Members that the test called members.
    members: Trials with a member, at least 1.
    false_positives: Non-members that the test called members.
    non_members: Trials without, at least 1.
    delta: Delta of the claim, in [0, 1).
    confidence: Strictly between 0 and 1.

  Returns:
    Epsilon in nats, at least 0.

  Examples:
    >>> round(
    ...   tpa.audit.epsilon_from_rates(
    ...     true_positives=90, members=100, false_positives=5, non_members=100, delta=1e-5
    ...   ),
    ...   2,
    ... )
    1.99
  """
  _validate.fraction(confidence=confidence)
  _validate.non_negative(delta=delta)
  side = 0.5 * (1 + confidence)
  ratios = [
    (rate_lower(true_positives, members, side), rate_upper(false_positives, non_members, side)),
    (
      rate_lower(non_members - false_positives, non_members, side),
      rate_upper(members - true_positives, members, side),
    ),
  ]
  return max(0.0, *(math.log((hit - delta) / miss) for hit, miss in ratios if hit > delta))


@_validate.plain_numbers
def auc_interval(
  members: np.ndarray, non_members: np.ndarray, confidence: float = 0.95
) -> Interval:
  """Area under the ROC curve with DeLong's interval, cut at 0 and 1.

  The area is the chance that a member's score exceeds a non-member's, ties
  counting half. Its variance comes from the placements of every score among
  those of the other kind (DeLong, DeLong and Clarke-Pearson, Biometrics 1988).

  Args:
    members: Scores of members, `[n]`, n >= 2; the higher, the likelier a member.
    non_members: Scores of non-members, `[m]`, m >= 2.
    confidence: Strictly between 0 and 1.

  Examples:
    >>> tpa.audit.auc_interval(np.arange(20.0) + 5, np.arange(20.0)).value
    0.71875
  """
  _validate.fraction(confidence=confidence)
  members, non_members = scores(members=members), scores(non_members=non_members)
  of_members = _placements(members, non_members)
  of_others = 1 - _placements(non_members, members)
  area = float(of_members.mean())
  variance = of_members.var(ddof=1) / len(members) + of_others.var(ddof=1) / len(non_members)
  half = float(special.ndtri(0.5 * (1 + confidence)) * math.sqrt(variance))
  return Interval(value=area, low=max(0.0, area - half), high=min(1.0, area + half))


def scores(**values: ArrayLike) -> np.ndarray:
  """The only argument as float64 `[n]`, n >= 2; raises where it is not finite numbers."""
  ((name, value),) = values.items()
  array = np.asarray(value, np.float64)
  if array.ndim != 1 or len(array) < 2 or not np.all(np.isfinite(array)):
    raise ConfigurationError(
      f'`{name}` must hold two or more finite numbers in one dimension, got shape {array.shape}'
      f'{"" if np.all(np.isfinite(array)) else " with values that are not finite"}. '
      'Give one score for each; a model that cannot score an example cannot be audited on it.'
    )
  return array


def _placements(these: np.ndarray, others: np.ndarray) -> np.ndarray:
  """Fraction of `others` below each of `these`, ties counting half."""
  ordered = np.sort(others)
  below = np.searchsorted(ordered, these, side='left')
  up_to = np.searchsorted(ordered, these, side='right')
  return 0.5 * (below + up_to) / len(others)


def _check(successes: int, trials: int, confidence: float) -> None:
  _validate.at_least(1, trials=trials)
  _validate.at_least(0, successes=successes)
  _validate.fraction(confidence=confidence)
  if successes > trials:
    raise ConfigurationError(
      f'`successes` must be at most `trials`, got {successes} of {trials}. Count again.'
    )

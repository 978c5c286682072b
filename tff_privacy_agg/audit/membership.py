"""Membership inference: was this example, or this client, among those that trained the model?"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.audit import intervals
from tff_privacy_agg.audit.intervals import Interval
from tff_privacy_agg.errors import ConfigurationError

FALSE_POSITIVE_RATES = (0.001, 0.01)
_FEWEST_SHADOWS = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class MembershipResult:
  """Success of an attack at telling members from others.

  Attributes:
    auc: Area under the ROC curve; 0.5 for a guess.
    tpr_at: True positive rate by false positive rate, with Clopper-Pearson intervals at the
      threshold that the non-members set; None where there are too few of them.
    members: Members scored.
    non_members: Others scored.
  """

  auc: Interval
  tpr_at: Mapping[float, Interval | None]
  members: int
  non_members: int


@_validate.plain_numbers
def measure_attack(
  members: np.ndarray,
  non_members: np.ndarray,
  *,
  confidence: float = 0.95,
  rates: Sequence[float] = FALSE_POSITIVE_RATES,
) -> MembershipResult:
  """Area under the curve, and true positives at low false positive rates.

  A false positive rate r needs at least 1/r non-members; where there are fewer no rate
  is stated. Scores of one model are not independent, so the intervals speak of further
  examples for this model, not of further models.

  Args:
    members: Scores of members, `[n]`; the higher, the likelier a member.
    non_members: Scores of others, `[m]`.
    confidence: Strictly between 0 and 1.
    rates: False positive rates.

  Examples:
    >>> tpa.audit.measure_attack(np.arange(20.0) + 5, np.arange(20.0)).auc.value
    0.71875
  """
  _validate.fraction(confidence=confidence)
  members = intervals.scores(members=members)
  non_members = np.sort(intervals.scores(non_members=non_members))[::-1]
  found: dict[float, Interval | None] = {}
  for rate in rates:
    _validate.fraction(false_positive_rate=rate)
    # A rate below 1 lets at least one non-member not pass, however near to 1 it is.
    admitted = min(math.floor(rate * len(non_members) + 1e-9), len(non_members) - 1)
    found[rate] = None
    if admitted >= 1:
      # Strictly above the first non-member that must not pass.
      threshold = non_members[admitted]
      hits = int(np.sum(members > threshold))
      found[rate] = intervals.clopper_pearson(hits, len(members), confidence)
  return MembershipResult(
    auc=intervals.auc_interval(members, non_members, confidence),
    tpr_at=found,
    members=len(members),
    non_members=len(non_members),
  )


def label_margins(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """`log p / (1 - p)` of the true label, `[n]`: about normal, so LiRA's statistic.

  It is a monotone function of the loss: attacking it by a threshold is the loss attack.

  Args:
    logits: `[n, classes]`, finite.
    labels: `[n]`, integers.

  Examples:
    >>> tpa.audit.label_margins(np.array([[2.0, 0.5, 1.0]]), np.array([0])).round(3)
    array([0.526])
  """
  logits = np.asarray(logits, np.float64)
  labels = np.asarray(labels)
  if logits.ndim != 2 or labels.shape != logits.shape[:1] or not np.all(np.isfinite(logits)):
    raise ConfigurationError(
      f'Scores need finite logits [n, classes] and labels [n]; got {logits.shape} and '
      f'{labels.shape}. A model that gives no such logits cannot be attacked this way.'
    )
  rows = np.arange(len(labels))
  others = logits.copy()
  others[rows, labels] = -np.inf
  top = others.max(axis=1)
  rest = top + np.log(np.exp(others - top[:, None]).sum(axis=1))
  return logits[rows, labels] - rest


def offline_lira(
  target: np.ndarray, shadows: np.ndarray, trained_on: np.ndarray | None = None
) -> np.ndarray:
  """Offline likelihood-ratio scores, `[n]`; arXiv:2112.03570, section VI.C.

  `(target - mean) / stddev` over the shadow models that were not trained on the
  example. One deviation for all examples, as the paper advises for few models.

  Args:
    target: Scores of the attacked model, `[n]`, from `label_margins`.
    shadows: Scores of shadow models of the same examples, `[m, n]`, m >= 4.
    trained_on: `[m, n]` booleans: which shadows saw which example; None if none did.

  Examples:
    >>> shadows = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    >>> tpa.audit.offline_lira(np.array([4.0, 1.5]), shadows).round(2)
    array([1.94, 0.  ])
  """
  target = intervals.scores(target=target)
  shadows = np.asarray(shadows, np.float64)
  out = ~np.asarray(np.zeros(shadows.shape) if trained_on is None else trained_on, np.bool_)
  if shadows.ndim != 2 or shadows.shape[1:] != target.shape or out.shape != shadows.shape:
    raise ConfigurationError(
      f'`shadows` must be [models, {len(target)}], and `trained_on` too; got {shadows.shape} and '
      f'{out.shape}. Score the same examples with every model.'
    )
  models = out.sum(axis=0)
  if models.min() < _FEWEST_SHADOWS:
    raise ConfigurationError(
      f'Every example needs {_FEWEST_SHADOWS} shadow models that did not see it; one has '
      f'{models.min()}. Train more shadow models.'
    )
  mean = np.sum(shadows * out, axis=0) / models
  squares = np.sum((shadows - mean) ** 2 * out) / np.sum(models - 1)
  return (target - mean) / math.sqrt(max(squares, 1e-12))


def client_scores(scores: np.ndarray, owners: np.ndarray) -> np.ndarray:
  """The mean score of each client's examples: whether the client took part.

  Args:
    scores: Of examples, `[n]`.
    owners: The client of each, `[n]`, integers from 0.

  Returns:
    float64 `[clients]`.

  Examples:
    >>> tpa.audit.client_scores(np.array([1.0, 3.0, 5.0]), np.array([0, 0, 1]))
    array([2., 5.])
  """
  scores, owners = intervals.scores(scores=scores), np.asarray(owners, np.int64)
  counts = np.bincount(owners, minlength=1)
  if owners.shape != scores.shape or np.any(counts == 0):
    raise ConfigurationError(
      f'`owners` must give every one of {len(scores)} examples a client, and every client an '
      'example. Number the clients from 0.'
    )
  return np.bincount(owners, weights=scores) / counts

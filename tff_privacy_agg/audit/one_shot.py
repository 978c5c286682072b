"""The one-shot estimate of epsilon from random canary directions; arXiv:2302.03098."""

import dataclasses
import math

import numpy as np
from scipy import special, stats

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting import gaussian_epsilon
from tff_privacy_agg.audit import intervals
from tff_privacy_agg.audit.gaussian_pair import gaussian_pair_epsilon
from tff_privacy_agg.errors import ConfigurationError

FEWEST_CANARIES = 10
_FEWEST_DIMENSIONS = 100


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotEstimate:
  """Estimate of epsilon from the cosines of canaries.

  The bounds hold for a mechanism whose noise is (about) Gaussian, as sums of many
  clients' shares are; `one_run_lower_bound` holds for every mechanism.

  Attributes:
    epsilon: The estimate: epsilon of two normal distributions of one variance, as of the Gaussian
      mechanism are, at the distance that was measured.
    fitted_epsilon: Algorithm 2 of the paper: the same with the variance of the
      cosines as measured; with few canaries its error weighs heavily.
    lower: Lower confidence bound of epsilon.
    upper: Upper confidence bound of what this statistic can show; no bound on epsilon.
    confidence: Of each bound, one-sided.
    delta: Of these epsilons.
    canaries: Included canaries.
    dimension: Coordinates of the model.
    mean: Mean of the cosines in units of `1 / sqrt(dimension)`.
    stddev: Their standard deviation in the same unit; 1 for directions that were not there.
  """

  epsilon: float
  fitted_epsilon: float
  lower: float
  upper: float
  confidence: float
  delta: float
  canaries: int
  dimension: int
  mean: float
  stddev: float


def cosines(directions: np.ndarray, observed: np.ndarray) -> np.ndarray:
  """Cosines of canary directions with what the attacker observed.

  Args:
    directions: Unit vectors, `[k, d]`.
    observed: `[d]`: the final model less its start, or one round's change.

  Returns:
    float64 `[k]`; zeros where nothing changed.

  Examples:
    >>> tpa.audit.cosines(np.eye(3)[:2], np.array([3.0, 0.0, 4.0]))
    array([0.6, 0. ])
  """
  directions = np.asarray(directions, np.float64)
  observed = np.asarray(observed, np.float64)
  if directions.ndim != 2 or observed.shape != directions.shape[1:]:
    raise ConfigurationError(
      f'Directions of shape [k, d] are compared with a vector [d]; got {directions.shape} and '
      f'{observed.shape}. Flatten the model in the order of the directions.'
    )
  norm = np.linalg.norm(observed)
  if not np.isfinite(norm):
    raise ConfigurationError(
      'Cannot score a model with weights that are not finite. Audit a training that has not '
      'diverged.'
    )
  return directions @ observed / norm if norm > 0 else np.zeros(len(directions))


def combine_rounds(
  per_round: np.ndarray,
  took_part: np.ndarray,
  how: str = 'sum',
  *,
  lengths: np.ndarray | None = None,
) -> np.ndarray:
  """One score for each canary from its cosines with every round's change.

  Args:
    per_round: Cosines, `[T, k]`.
    took_part: `[T, k]` booleans: in which rounds a canary was in the cohort, which the server
      knows.
    how: 'sum': over the rounds of a canary, divided by `lengths`, so that directions that were
      not there keep the distribution N(0, 1/d); what a client leaks in all its rounds adds up.
      'max': the largest of these
      cosines, as in Algorithm 3 of the paper; its distribution without the canary is not
      that normal one, so `estimate_epsilon` needs `absent`.
    lengths: `[k]`: the norm of the sum of the unit vectors along the changes in a canary's
      rounds. None takes the square root of their number, which it is if the changes of
      different rounds are orthogonal, as noise is. With a server's momentum they are not.

  Returns:
    float64 `[k]`; zero for a canary that was in no round.

  Examples:
    >>> tpa.audit.combine_rounds(np.array([[0.1], [0.3]]), np.array([[True], [True]])).round(3)
    array([0.283])
  """
  _validate.one_of(('sum', 'max'), how=how)
  values = np.asarray(per_round, np.float64)
  took_part = np.asarray(took_part, np.bool_)
  if values.ndim != 2 or took_part.shape != values.shape:
    raise ConfigurationError(
      f'`per_round` and `took_part` must both be [rounds, canaries], got {values.shape} and '
      f'{took_part.shape}.'
    )
  rounds = took_part.sum(axis=0)
  norms = np.sqrt(rounds) if lengths is None else np.asarray(lengths, np.float64)
  if norms.shape != rounds.shape:
    raise ConfigurationError(
      f'`lengths` must have one number for each of {len(rounds)} canaries, got {norms.shape}.'
    )
  if how == 'max':
    return np.where(rounds > 0, np.max(np.where(took_part, values, -np.inf), axis=0), 0.0)
  sums = np.sum(values * took_part, axis=0)
  return np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)


@_validate.plain_numbers
def estimate_epsilon(
  scores: np.ndarray,
  *,
  dimension: int,
  delta: float,
  confidence: float = 0.95,
  absent: np.ndarray | None = None,
) -> OneShotEstimate:
  """Epsilon from the cosines of canaries that took part.

  A direction that was not there has a cosine of distribution N(0, 1/d) (arXiv:2302.03098,
  section 3). With noise of deviation `sigma` a coordinate the cosines of included unit
  canaries have the distribution N(1/(sigma sqrt(d)), 1/d) for large d: the estimate is that of
  the Gaussian mechanism. The interval is Student's for the mean.

  Args:
    scores: Cosines of the included canaries, `[k]`, from `cosines` or `combine_rounds`.
    dimension: Coordinates of the vectors, at least 100.
    delta: Strictly between 0 and 1.
    confidence: Of each of the two bounds, strictly between 0 and 1.
    absent: Scores of directions that were not there, `[n]`, where their law is not
      N(0, 1/dimension).

  Raises:
    ConfigurationError: With fewer than ten canaries or a hundred coordinates.

  Examples:
    >>> scores = np.random.default_rng(0).normal(0.02, 0.01, 50)
    >>> found = tpa.audit.estimate_epsilon(scores, dimension=10_000, delta=1e-5)
    >>> round(found.epsilon, 1), round(found.lower, 1)
    (10.8, 9.5)
  """
  _validate.fraction(delta=delta, confidence=confidence)
  _validate.at_least(_FEWEST_DIMENSIONS, dimension=dimension)
  values = intervals.scores(scores=scores)
  if len(values) < FEWEST_CANARIES:
    raise ConfigurationError(
      f'An estimate needs {FEWEST_CANARIES} included canaries, got {len(values)}. Add canaries, or '
      'rounds in which they are drawn; see `canaries_for_resolution`.'
    )
  shift, unit = 0.0, 1 / math.sqrt(dimension)
  if absent is not None:
    others = intervals.scores(absent=absent)
    shift, unit = float(others.mean()), float(others.std(ddof=1))
  values = (values - shift) / unit
  mean, stddev = float(values.mean()), float(values.std(ddof=1))
  half = float(stats.t.ppf(confidence, len(values) - 1)) * stddev / math.sqrt(len(values))
  return OneShotEstimate(
    epsilon=gaussian_epsilon(max(0.0, mean), delta),
    fitted_epsilon=gaussian_pair_epsilon((0.0, 1.0), (mean, stddev), delta),
    lower=gaussian_epsilon(max(0.0, mean - half), delta),
    upper=gaussian_epsilon(max(0.0, mean + half), delta),
    confidence=confidence,
    delta=delta,
    canaries=len(values),
    dimension=dimension,
    mean=mean,
    stddev=stddev,
  )


@_validate.plain_numbers
def canaries_for_resolution(
  epsilon: float, *, delta: float, resolution: float, confidence: float = 0.95
) -> int:
  """Canaries whose lower bound is expected within `resolution` of a true `epsilon`.

  The mean of k cosines errs by `1 / sqrt(k)` in units of `1 / sqrt(d)`.

  Args:
    epsilon: True epsilon, positive.
    delta: Strictly between 0 and 1.
    resolution: In nats, positive, below `epsilon`.
    confidence: Of the lower bound.

  Examples:
    >>> tpa.audit.canaries_for_resolution(8.0, delta=1e-5, resolution=1.0)
    89
  """
  _validate.positive(epsilon=epsilon, resolution=resolution)
  _validate.fraction(delta=delta, confidence=confidence)
  if resolution >= epsilon:
    raise ConfigurationError(
      f'`resolution` must be below `epsilon`, got {resolution!r} and {epsilon!r}. The bound is '
      'never below zero anyway.'
    )
  gap = _gaussian_mu(epsilon, delta) - _gaussian_mu(epsilon - resolution, delta)
  return max(FEWEST_CANARIES, math.ceil((float(special.ndtri(confidence)) / gap) ** 2))


def _gaussian_mu(epsilon: float, delta: float) -> float:
  """Inverse of `gaussian_epsilon` in mu."""
  low, high = 0.0, 1.0
  while gaussian_epsilon(high, delta) < epsilon:
    low, high = high, 2 * high
  for _ in range(60):
    middle = 0.5 * (low + high)
    low, high = (middle, high) if gaussian_epsilon(middle, delta) < epsilon else (low, middle)
  return high

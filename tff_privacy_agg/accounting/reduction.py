"""From a sum of discrete Gaussian shares to one continuous Gaussian: the reduction.

Discrete Gaussian noise of variance `V` on an integer vector is, up to a factor per coordinate, a
post-processing of continuous Gaussian noise of variance `V - t^2`, for every `0 < t^2 < V`:
draw the continuous noise, then round with a discrete Gaussian of variance `t^2` around it. The
statement, its proof and its conditions are in docs/proofs/discrete-gaussian.md.

Variances are in squared steps of the integer grid.
"""

import functools
import math

import numpy as np

from tff_privacy_agg import _validate

# Candidates for t^2 are multiples of 1/64, up to a size beyond which the factors are no news.
_GRID, _LARGEST = 64, 4.0
# Worth of mu^2 against the slack C1 + C2 of the same rounds. Epsilon grows by half to thirty times
# an addition to mu^2; any weight in that range chooses nearly the same t^2.
_WORTH = 2.0
# Floating-point sums of at most 10^6 terms are within this of the exact ones.
_ROUNDING = 1 + 1e-9
# Shares whose terms are added one by one. Terms fall: of more shares, all count as the first.
MOST_TERMS = 2**18


def lattice_gap(variance: float) -> float:
  """Bounds how far a Gaussian's sum over a shifted integer grid is from its integral.

  `w(s^2) = 2 sum_{k>=1} exp(-2 pi^2 s^2 k^2)`: by Poisson summation the sum over the
  integers `z` of `exp(-(z-y)^2 / 2 s^2)` is within a factor `1 +- w` of
  `sqrt(2 pi s^2)` for every real `y`.

  Args:
    variance: `s^2`, positive.

  Examples:
    >>> lattice_gap(2.0) < 2e-17
    True
  """
  return float(_gaps(np.array([variance]))[0])


def sum_slack(local_variance: float, shares: int) -> float:
  """Log of the factor per coordinate between a sum of shares and one discrete Gaussian.

  `h = sum_{k=1}^{shares-1} log((1 + w(v k/(k+1))) / (1 - w(v k/(k+1))))`; the same sum
  as in arXiv:2102.06387. Infinite where a `w` is 1 or more.

  Args:
    local_variance: `v`, variance parameter of one share, positive.
    shares: At least 1.
  """
  _validate.positive(local_variance=local_variance)
  _validate.at_least(1, shares=shares)
  added = min(shares, MOST_TERMS)
  block = 1 << max(added - 1, 1).bit_length()
  slack = float(_sum_slacks(float(local_variance), block)[added - 1])
  if shares == added:
    return slack
  return slack + (shares - added) * float(_terms(local_variance, np.array([added]))[0])


def coordinate_slack(
  local_variance: float, t_squared: float, *, fewest: int, most: int
) -> tuple[float, float]:
  """The logs (c1, c2) of the factors per coordinate: P <= e^c1 P' and Q >= e^-c2 Q'.

  P and Q are the sum's distributions on two neighbours, P' and Q' their images of the continuous
  Gaussian of variance `V - t^2`; here for every number of shares from `fewest` to `most`.

  Args:
    local_variance: `v`, variance parameter of one share, positive.
    t_squared: `t^2`, positive and below `V = fewest v`; else both are infinite.
    fewest: Fewest shares that nobody else knows, at least 1.
    most: Most of them, at least `fewest`.
  """
  variance = fewest * local_variance
  if not 0 < t_squared < variance:
    return math.inf, math.inf
  rounded, whole = lattice_gap(t_squared), lattice_gap(variance)
  summed = sum_slack(local_variance, most)
  if rounded >= 1 or whole >= 1 or math.isinf(summed):
    return math.inf, math.inf
  c1 = summed + math.log1p(rounded)  # less log(1 + w(V)), which no number here would show
  c2 = summed + math.log1p(whole) - math.log1p(-rounded)
  return c1 * _ROUNDING, c2 * _ROUNDING


def renyi(
  orders: np.ndarray, l2_squared: float, coordinates: int, local_variance: float, shares: int
) -> np.ndarray:
  """Renyi divergence of a sum of shares on two neighbours, shape of `orders`.

  `a l2^2 / (2V) + (2a - 1)/(a - 1) h` per coordinate: that of discrete Gaussians of the whole
  variance `V` (arXiv:2004.00010, Proposition 5), and the factor of the sum on either distribution.

  Args:
    orders: Real orders above 1.
    l2_squared: Largest squared norm of the difference of neighbours.
    coordinates: Coordinates in which they can differ.
    local_variance: `v`, variance parameter of one share, positive.
    shares: At least 1.
  """
  slack = sum_slack(local_variance, shares) * coordinates * _ROUNDING
  factor = (2 * orders - 1) / (orders - 1)
  return orders * l2_squared / (2 * shares * local_variance) + (factor * slack if slack else 0.0)


def choose_t_squared(
  *,
  l2_squared: float,
  coordinates: int,
  local_variance: float,
  fewest: int,
  most: int,
) -> float:
  """The `t^2` of a kind of round, from facts that are public before the first one.

  A small one costs slack on every coordinate, a large one leaves less of the variance. The one
  is taken that makes `mu^2` at the fewest shares and the slack at the most, which both
  grow with the rounds, least in total.

  Args:
    l2_squared: Largest squared norm of the difference of neighbours, at least 0.
    coordinates: Coordinates in which they can differ, at least 0.
    local_variance: `v`, variance parameter of one share, positive.
    fewest: Fewest shares in a sum that are not known, at least 1.
    most: Most of them.

  Returns:
    A multiple of 1/64, below half of the variance of one share if that is above 1.
  """
  variance = fewest * local_variance
  limit = min(_LARGEST, 0.5 * max(local_variance, 1.0))
  candidates = np.arange(1, int(limit * _GRID) + 1) / _GRID
  candidates = candidates[candidates < variance]
  if not candidates.size:
    return variance / 2
  gaps = np.minimum(_gaps(candidates), 1 - 1e-12)
  slack = most / fewest * coordinates * (np.log1p(gaps) - np.log1p(-gaps))
  return float(candidates[np.argmin(_WORTH * l2_squared / (variance - candidates) + slack)])


@functools.lru_cache(maxsize=64)
def _sum_slacks(local_variance: float, most: int) -> np.ndarray:
  """`[most]`: the slack of 1 to `most` shares."""
  terms = _terms(local_variance, np.arange(1, most, dtype=np.float64))
  return np.concatenate([[0.0], np.cumsum(terms)])


def _terms(local_variance: float, k: np.ndarray) -> np.ndarray:
  """What the share after `k` others adds, less than the one before it."""
  gaps = _gaps(local_variance * k / (k + 1))
  with np.errstate(divide='ignore', invalid='ignore'):
    return np.where(gaps < 1, np.log1p(gaps) - np.log1p(-np.minimum(gaps, 1)), np.inf)


def _gaps(variances: np.ndarray) -> np.ndarray:
  """`w` of each variance; infinite at 0, where no bound is claimed."""
  v = np.asarray(variances, dtype=np.float64)
  # The terms beyond k are at most that of k + 1 over one minus the ratio of the next two.
  terms = [np.exp(-2 * math.pi**2 * v * k**2) for k in range(1, 9)]
  ratio = np.exp(-2 * math.pi**2 * v * (9**2 - 8**2))
  with np.errstate(divide='ignore'):
    rest = np.where(ratio < 1, terms[-1] * ratio / (1 - ratio), np.inf)
  return 2 * (np.sum(terms, axis=0) + rest)

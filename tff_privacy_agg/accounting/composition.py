"""Composed Gaussian rounds: epsilon, delta and an attacker's power from three added numbers.

Rounds that are, up to factors `e^c1` and `e^c2`, post-processings of Gaussian mechanisms add up:
their `mu^2`, `c1` and `c2` are summed, adaptively too (arXiv:1905.02383, arXiv:2210.17520). With `N`
draws of noise, each within `2^-b` of its distribution in total variation,

  total(e) = e^C1 gaussian_delta(mu, e - C1 - C2) + (1 + e^e) N 2^-b

is a delta for every `e`. It falls up to `e_min` and rises from there on, so epsilon is
the root on [0, e_min], and infinite where total(e_min) is above the delta that was asked.
See docs/proofs/discrete-gaussian.md.
"""

import math

import numpy as np
from scipy import optimize, special

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.exact_gaussian import ULPS, log_gaussian_delta

# Of delta, kept back for the rounding of this very computation in float64.
SAFE = 1 - 1e-9


@_validate.plain_numbers
def composed_epsilon(
  mu: float, delta: float, *, c1: float = 0.0, c2: float = 0.0, distance: float = 0.0
) -> float:
  """Epsilon of composed rounds, in nats; infinite if none is proved at `delta`.

  `gaussian_epsilon(mu, delta e^-C1) + C1 + C2` where the noise has exactly its distribution.

  Args:
    mu: Square root of the total of `mu^2`, at least 0; infinite without noise.
    delta: Strictly between 0 and 1.
    c1: Total of the logs of the first factors, at least 0.
    c2: Total of the logs of the second factors, at least 0.
    distance: Total variation distance of all that was drawn from its distribution, at least 0.

  Examples:
    >>> round(tpa.accounting.composed_epsilon(1.0, 1e-6), 3)
    4.887
  """
  _validate.fraction(delta=delta)
  _validate.non_negative_or_infinite(mu=mu, c1=c1, c2=c2, distance=distance)
  if math.isinf(mu) or math.isinf(c1 + c2) or math.isinf(distance):
    return math.inf
  target = math.log(delta * SAFE)

  def excess(epsilon: float) -> float:
    return _log_delta(mu, c1, c2, distance, epsilon) - target

  if excess(0.0) <= 0:
    return 0.0
  high = least_delta_at(mu, c1, c2, distance)
  if math.isinf(high):  # beyond the tail bound delta(e) <= exp(-(e/mu - mu/2)^2 / 2)
    high = c1 + c2 + mu * (mu / 2 + math.sqrt(2 * max(c1 - target, 0.0)) + 1.0)
  if not 0 < high < math.inf or excess(high) > 0:
    return math.inf
  found = optimize.brentq(excess, 0.0, high, xtol=1e-300, rtol=1e-14, maxiter=500)
  step = 1e-14 * found + 1e-300
  while excess(found) > 0:  # the end that is proved
    found, step = min(found + step, high), 2 * step
  return float(found) * ULPS


@_validate.plain_numbers
def composed_delta(
  mu: float, epsilon: float, *, c1: float = 0.0, c2: float = 0.0, distance: float = 0.0
) -> float:
  """Delta of composed rounds at `epsilon`, at most 1: the least of any smaller epsilon's.

  Args:
    mu: As for `composed_epsilon`, like the others.
    epsilon: In nats, finite, at least 0.
    c1: Total of the logs of the first factors.
    c2: Total of the logs of the second factors.
    distance: Total variation distance of all that was drawn from its distribution.

  Examples:
    >>> f'{tpa.accounting.composed_delta(1.0, epsilon=4.0):.2e}'
    '4.71e-05'
  """
  _validate.non_negative(epsilon=epsilon)
  _validate.non_negative_or_infinite(mu=mu, c1=c1, c2=c2, distance=distance)
  if math.isinf(mu) or math.isinf(c1 + c2) or math.isinf(distance):
    return 1.0
  at = min(epsilon, max(least_delta_at(mu, c1, c2, distance), 0.0))
  return min(1.0, math.exp(min(_log_delta(mu, c1, c2, distance, at), 0.0)) / SAFE)


def confirm_epsilons(
  mu: np.ndarray,
  c1: np.ndarray,
  c2: np.ndarray,
  distance: np.ndarray,
  delta: float,
  epsilons: np.ndarray,
  slack: np.ndarray,
) -> np.ndarray:
  """Whether each of many epsilons is what `composed_epsilon` gives, within `slack`.

  Delta falls through the one that was asked between `slack` below and `slack` above; an infinite
  epsilon is one where it never falls so low. What is not confirmed may be right all the same.

  Args:
    mu: `[n]`, as for `composed_epsilon`, like the others.
    c1: `[n]`.
    c2: `[n]`.
    distance: `[n]`.
    delta: Strictly between 0 and 1.
    epsilons: `[n]`.
    slack: `[n]`, how far an epsilon may be off.
  """
  with np.errstate(all='ignore'):

    def total(epsilon: np.ndarray) -> np.ndarray:
      x = epsilon - c1 - c2
      first = special.log_ndtr(mu / 2 - x / mu)
      second = x + special.log_ndtr(-mu / 2 - x / mu)
      noise = np.exp(c1 + first) * -np.expm1(np.minimum(second - first, 0.0))
      return noise + (1 + np.exp(np.maximum(epsilon, 0.0))) * distance

    above, below = total(epsilons + slack), total(epsilons - slack)
    falls = (above <= delta * SAFE) & ((below > delta * SAFE) | (epsilons <= slack))
    lowest = c1 + c2 - mu * (special.ndtri_exp(np.log(distance) + c2) + mu / 2)
    none = np.isposinf(epsilons) & (total(np.maximum(lowest, 0.0)) > delta)
    return (falls & (epsilons >= 0) & np.isfinite(above)) | none


def least_delta_at(mu: float, c1: float, c2: float, distance: float) -> float:
  """The epsilon `e_min` at which delta is least; infinite if it falls for ever.

  There the slope of the Gaussian's delta and that of `e^e distance` cancel.
  """
  if distance == 0:
    return math.inf
  level = math.log(distance) + c2
  if level >= 0:
    return -math.inf
  if mu == 0:
    return c1 + c2
  return c1 + c2 - mu * (float(special.ndtri_exp(level)) + mu / 2)


@_validate.plain_numbers
def attack_power(
  false_positive_rate: float,
  mu: float,
  *,
  c1: float = 0.0,
  c2: float = 0.0,
  distance: float = 0.0,
) -> float:
  """The largest true-positive rate of any attacker who tells two neighbours apart.

  `min(1, e^(C1+C2) Phi(mu - Phi^-1(1 - a)))` (arXiv:1905.02383), with the distance of the noise
  added to both rates. Valid where every round has a `mu` and no amplification is claimed.

  Args:
    false_positive_rate: `a`, strictly between 0 and 1.
    mu: As for `composed_epsilon`, like the others.
    c1: Total of the logs of the first factors.
    c2: Total of the logs of the second factors.
    distance: Total variation distance of all that was drawn from its distribution.

  Examples:
    >>> round(tpa.accounting.attack_power(0.01, 1.0), 3)
    0.092
  """
  _validate.fraction(false_positive_rate=false_positive_rate)
  _validate.non_negative_or_infinite(mu=mu, c1=c1, c2=c2, distance=distance)
  alarm = false_positive_rate + distance
  if alarm >= 1 or math.isinf(mu) or math.isinf(c1 + c2):
    return 1.0
  log_power = c1 + c2 + float(special.log_ndtr(mu + special.ndtri(alarm)))
  return min(1.0, math.exp(min(log_power, 0.0)) + distance)


def _log_delta(mu: float, c1: float, c2: float, distance: float, epsilon: float) -> float:
  """Log of total(epsilon)."""
  noise = c1 + log_gaussian_delta(mu, epsilon - c1 - c2)
  if distance == 0:
    return noise
  moved = math.log(distance) + max(epsilon, 0.0) + math.log1p(math.exp(-abs(epsilon)))
  top = max(noise, moved)
  return top + math.log(math.exp(noise - top) + math.exp(moved - top))

"""The Renyi divergence of a Gaussian round whose clients are drawn by Poisson sampling."""

import math

import numpy as np

from tff_privacy_agg.accounting.sampling.moments import log_sum

# Relative rounding of `gaussian_renyi`, whose terms are positive.
_ROUNDING = 1 + 1e-10
# The trapezoid rule is off by a factor below 1 + e^-_EXPONENT; the integral is cut off where less
# than e^-80 of it is left.
_EXPONENT, _REACH = 70.0, 13.0
# Beyond this `a mu^2` the integral would need too many steps.
_WIDE = 1e4
# Below this `a u`, a power comes from so many terms of its series.
_SMALL, _TERMS = 0.02, 8


def gaussian_renyi(orders: np.ndarray, mu: float, rate: float) -> np.ndarray:
  """Renyi divergence of one sampled round in both directions, rounded up; shape of `orders`.

  `ln E_Q[r^a] / (a - 1)` with `r = P/Q`, the larger of the two directions (arXiv:1908.10530,
  Theorem 5). Section 3.3 there sums an alternating series; here the integral of the positive
  `Q (r^a - 1 - a (r - 1))` is a sum of positive terms, by the trapezoid rule. For |y| < pi / mu
  the integrand is analytic at x + iy, so at steps `h` the sum is off by less than
  `2 e^(y^2/2) / (e^(2 pi y/h) - 1)` of `E_Q[r^a] + 1 + 2a`.

  Args:
    orders: Real orders above 1, at most 4096.
    mu: Sensitivity over standard deviation, at least 0.
    rate: Probability of a client to take part, in (0, 1].

  Examples:
    >>> float(gaussian_renyi(np.array([8.0]), 1.0, 0.01)[0]) < 8 / 2 / 4000
    True
  """
  a = np.asarray(orders, dtype=np.float64)
  unsampled = a * mu**2 / 2
  if rate == 1 or mu == 0 or not math.isfinite(mu):
    return unsampled
  flat = [_log_moment(order, mu, rate) / (order - 1) for order in a.ravel().tolist()]
  return np.minimum(unsampled, np.reshape(flat, a.shape) * _ROUNDING)


def slack(orders: np.ndarray, c1: float, c2: float) -> np.ndarray:
  """Renyi divergence that factors e^c1 on one distribution and e^-c2 on the other add."""
  return (orders * c1 + (orders - 1) * c2) / (orders - 1)


def _log_moment(order: float, mu: float, rate: float) -> float:
  """ln E_Q[r^a]."""
  if order * mu * mu > _WIDE:
    # (x + y)^a <= 2^(a-1) (x^a + y^a), where a factor of 2 in r does not show.
    kept = order * math.log1p(-rate)
    drawn = order * math.log(rate) + order * (order - 1) / 2 * mu**2
    return (order - 1) * math.log(2) + float(np.logaddexp(kept, drawn))
  y = min(4.0, 0.99 * math.pi / mu)
  step = 2 * math.pi * y / (_EXPONENT + y * y / 2)
  x = np.arange(-_REACH, max(order, 2.0) * mu + _REACH + step, step)
  shift = mu * x - mu * mu / 2
  log_ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + shift)
  u = rate * np.expm1(np.minimum(shift, 300.0))  # r - 1
  exponent = order * log_ratio
  far = exponent > 600  # where what is taken from r^a does not show
  log_r, u = np.where(far, 0.0, log_ratio), np.where(far, 0.0, u)
  excess = np.exp(log_r) * np.expm1((order - 1) * log_r) - (order - 1) * u
  small = (order * np.abs(u) < _SMALL) & (np.abs(u) < _SMALL)
  u = np.where(small, u, 0.0)
  series = np.ones_like(u)
  for k in range(_TERMS, 2, -1):
    series = 1 + (order - k + 1) / k * u * series
  excess = np.where(small, order * (order - 1) / 2 * u**2 * series, np.maximum(excess, 0.0))
  with np.errstate(divide='ignore'):
    logs = np.where(far, exponent, np.log(excess)) - x * x / 2
  log_excess = log_sum(logs) + math.log(step / math.sqrt(2 * math.pi))
  return (
    float(np.logaddexp(0.0, log_excess)) if log_excess > 0 else math.log1p(math.exp(log_excess))
  )

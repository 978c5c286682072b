"""Delta and epsilon of a Gaussian mechanism, exactly."""

import math

import numpy as np
from scipy import special

from tff_privacy_agg import _validate

# Of delta, kept back for rounding in float64.
NEARLY = 1 - 1e-12
# Of an epsilon, added to it: its own digits end there, where mu is very small or very large.
ULPS = 1 + 2**-50
# Stands for the log of a delta of zero, so that root finders see a number.
_NOTHING = -1e6
# Below this mu, delta is an integral over an interval of that length, by Gauss and Legendre.
_NARROW, _LEFT, _FAR = 0.1, -5.0, 100.0
_NODES, _WEIGHTS = special.roots_legendre(8)


@_validate.plain_numbers
def gaussian_delta(mu: float, epsilon: float) -> float:
  """Returns the exact delta of the Gaussian mechanism at `epsilon`.

  `Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)`; arXiv:1805.06530, Theorem 8.

  Args:
    mu: L2 sensitivity over standard deviation, at least 0. `T` rounds with
      noise multiplier `z` have mu = sqrt(T)/z.
    epsilon: In nats, finite, at least 0.

  Examples:
    >>> f'{tpa.accounting.gaussian_delta(1.0, epsilon=4.0):.1e}'
    '4.7e-05'
  """
  _validate.non_negative(mu=mu, epsilon=epsilon)
  return math.exp(log_gaussian_delta(mu, epsilon))


@_validate.plain_numbers
def gaussian_epsilon(mu: float, delta: float) -> float:
  """Returns the exact epsilon of the Gaussian mechanism at `delta`.

  Args:
    mu: As for `gaussian_delta`; `math.inf` gives infinity.
    delta: Strictly between 0 and 1.

  Examples:
    >>> round(tpa.accounting.gaussian_epsilon(1.0, delta=1e-5), 3)
    4.377
  """
  _validate.fraction(delta=delta)
  if mu == math.inf:
    return math.inf
  delta *= NEARLY  # for the rounding of the exact one
  if gaussian_delta(mu, 0.0) <= delta:
    return 0.0
  low, high = 0.0, 1.0
  while gaussian_delta(mu, high) > delta:
    low, high = high, 2 * high
    if high == math.inf:
      return math.inf
  for _ in range(100):
    middle = 0.5 * (low + high)
    if gaussian_delta(mu, middle) > delta:
      low = middle
    else:
      high = middle
  return high * ULPS


def repeated_gaussian_epsilon(noise_multiplier: float, times: int, delta: float) -> float:
  """Exact epsilon of a Gaussian mechanism that runs so often.

  Gaussian mechanisms compose to one: arXiv:1905.02383, corollary 3.3.

  Args:
    noise_multiplier: Positive.
    times: At least 0.
    delta: Strictly between 0 and 1.
  """
  return gaussian_epsilon(math.sqrt(times) / noise_multiplier, delta)


def log_gaussian_delta(mu: float, epsilon: float) -> float:
  """Log of `Phi(mu/2 - eps/mu) - e^eps Phi(-mu/2 - eps/mu)`; very negative where that is 0.

  With `phi(v) e^eps = phi(u)` at `u = eps/mu - mu/2` and `v = u + mu`, and Mills' ratio R, it is
  `phi(u) (R(u) - R(v))`, and `R'(s) = s R(s) - 1`. For a small mu the two terms of the difference
  agree in most of their digits, and the integral of `1 - s R(s)` keeps them.

  Args:
    mu: At least 0.
    epsilon: Finite, also below 0.

  Examples:
    >>> f'{math.exp(log_gaussian_delta(1.0, 4.0)):.2e}'
    '4.71e-05'
  """
  if mu == 0:
    fall = -math.expm1(min(epsilon, 0.0))
    return math.log(fall) if fall > 0 else _NOTHING
  u = epsilon / mu - mu / 2
  if mu < _NARROW and u > _LEFT:
    s = u + mu * (1 + _NODES) / 2
    near, far = np.minimum(s, _FAR), np.maximum(s, _FAR) ** -2
    slope = 1 - math.sqrt(math.pi / 2) * near * special.erfcx(near / math.sqrt(2))
    slope = np.where(s < _FAR, slope, far * (1 - far * (3 - far * (15 - 105 * far))))
    rise = mu / 2 * float(_WEIGHTS @ slope) / math.sqrt(2 * math.pi)
    return math.log(rise) - u * u / 2 if rise > 0 else _NOTHING
  first = float(special.log_ndtr(-u))
  second = epsilon + float(special.log_ndtr(-mu / 2 - epsilon / mu))
  shrink = -math.expm1(min(second - first, 0.0))
  return first + math.log(shrink) if shrink > 0 else _NOTHING

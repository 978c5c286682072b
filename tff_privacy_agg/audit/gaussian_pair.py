"""Epsilon between two normal distributions of any means and deviations."""

import math
from collections.abc import Sequence

from scipy import special

from tff_privacy_agg import _validate

_BISECTIONS = 100


@_validate.plain_numbers
def gaussian_pair_epsilon(
  first: tuple[float, float], second: tuple[float, float], delta: float
) -> float:
  """Least epsilon at which two normal distributions are `(epsilon, delta)` close, both ways.

  Args:
    first: Mean and standard deviation.
    second: Mean and standard deviation.
    delta: Strictly between 0 and 1.

  Examples:
    >>> round(tpa.audit.gaussian_pair_epsilon((1.0, 1.0), (0.0, 1.0), delta=1e-5), 3)
    4.377
  """
  _validate.fraction(delta=delta)
  _validate.positive(first_stddev=first[1], second_stddev=second[1])

  def exceeds(epsilon: float) -> bool:
    return max(_excess(first, second, epsilon), _excess(second, first, epsilon)) > delta

  if not exceeds(0.0):
    return 0.0
  low, high = 0.0, 1.0
  while exceeds(high):
    low, high = high, 2 * high
  for _ in range(_BISECTIONS):
    middle = 0.5 * (low + high)
    low, high = (middle, high) if exceeds(middle) else (low, middle)
  return high


def _excess(p: tuple[float, float], q: tuple[float, float], epsilon: float) -> float:
  """`P(A) - e^epsilon Q(A)` on the set A where log p/q exceeds epsilon."""
  (mean_p, std_p), (mean_q, std_q) = p, q
  # log p/q = a x^2 + b x + c
  a = 0.5 / std_q**2 - 0.5 / std_p**2
  b = mean_p / std_p**2 - mean_q / std_q**2
  c = 0.5 * (mean_q / std_q) ** 2 - 0.5 * (mean_p / std_p) ** 2 + math.log(std_q / std_p) - epsilon
  total = 0.0
  for low, high in _above_zero(a, b, c):
    total += math.exp(_log_probability(low, high, mean_p, std_p))
    total -= math.exp(epsilon + _log_probability(low, high, mean_q, std_q))
  return total


def _above_zero(a: float, b: float, c: float) -> Sequence[tuple[float, float]]:
  """Intervals on which `a x^2 + b x + c > 0`."""
  if abs(a) < 1e-12:
    if b == 0:
      return [(-math.inf, math.inf)] if c > 0 else []
    return [(-c / b, math.inf)] if b > 0 else [(-math.inf, -c / b)]
  discriminant = b * b - 4 * a * c
  if discriminant <= 0:
    return [(-math.inf, math.inf)] if a > 0 else []
  # The root without cancellation first.
  half = -0.5 * (b + math.copysign(math.sqrt(discriminant), b))
  roots = sorted((half / a, c / half if half else 0.0))
  if a > 0:
    return [(-math.inf, roots[0]), (roots[1], math.inf)]
  return [(roots[0], roots[1])]


def _log_probability(low: float, high: float, mean: float, std: float) -> float:
  low, high = (low - mean) / std, (high - mean) / std
  if low > 0:
    low, high = -high, -low
  log_high, log_low = float(special.log_ndtr(high)), float(special.log_ndtr(low))
  if log_low >= log_high:
    return -math.inf
  return log_high + math.log1p(-math.exp(log_low - log_high))

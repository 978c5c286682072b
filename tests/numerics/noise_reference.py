"""What a table draws, read from its arrays with big integers, and its distribution by mpmath."""

import functools
import itertools
import math
from fractions import Fraction

import mpmath
import numpy as np

from tff_privacy_agg.numerics import alias

PRECISION = 320  # bits


def thresholds_of(table):
  """Thresholds of B - k bits and aliases, as Python integers."""
  k = table.log_columns
  packed = table.packed.view(np.uint32).tolist()
  assert all(p < 2**table.draw_bits for p in packed)
  parts = zip(packed, table.rest.high.tolist(), table.rest.low.tolist(), strict=True)
  return [p >> k << 96 | high << 32 | low for p, high, low in parts], [
    p & (table.columns - 1) for p in packed
  ]


def remainder_thresholds(table):
  pairs = zip(table.remainder.high.tolist(), table.remainder.low.tolist(), strict=True)
  return [high << 64 | low for high, low in pairs]


def column_weights(thresholds, aliases, weight_bits):
  """The weight of each column's value: its own part, and what others alias to it."""
  capacity = (1 << weight_bits) // len(thresholds)
  weights = [0] * len(thresholds)
  for i, (threshold, other) in enumerate(zip(thresholds, aliases, strict=True)):
    assert 0 <= threshold < capacity
    weights[i] += threshold
    weights[other] += capacity - threshold
  return weights


def drawn_weights(table) -> dict[int, int]:
  """Of 2^206, how much each value is drawn: by enumeration of the columns and the remainder."""
  weight_bits = table.draw_bits + alias.TIE_BITS
  *columns, last = column_weights(*thresholds_of(table), weight_bits)
  unit = 2 ** (alias.WEIGHT_BITS - weight_bits)
  assert last * unit == 2**alias.REMAINDER_BITS
  weights = {table.offset + i: unit * w for i, w in enumerate(columns) if w}
  bounds = [0, *remainder_thresholds(table), 2**alias.REMAINDER_BITS]
  for magnitude, (lower, upper) in enumerate(itertools.pairwise(bounds)):
    assert lower <= upper
    for sign in (0, 1):  # the last bit, so how many of the numbers have it
      share = (upper - lower + 1 - (lower + sign) % 2) // 2
      value = -magnitude if sign else magnitude
      weights[value] = weights.get(value, 0) + share
  return weights


def discrete_gaussian(variance: Fraction, values) -> list:
  """P(x), from the definition; the sum over all integers by itself or by Poisson summation."""
  v = mpmath.mpf(variance.numerator) / variance.denominator
  if v > 1:
    waves = mpmath.fsum(mpmath.exp(-2 * v * (mpmath.pi * k) ** 2) for k in range(1, 30))
    total = mpmath.sqrt(2 * mpmath.pi * v) * (1 + 2 * waves)
  else:
    total = 1 + 2 * mpmath.fsum(mpmath.exp(-k * k / (2 * v)) for k in range(1, 30))
  return [mpmath.exp(-(mpmath.mpf(x) ** 2) / (2 * v)) / total for x in values]


def skellam(variance: Fraction, values) -> list:
  """P(x) by inversion of the characteristic function exp(v (cos t - 1)) at n equidistant points.

  That gives sum over m of P(x + m n), of which all but P(x) is below 2^-380.
  """
  v = mpmath.mpf(variance.numerator) / variance.denominator
  n = 60 * (math.isqrt(math.ceil(variance)) + 1) + 401
  assert max(values) < n // 3
  cosine = functools.cache(lambda j: mpmath.cos(2 * mpmath.pi * j / n))
  waves = []
  for j in range(1, n // 2 + 1):
    waves.append(mpmath.exp(v * (cosine(j) - 1)))
    if waves[-1] < mpmath.mpf(2) ** -PRECISION:
      break
  return [
    (1 + 2 * mpmath.fsum(w * cosine(j * x % n) for j, w in enumerate(waves, 1))) / n for x in values
  ]


DEFINITIONS = {'discrete_gaussian': discrete_gaussian, 'skellam': skellam}

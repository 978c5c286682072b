"""Exact alias tables of integer noise distributions, built in integer arithmetic.

Walker's alias method in Vose's form (Vose 1991, "A linear algorithm for generating
random numbers with a given distribution"): a draw picks one of K = 2^k columns and
then either the column's own value or its alias. Here every quantity is an integer: the
probabilities are weights that sum to 2^94, so a table reproduces its weights exactly,
and the only distance to the true distribution is that of the weights, which is computed.
"""

import dataclasses
import decimal
import functools
import itertools
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

WEIGHT_BITS = 94  # 16 or 24 bits that every draw takes, and 78 or 70 that only ties need
LOW_BITS = 62
# 62 bits that settle a tie are in two words; the 16 or 8 above them are in a third.
TIE_WORDS = 3
MAX_LOG_COLUMNS = 17
# 16 bits serve tables of up to 2^12 columns: a standard deviation of 200. With more, so many
# draws would tie (one in 2^(16 - k)) that 24 bits are cheaper.
MAX_LOG_COLUMNS_OF_16_BITS = 12
# The support is cut where what is lost is less than this: not even 2^40 draws would show it.
_LARGEST_DISTANCE = 2.0**-79
# A wider one, cut at 2^17 columns, would be further than 2^-77 from its law.
MAX_TABLE_VARIANCE = 6400**2

# 80 digits hold 265 bits; the recurrences below lose fewer than 40 of them.
_CONTEXT = decimal.Context(prec=80, Emin=-(10**6), Emax=10**6)
_NEGLIGIBLE = Decimal(10) ** -60  # of the weights' resolution, 2^-94 = 5e-29


def _check_variance(variance: Fraction) -> None:
  if not 0 < variance <= MAX_TABLE_VARIANCE:
    raise ConfigurationError(
      f'`variance` must be positive and at most {MAX_TABLE_VARIANCE} for one table, '
      f'got {float(variance)}.'
    )


def _decimal(value: Fraction) -> Decimal:
  return Decimal(value.numerator) / Decimal(value.denominator)


def discrete_gaussian_pmf(variance: Fraction | float) -> list[Decimal]:
  """Probabilities of the discrete Gaussian N_Z(0, variance).

  P(x) is proportional to exp(-x^2 / (2 variance)) on the integers (Canonne, Kamath,
  Steinke, arXiv:2004.00010, Definition 1). `variance` is the parameter sigma^2; the
  distribution's variance is slightly smaller when sigma is below one.

  Args:
    variance: In (0, 6400^2].

  Returns:
    P(0), P(1), ... until a term is below 1e-60, to a relative error below 2^-150.
  """
  variance = Fraction(variance)
  _check_variance(variance)
  with decimal.localcontext(_CONTEXT):
    step = (-1 / _decimal(2 * variance)).exp()
    ratio, term, terms = step, Decimal(1), [Decimal(1)]
    while term > _NEGLIGIBLE:
      term *= ratio
      ratio *= step * step
      terms.append(term)
    return _normalise(terms)


def skellam_pmf(variance: Fraction | float) -> list[Decimal]:
  """Probabilities of the difference of two Poisson(variance / 2) variables.

  P(x) = exp(-variance) I_x(variance), by Miller's backward recurrence
  I_(x-1) = I_(x+1) + (2 x / variance) I_x, normalised by the sum over all integers
  (Abramowitz and Stegun 9.6.37 and 9.12).

  Args:
    variance: In (0, 6400^2].

  Returns:
    P(0), P(1), ... until beyond terms of 1e-60, to a relative error below 2^-150 where
    the term exceeds 2^-94.
  """
  variance = Fraction(variance)
  _check_variance(variance)
  # Beyond 20 standard deviations and 80 units every term is below 1e-60.
  start = 20 * math.isqrt(math.ceil(variance)) + 80
  with decimal.localcontext(_CONTEXT):
    factor = 2 / _decimal(variance)
    above, here = Decimal(0), Decimal(1)
    terms = [here]
    for x in range(start, 0, -1):
      above, here = here, above + factor * x * here
      terms.append(here)
    return _normalise(terms[::-1])


def _normalise(terms: list[Decimal]) -> list[Decimal]:
  total = terms[0] + 2 * sum(terms[1:])
  return [term / total for term in terms]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AliasTable:
  """A distribution on the integers, ready to be drawn with one gather.

  With U uniform on [0, 2^(94 - k)), column j gives `offset + j` if
  U < T_j and otherwise `offset + alias_j`.

  Attributes:
    columns: K = 2^k.
    draw_bits: Bits that every draw takes, w: 16 or 24.
    packed: int32 `[K]`: the top w-k bits of T_j, then the k bits of alias_j.
    middle: int32 `[K]`: the next `middle_bits` bits of T_j.
    low: int64 `[K]`: the last 62 bits of T_j.
    offset: The value of column 0, at most 0.
    variance: The variance parameter, exactly.
    distance: Total variation distance of a draw to the true distribution: an upper bound
      that includes what lies beyond the table.
  """

  columns: int
  draw_bits: int
  packed: np.ndarray
  middle: np.ndarray
  low: np.ndarray
  offset: int
  variance: Fraction
  distance: float

  @property
  def log_columns(self) -> int:
    """k, the bits of a word that choose the column."""
    return self.columns.bit_length() - 1

  @property
  def middle_bits(self) -> int:
    """Bits of a threshold between those in `packed` and those in `low`: 16 or 8."""
    return WEIGHT_BITS - LOW_BITS - self.draw_bits

  def halves(self, count: Any) -> Any:
    """32-bit words that hold 16 bits for each of `count` draws."""
    return -(-count // 2)

  def quarters(self, count: Any) -> Any:
    """32-bit words that hold 8 more bits for each of `count` draws, where they take them."""
    return -(-count // 4) if self.draw_bits == 24 else 0

  def words(self, count: Any) -> Any:
    """32-bit words that `count` draws take, an integer or a scalar tensor, ties apart."""
    return self.halves(count) + self.quarters(count)

  def likely_ties(self, count: int) -> int:
    """More ties than `count` draws have, but for once in 10^8 times."""
    mean = count * 2.0 ** (self.log_columns - self.draw_bits)
    return min(count, math.ceil(mean + 6 * math.sqrt(mean) + 6))

  @property
  def radius(self) -> int:
    """The largest absolute value of a draw."""
    return -self.offset


@functools.lru_cache(maxsize=64)
def alias_table(mechanism: str, variance: Fraction) -> AliasTable:
  """Builds the table of 'discrete_gaussian' or 'skellam' noise.

  The support is every integer whose probability is at least 2^-94, or as many as the fewest
  columns hold that keep the distance below 2^-79, up to the 2^17 columns of the largest table.

  Args:
    mechanism: 'discrete_gaussian' or 'skellam'.
    variance: The variance parameter, in (0, 6400^2].

  Returns:
    The table with the fewest columns that holds the support.
  """
  _validate.one_of(tuple(_PMFS), mechanism=mechanism)
  pmf = _PMFS[mechanism](variance)
  for log_columns in range(MAX_LOG_COLUMNS + 1):
    weights, distance = symmetric_weights(pmf, ((1 << log_columns) - 1) // 2)
    if distance < _LARGEST_DISTANCE:
      break
  thresholds, aliases = vose(weights, log_columns)
  draw_bits = 16 if log_columns <= MAX_LOG_COLUMNS_OF_16_BITS else 24
  rest_bits = WEIGHT_BITS - draw_bits
  packed = [
    t >> rest_bits << log_columns | alias for t, alias in zip(thresholds, aliases, strict=True)
  ]
  middle = [(t >> LOW_BITS) & ((1 << (rest_bits - LOW_BITS)) - 1) for t in thresholds]
  return AliasTable(
    columns=1 << log_columns,
    draw_bits=draw_bits,
    packed=np.array(packed, np.int32),
    middle=np.array(middle, np.int32),
    low=np.array([t & ((1 << LOW_BITS) - 1) for t in thresholds], np.int64),
    offset=-(len(weights) // 2),
    variance=Fraction(variance),
    distance=distance,
  )


_PMFS = {'discrete_gaussian': discrete_gaussian_pmf, 'skellam': skellam_pmf}


def symmetric_weights(pmf: list[Decimal], radius: int) -> tuple[list[int], float]:
  """Integer weights that sum to 2^94, and their distance to a symmetric pmf.

  Every probability but P(0) is rounded down, and zero receives the rest. So the total
  variation distance is what zero gained.

  Args:
    pmf: P(0), P(1), ..., to at least 150 bits.
    radius: The largest absolute value to keep.

  Returns:
    The weights of -R, ..., R for the largest R with a positive weight (at most
    `radius`), and an upper bound on the distance, which includes all that is cut off.
  """
  total = 1 << WEIGHT_BITS
  with decimal.localcontext(_CONTEXT):
    floors = [int(p * total) for p in pmf[1 : radius + 1]]
    positive = list(itertools.takewhile(bool, floors))
    centre = total - 2 * sum(positive)
    gained = (centre - pmf[0] * total) / total
  distance = math.nextafter(float(gained), 1.0)
  return [*reversed(positive), centre, *positive], distance


def vose(weights: list[int], log_columns: int) -> tuple[list[int], list[int]]:
  """Vose's construction on integers.

  Args:
    weights: Integers that sum to 2^94, at most 2^log_columns of them.
    log_columns: k.

  Returns:
    Thresholds in [0, 2^(94 - k)) and aliases, `[2^k]` each, such that the weight of value i is
    threshold_i + sum over the columns j with alias_j = i of (2^(94 - k) - threshold_j).
  """
  columns = 1 << log_columns
  capacity = 1 << (WEIGHT_BITS - log_columns)
  rest = weights + [0] * (columns - len(weights))
  # A full column is its own alias, so its threshold does not matter.
  thresholds, aliases = [0] * columns, list(range(columns))
  small = [i for i, w in enumerate(rest) if w < capacity]
  large = [i for i, w in enumerate(rest) if w > capacity]
  while small:
    i, donor = small.pop(), large[-1]
    thresholds[i], aliases[i] = rest[i], donor
    rest[donor] -= capacity - rest[i]
    if rest[donor] <= capacity:
      large.pop()
      if rest[donor] < capacity:
        small.append(donor)
  return thresholds, aliases

"""Exact alias tables of integer noise distributions, built in integer arithmetic.

Walker's alias method in Vose's form (Vose 1991, "A linear algorithm for generating
random numbers with a given distribution"): a draw picks one of K = 2^k columns and
then either the column's own value or its alias. Here every quantity is an integer: the
probabilities are weights that sum to 2^206, so a table reproduces its weights exactly,
and the only distance to the true distribution is that of the weights, which is computed.

The columns hold the leading 112 or 120 bits of each weight near zero. All that is left, the bits
below and the weights beyond the columns, is the remainder: one outcome of probability 2^-78, with a
cumulative table of its own. docs/proofs/samplers.md has the proof.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.numerics import probabilities
from tff_privacy_agg.numerics.probabilities import WEIGHT_BITS

# Bits of a threshold beyond the 16 or 24 that every draw takes: 64, then 32. Only ties need them.
TIE_BITS = 96
TIE_WORDS = 3
# Bits that choose within the remainder: two numbers of 64.
REMAINDER_BITS = 128
REMAINDER_WORDS = 4
# At most half of the remainder's 2^128 lies beyond the columns: a probability of 2^-79.
_MOST_BEYOND = 1 << (REMAINDER_BITS - 1)
# 16 bits serve tables of up to 2^12 columns: a standard deviation of 200. With more, so many
# draws would tie (one in 2^(16 - k)) that 24 bits are cheaper.
MAX_LOG_COLUMNS_OF_16_BITS = 12


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Thresholds:
  """Unsigned integers by their upper bits and their lower ones.

  Attributes:
    high: uint64 `[n]`.
    low: uint32 or uint64 `[n]`.
  """

  high: np.ndarray
  low: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class AliasTable:
  """A distribution on the integers, ready to be drawn with one gather.

  With U uniform on [0, 2^(w + 96 - k)), column j gives `offset + j` if U < T_j and otherwise
  `offset + alias_j`. The last column is the remainder, and no other has it as its alias. There, with
  V uniform on [0, 2^128), the absolute value is the number of `remainder` thresholds
  that are at most V, and the last bit of V its sign.

  Attributes:
    columns: K = 2^k.
    draw_bits: Bits that every draw takes, w: 16 or 24.
    packed: int32 `[K]`: the top w-k bits of T_j, then the k bits of alias_j.
    rest: The last 96 bits of T_j, 64 and 32, `[K]`.
    remainder: 128 bits each, all even, `[R]`.
    variance: The variance parameter, exactly.
    distance: Total variation distance of a draw to the true distribution: an upper bound.
  """

  columns: int
  draw_bits: int
  packed: np.ndarray
  rest: Thresholds
  remainder: Thresholds
  variance: Fraction
  distance: float

  @property
  def log_columns(self) -> int:
    """k, the bits of a word that choose the column."""
    return self.columns.bit_length() - 1

  @property
  def offset(self) -> int:
    """The value of column 0, at most 0."""
    return 1 - self.columns // 2

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
    return len(self.remainder.high)


@functools.lru_cache(maxsize=64)
def alias_table(mechanism: str, variance: Fraction) -> AliasTable:
  """Builds the table of 'discrete_gaussian' or 'skellam' noise.

  The support is every integer whose probability is at least 2^-206.

  Args:
    mechanism: 'discrete_gaussian' or 'skellam'.
    variance: The variance parameter, in (0, 6400^2].

  Returns:
    The table with the fewest columns, a power of two, beyond which at most 2^-79 lies: 2^17 at most.
  """
  _validate.one_of(tuple(probabilities.PMFS), mechanism=mechanism)
  weights, distance = probabilities.integer_weights(probabilities.PMFS[mechanism](variance))
  log_columns = _fewest_columns(weights)
  draw_bits = 16 if log_columns <= MAX_LOG_COLUMNS_OF_16_BITS else 24
  parts, remainder = split(weights, log_columns, draw_bits + TIE_BITS)
  thresholds, aliases = vose(parts, draw_bits + TIE_BITS)
  packed = [
    t >> TIE_BITS << log_columns | other for t, other in zip(thresholds, aliases, strict=True)
  ]
  # Both signs of a value are drawn as one.
  cumulative = itertools.accumulate([remainder[0], *(2 * w for w in remainder[1:])])
  return AliasTable(
    columns=1 << log_columns,
    draw_bits=draw_bits,
    packed=np.array(packed, np.int32),
    rest=_thresholds(thresholds, 32),
    remainder=_thresholds(list(cumulative)[:-1], 64),
    variance=Fraction(variance),
    distance=probabilities.round_up(distance),
  )


def _fewest_columns(weights: Sequence[int]) -> int:
  """The least k such that 2^k columns hold all but 2^-79: those of -R, ..., R, and one more."""
  beyond, radius = 0, len(weights) - 1
  while radius and 2 * (beyond + weights[radius]) <= _MOST_BEYOND:
    beyond += weights[radius]
    radius -= 1
  return (2 * radius + 1).bit_length()


def split(
  weights: Sequence[int], log_columns: int, weight_bits: int
) -> tuple[list[int], list[int]]:
  """Splits a distribution into leading bits near zero, and a remainder of probability 2^-78.

  Args:
    weights: Integers w_0, w_1, ... of 0, +-1, ..., which sum to 2^206 over all integers. At most
      2^127 of that lies beyond 2^k - 1 columns.
    log_columns: k, at least 1.
    weight_bits: Of the columns' weights, B: 112 or 120.

  Returns:
    The weights of the columns, `[2^k]`, which sum to 2^B, the last one the remainder's; and the
    weights of 0, +-1, ... within it, which sum to 2^128 over all integers. With the columns' as m
    and the remainder's as r, w_x = m_x 2^(206 - B) + r_x for every x.
  """
  radius = (1 << log_columns) // 2 - 1
  unit_bits = WEIGHT_BITS - weight_bits
  near, far = weights[1 : radius + 1], weights[radius + 1 :]
  main = [w >> unit_bits for w in near] + [0] * (radius - len(near))
  last = 1 << (REMAINDER_BITS - unit_bits)
  centre = (1 << weight_bits) - last - 2 * sum(main)
  remainder = [weights[0] - (centre << unit_bits)]
  remainder += [w & ((1 << unit_bits) - 1) for w in near]
  remainder += far
  return [*reversed(main), centre, *main, last], remainder


def vose(weights: Sequence[int], weight_bits: int) -> tuple[list[int], list[int]]:
  """Vose's construction on integers.

  Args:
    weights: `[2^k]` integers that sum to 2^B.
    weight_bits: B.

  Returns:
    Thresholds in [0, 2^(B - k)) and aliases, `[2^k]` each, such that the weight of value i is
    threshold_i + sum over the columns j with alias_j = i of (2^(B - k) - threshold_j).
  """
  columns = len(weights)
  capacity = (1 << weight_bits) // columns
  rest = list(weights)
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


def _thresholds(numbers: Sequence[int], low_bits: int) -> Thresholds:
  """Integers in two parts, of which the lower has 32 or 64 bits; what is above both is left out."""
  mask = (1 << low_bits) - 1
  return Thresholds(
    high=np.array([(n >> low_bits) & (2**64 - 1) for n in numbers], np.uint64),
    low=np.array([n & mask for n in numbers], np.uint32 if low_bits == 32 else np.uint64),
  )

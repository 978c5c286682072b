"""Exact integer noise from packed alias tables.

A draw takes w = 16 random bits, or 24 where the table is large: k of them choose a column and
the rest is compared with the top w-k bits of the column's threshold. Equal bits (a tie,
probability 2^-(w-k)) say nothing, so those draws, and only those, are settled with the
threshold's other bits, 78 or 70.
No floating-point number is involved, and no value is ever rejected: the only distance
to the named distribution is the one that the sampler states.
"""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias, randomness

MECHANISMS = ('discrete_gaussian', 'skellam')
MAX_STANDARD_DEVIATION = 10**6
MAX_SKELLAM_STANDARD_DEVIATION = 3500

# Smoothing of the two-table sum; at 1.8 its relative error of a probability is 2^-91.
_TARGET_SMOOTHING = 2.2
_LEAST_SMOOTHING = 1.8


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class NoiseSampler:
  """Draws integer noise; made by `noise_sampler`.

  Attributes:
    mechanism: 'discrete_gaussian' or 'skellam'.
    variance: The variance parameter of one draw, exactly.
    tables: One table, or two whose draws are summed as x_1 + stride * x_2.
    stride: Multiple of the second table's draw; 0 if there is none.
    distance: Upper bound on the total variation distance of one draw to the named distribution.
      Times the number of draws, it is an amount to add to delta.
  """

  mechanism: str
  variance: Fraction
  tables: tuple[alias.AliasTable, ...]
  stride: int
  distance: float

  def words(self, count: Any) -> Any:
    """Number of 32-bit words that `count` draws take, ties apart."""
    return sum(table.words(count) for table in self.tables)

  def random_words(self, stream_id: int, count: int) -> dict[int, int]:
    """Words by stream that `sample` draws, and hardly ever more."""
    ties = {
      randomness.tie_stream(stream_id, i): alias.TIE_WORDS * table.likely_ties(count)
      for i, table in enumerate(self.tables)
    }
    return {stream_id: self.words(count), **ties}

  @property
  def radius(self) -> int:
    """The largest absolute value of a draw, below 2^31."""
    first, *second = self.tables
    return first.radius + self.stride * sum(table.radius for table in second)

  def sample(
    self, stream: randomness.RandomStream, stream_id: int, count: int | tf.Tensor
  ) -> tf.Tensor:
    """Draws independent values.

    Args:
      stream: The source of random words.
      stream_id: The number of a stream that is used for nothing else with this key.
      count: Number of values, a Python integer or an int32 scalar tensor.

    Returns:
      int32 `[count]`, each in [-radius, radius].
    """
    words, start, drawn = stream.words(stream_id, self.words(count)), 0, []
    for i, table in enumerate(self.tables):
      numbers = _numbers(table, words[start : start + table.words(count)], count)
      drawn.append(_draw(table, numbers, stream, randomness.tie_stream(stream_id, i)))
      start += table.words(count)
    first, *second = drawn
    return first + self.stride * second[0] if second else first


def _numbers(table: alias.AliasTable, words: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Uniform numbers of `table.draw_bits` bits, int32 `[count]`: every bit of `words` serves once."""
  split = table.halves(count)
  halves = tf.reshape(tf.bitcast(words[:split], tf.uint16), [-1])[:count]
  numbers = tf.cast(halves, tf.int32)
  if table.draw_bits == 16:
    return numbers
  quarters = tf.reshape(tf.bitcast(words[split:], tf.uint8), [-1])[:count]
  return numbers + tf.cast(quarters, tf.int32) * 2**16


def _draw(
  table: alias.AliasTable, numbers: tf.Tensor, stream: randomness.RandomStream, ties_id: int
) -> tf.Tensor:
  """Draws of `table`, int32 `[count]`, one from each uniform number."""
  column = tf.bitwise.bitwise_and(numbers, table.columns - 1)
  packed = tf.gather(tf.constant(table.packed), column)
  other = tf.bitwise.bitwise_and(packed, table.columns - 1)
  # Both have the bits to compare above k others: the column in `numbers`, the alias in `packed`.
  uniform, threshold = numbers - column, packed - other
  value = tf.where(uniform < threshold, column, other)
  tied = tf.where(tf.equal(uniform, threshold))

  def settle_ties():
    own = tf.gather_nd(column, tied)
    bits = stream.words(ties_id, alias.TIE_WORDS * tf.size(own))
    high, low, top = tf.unstack(tf.reshape(bits, [alias.TIE_WORDS, -1]))
    low_uniform = _top_31_bits(high) * 2**31 + _top_31_bits(low)
    middle_uniform = tf.bitwise.bitwise_and(top, 2**table.middle_bits - 1)
    middle = tf.gather(tf.constant(table.middle), own)
    below = (middle_uniform < middle) | (
      tf.equal(middle_uniform, middle) & (low_uniform < tf.gather(tf.constant(table.low), own))
    )
    settled = tf.where(below, own, tf.gather_nd(other, tied))
    return tf.tensor_scatter_nd_update(value, tied, settled)

  return tf.cond(tf.size(tied) > 0, settle_ties, lambda: value) + table.offset


def _top_31_bits(words: tf.Tensor) -> tf.Tensor:
  one = tf.constant(1, tf.uint32)
  return tf.cast(tf.bitwise.right_shift(tf.bitcast(words, tf.uint32), one), tf.int64)


def noise_sampler(mechanism: str, variance: Fraction | float) -> NoiseSampler:
  """Builds the sampler of a noise distribution on the integers.

  Up to a standard deviation of 6400 a draw takes one table. Above it, discrete Gaussian
  noise of variance v is x_1 + m x_2 for discrete Gaussians with v_1 + m^2 v_2 = v. The
  probability of z is then the Gaussian's at z times a sum over a lattice of Gaussian weights of
  standard deviation s = (1 / v_2 + m^2 / v_1)^(-1/2), which by Poisson's summation formula
  varies with z by a factor within 1 +- 2 exp(-2 pi^2 s^2) (1 + 2^-100) of its mean.

  Args:
    mechanism: 'discrete_gaussian' (variance parameter sigma^2) or 'skellam' (difference
      of two Poisson variables of rate `variance / 2`).
    variance: Variance parameter in squared units of the integer grid, taken exactly: in (0, 1e12]
      for 'discrete_gaussian', in (0, 3500^2] for 'skellam'.

  Returns:
    The sampler.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """
  _validate.one_of(MECHANISMS, mechanism=mechanism)
  _validate.positive(variance=variance)
  variance = Fraction(variance)
  if mechanism == 'skellam' and variance > MAX_SKELLAM_STANDARD_DEVIATION**2:
    raise ConfigurationError(
      f'Skellam noise needs `variance` of at most {MAX_SKELLAM_STANDARD_DEVIATION**2}, '
      f'got {float(variance)}. Use discrete Gaussian noise, or fewer bits.'
    )
  if variance <= alias.MAX_TABLE_VARIANCE:
    single = (alias.alias_table(mechanism, variance),)
    return _sampler(mechanism, variance, single, stride=0, smoothing_error=0.0)
  if variance > MAX_STANDARD_DEVIATION**2:
    raise ConfigurationError(
      f'`variance` must be at most {MAX_STANDARD_DEVIATION**2}, got {float(variance)}. '
      'Use fewer bits.'
    )
  # Equal tables are the smallest; then s is nearly sigma / m^2.
  stride = round(math.sqrt(math.sqrt(variance) / _TARGET_SMOOTHING))
  second = Fraction(round(16 * variance / (1 + stride**2)), 16)
  first = variance - stride**2 * second
  tables = tuple(alias.alias_table(mechanism, part) for part in (first, second))
  return _sampler(
    mechanism, variance, tables, stride, smoothing_error=_smoothing_error(first, second, stride)
  )


def _smoothing_error(first: Fraction, second: Fraction, stride: int) -> float:
  """Bounds the total variation distance of x_1 + stride * x_2 to a discrete Gaussian."""
  smoothing = 1 / math.sqrt(1 / second + stride**2 / first)
  if smoothing < _LEAST_SMOOTHING:
    raise ConfigurationError(
      f'Two tables of variances {float(first)} and {float(second)} with stride {stride} smooth '
      f'by {smoothing:.2f} only; at least {_LEAST_SMOOTHING} is needed.'
    )
  relative = 2 * math.exp(-2 * (math.pi * smoothing) ** 2)
  # Half the mean of |p / q - 1|, where p / q lies within (1 +- relative) / (1 -+ relative).
  return 1.01 * relative


def _sampler(
  mechanism: str, variance: Fraction, tables: tuple, stride: int, smoothing_error: float
) -> NoiseSampler:
  return NoiseSampler(
    mechanism=mechanism,
    variance=variance,
    tables=tables,
    stride=stride,
    distance=math.nextafter(sum(t.distance for t in tables) + smoothing_error, 1.0),
  )

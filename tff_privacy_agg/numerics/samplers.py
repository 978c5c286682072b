"""Exact integer noise from packed alias tables.

A draw takes w = 16 random bits, or 24 where the table is large: k of them choose a column and
the rest is compared with the top w-k bits of the column's threshold. Equal bits (a tie,
probability 2^-(w-k)) say nothing, so those draws, and only those, are settled with the
threshold's other 96 bits. One draw in 2^78 then falls on the table's remainder, and takes 128 more.
No floating-point number is involved, and no value is ever rejected: the only distance
to the named distribution is the one that the sampler states, below 2^-180.
"""

import dataclasses
import math
from fractions import Fraction
from typing import Any

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias, probabilities, randomness, structures
from tff_privacy_agg.numerics.tracing import traced_once

MAX_STANDARD_DEVIATION = 10**6
MAX_SKELLAM_STANDARD_DEVIATION = 3500

# Smoothing of the two-table sum: at 2.54 its distance is below 2^-181. More takes larger tables.
_TARGET_SMOOTHING = 2.55
_LEAST_SMOOTHING_SQUARED = Fraction(254, 100) ** 2


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
      part = words if len(self.tables) == 1 else words[start : start + table.words(count)]
      numbers = _numbers(table, part, count)
      drawn.append(_draw(table, numbers, stream, stream_id, i, count))
      start += table.words(count)
    first, *second = drawn
    return first + self.stride * second[0] if second else first


def _numbers(table: alias.AliasTable, words: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Uniform numbers of `table.draw_bits` bits, int32 `[count]`: every bit of `words` serves once."""
  quarters = None
  if table.draw_bits == 24:
    words, quarters = tf.split(words, [table.halves(count), table.quarters(count)])
  numbers = _part_of_words(words, tf.uint16, count)
  if quarters is not None:
    numbers += _part_of_words(quarters, tf.uint8, count) * 2**16
  return numbers


def _part_of_words(words: tf.Tensor, dtype: tf.DType, count: int | tf.Tensor) -> tf.Tensor:
  """The first `count` parts of 16 or of 8 bits, int32."""
  parts = structures.first(tf.reshape(tf.bitcast(words, dtype), [-1]), count)
  return tf.cast(parts, tf.int32)


def _draw(
  table: alias.AliasTable,
  numbers: tf.Tensor,
  stream: randomness.RandomStream,
  stream_id: int,
  index: int,
  count: int | tf.Tensor,
) -> tf.Tensor:
  """Draws of `table`, int32 `[count]`, one from each uniform number."""
  mask = tf.constant(table.columns - 1)
  column = tf.bitwise.bitwise_and(numbers, mask)
  packed = tf.gather(tf.constant(table.packed), column)
  other = tf.bitwise.bitwise_and(packed, mask)
  # Both have the bits to compare above k others: the column in `numbers`, the alias in `packed`.
  uniform, threshold = numbers - column, packed - other
  value = tf.where(uniform < threshold, column, other)
  tied = tf.where(tf.equal(uniform, threshold))

  # Without a branch for no ties: they are few, and a branch takes longer to prepare than they do.
  own = tf.gather_nd(column, tied)
  words = _tie_words(table, stream, randomness.tie_stream(stream_id, index), tf.size(own), count)
  pairs, singles = tf.split(tf.reshape(words, [alias.TIE_WORDS, -1]), [2, 1])
  high, low = _pairs(pairs), tf.bitcast(tf.reshape(singles, [-1]), tf.uint32)
  own_high = tf.gather(tf.constant(table.rest.high), own)
  own_low = tf.gather(tf.constant(table.rest.low), own)
  below = (high < own_high) | (tf.equal(high, own_high) & (low < own_low))
  settled = tf.where(below, own, tf.gather_nd(other, tied))
  # The last column's threshold has no bit above its last 96, so none but ties reach its value.
  rare = tf.where(tf.equal(settled, mask))
  settled = tf.cond(
    tf.size(rare) > 0,
    lambda: tf.tensor_scatter_nd_update(
      settled,
      rare,
      _remainder(table, stream, randomness.remainder_stream(stream_id, index), tf.size(rare)),
    ),
    lambda: settled,
  )
  return tf.tensor_scatter_nd_update(value, tied, settled) + table.offset


def _tie_words(
  table: alias.AliasTable,
  stream: randomness.RandomStream,
  stream_id: int,
  ties: tf.Tensor,
  count: int | tf.Tensor,
) -> tf.Tensor:
  """The words of so many ties among `count` draws."""
  if not tf.is_tensor(count) and table.likely_ties(count) == count:  # enough whatever comes
    return structures.first(
      stream.words(stream_id, alias.TIE_WORDS * count), alias.TIE_WORDS * ties
    )
  return stream.words(stream_id, alias.TIE_WORDS * ties)


def _remainder(
  table: alias.AliasTable, stream: randomness.RandomStream, stream_id: int, count: tf.Tensor
) -> tf.Tensor:
  """Draws of the remainder of `table` by inversion, int32 `[count]`, less the table's offset."""
  words = stream.words(stream_id, alias.REMAINDER_WORDS * count)
  thresholds = tf.constant(table.remainder.high), tf.constant(table.remainder.low)
  return _invert(words, *thresholds) - table.offset


# A function of its own at run time: inlined, it is visited in every round that does not take it.
@traced_once(
  tf.TensorSpec([None], tf.int32),
  tf.TensorSpec([None], tf.uint64),
  tf.TensorSpec([None], tf.uint64),
  apart=True,
)
def _invert(words: tf.Tensor, above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
  """Draws by inversion, four words each, between the upper and lower halves of thresholds."""
  high, low = tf.split(tf.reshape(_pairs(words), [-1, 2]), 2, axis=1)
  reached = (above < high) | (tf.equal(above, high) & (below <= low))
  magnitude = tf.reduce_sum(tf.cast(reached, tf.int32), axis=1)
  last = tf.bitwise.bitwise_and(tf.reshape(low, [-1]), tf.constant(1, tf.uint64))
  return magnitude * (1 - 2 * tf.cast(last, tf.int32))


def _pairs(words: tf.Tensor) -> tf.Tensor:
  """Words, int32 `[2 * n]`, as uint64 `[n]`."""
  return tf.bitcast(tf.reshape(words, [-1, 2]), tf.uint64)


def noise_sampler(mechanism: str, variance: Fraction | float) -> NoiseSampler:
  """Builds the sampler of a noise distribution on the integers.

  Up to a standard deviation of 6400 a draw takes one table. Above it, discrete Gaussian
  noise of variance v is x_1 + m x_2 for discrete Gaussians with v_1 + m^2 v_2 = v. The
  sum is a discrete Gaussian to within the smoothing error, which the distance includes.

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
  _validate.one_of(DISTRIBUTED, mechanism=mechanism)
  _validate.positive(variance=variance)
  variance = Fraction(variance)
  if mechanism == 'skellam' and variance > MAX_SKELLAM_STANDARD_DEVIATION**2:
    raise ConfigurationError(
      f'Skellam noise needs `variance` of at most {MAX_SKELLAM_STANDARD_DEVIATION**2}, '
      f'got {float(variance)}. Use discrete Gaussian noise, or fewer bits.'
    )
  if variance <= probabilities.MAX_TABLE_VARIANCE:
    single = (alias.alias_table(mechanism, variance),)
    return _sampler(mechanism, variance, single, stride=0, smoothing_error=Fraction(0))
  if variance > MAX_STANDARD_DEVIATION**2:
    raise ConfigurationError(
      f'`variance` must be at most {MAX_STANDARD_DEVIATION**2}, got {float(variance)}. '
      'Use fewer bits.'
    )
  first, second, stride = _two_variances(variance)
  tables = tuple(alias.alias_table(mechanism, part) for part in (first, second))
  return _sampler(
    mechanism, variance, tables, stride, smoothing_error=_smoothing_error(first, second, stride)
  )


def _two_variances(variance: Fraction) -> tuple[Fraction, Fraction, int]:
  """Variances v_1 and v_2 and a stride m with v_1 + m^2 v_2 = `variance`, exactly."""
  # Equal tables are the smallest; then s is nearly sigma / m^2.
  stride = math.isqrt(int(math.sqrt(variance) / _TARGET_SMOOTHING))
  second = Fraction(round(16 * variance / (1 + stride**2)), 16)
  return variance - stride**2 * second, second, stride


def _smoothing_error(first: Fraction, second: Fraction, stride: int) -> Fraction:
  """Bounds the total variation distance of x_1 + stride * x_2 to a discrete Gaussian.

  The probability of z is the Gaussian's at z times a sum over the integers of Gaussian weights of
  variance s^2 = 1 / (1 / v_2 + m^2 / v_1), which by Poisson's summation formula varies with z by a
  factor within 1 +- a, a = 2 sum over k >= 1 of exp(-2 pi^2 s^2 k^2). The distance is at most
  a / (1 - a).
  """
  smoothing_squared = first * second / (first + stride**2 * second)
  if smoothing_squared < _LEAST_SMOOTHING_SQUARED:
    raise ConfigurationError(
      f'Two tables of variances {float(first)} and {float(second)} with stride {stride} smooth '
      f'by {math.sqrt(smoothing_squared):.2f} only; at least '
      f'{math.sqrt(_LEAST_SMOOTHING_SQUARED)} is needed.'
    )
  # exp(-x) is at most 2^-n for x >= n log 2; pi^2 > 9.8696 and log 2 < 0.693148.
  halvings = math.floor(2 * Fraction('9.8696') * smoothing_squared / Fraction('0.693148'))
  return Fraction(2, 2**halvings) * Fraction(101, 100)


def _sampler(
  mechanism: str, variance: Fraction, tables: tuple, stride: int, smoothing_error: Fraction
) -> NoiseSampler:
  distance = sum((Fraction(table.distance) for table in tables), smoothing_error)
  return NoiseSampler(
    mechanism=mechanism,
    variance=variance,
    tables=tables,
    stride=stride,
    distance=probabilities.round_up(distance),
  )

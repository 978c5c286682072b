"""Exact integer noise from packed alias tables.

A draw takes a 32-bit word, or half of one where the table is small: k of its w bits choose
a column and the rest is compared with the top w-k bits of the column's threshold. Equal bits (a
tie, probability 2^-(w-k)) say nothing, so those draws, and only those, are settled with the
threshold's other bits, 62 or 78.
No floating-point number is involved, and no value is ever rejected: the only distance
to the named distribution is the one that the sampler states.
"""

import dataclasses
import math
from fractions import Fraction

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import alias, randomness

MECHANISMS = ('discrete_gaussian', 'skellam')
MAX_STANDARD_DEVIATION = 10**6

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

  def words(self, count: int) -> int:
    """Number of 32-bit words that `count` draws take, ties apart."""
    return sum(table.words(count) for table in self.tables)

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
      part = words[start : start + table.words(count)]
      drawn.append(_draw(table, part, count, stream, randomness.tie_stream(stream_id, i)))
      start += table.words(count)
    first, *second = drawn
    return first + self.stride * second[0] if second else first


def _draw(
  table: alias.AliasTable,
  words: tf.Tensor,
  count: int | tf.Tensor,
  stream: randomness.RandomStream,
  ties_id: int,
) -> tf.Tensor:
  """Draws of `table`, int32 `[count]`."""
  # The bits that do not choose the column are uniform on the multiples of 2^k, in the order
  # of the table's packed thresholds.
  if table.draw_bits == 16:
    halves = tf.reshape(tf.bitcast(words, tf.uint16), [-1])[:count]
    number = tf.cast(halves, tf.int32)
    column = tf.bitwise.bitwise_and(number, table.columns - 1)
    uniform = number - column
  else:
    shift = tf.constant(32 - table.log_columns, tf.uint32)
    column = tf.bitcast(tf.bitwise.right_shift(tf.bitcast(words, tf.uint32), shift), tf.int32)
    uniform = words * table.columns
  packed = tf.gather(tf.constant(table.packed), column)
  other = tf.bitwise.bitwise_and(packed, table.columns - 1)
  # The alias bits in `packed` lie below the bits of `uniform`: they matter to ties only.
  value = tf.where(uniform < packed, column, other)
  tied = tf.equal(uniform, packed - other)

  def settle_ties():
    rows = tf.where(tied)
    own = tf.gather_nd(column, rows)
    bits = stream.words(ties_id, table.tie_words * tf.size(own))
    high, low, *more = tf.unstack(tf.cast(tf.reshape(bits, [table.tie_words, -1]), tf.int64))
    low_uniform = (high + 2**31) // 2 * 2**31 + (low + 2**31) // 2
    below = low_uniform < tf.gather(tf.constant(table.low), own)
    if more:
      middle_uniform = tf.cast(tf.bitwise.bitwise_and(more[0], 2**16 - 1), tf.int32)
      middle = tf.gather(tf.constant(table.middle), own)
      below = (middle_uniform < middle) | (tf.equal(middle_uniform, middle) & below)
    settled = tf.where(below, own, tf.gather_nd(other, rows))
    return tf.tensor_scatter_nd_update(value, rows, settled)

  return tf.cond(tf.reduce_any(tied), settle_ties, lambda: value) + table.offset


def noise_sampler(mechanism: str, variance: Fraction | float) -> NoiseSampler:
  """Builds the sampler of a noise distribution on the integers.

  Up to a standard deviation of 3500 a draw takes one table. Above it, discrete Gaussian
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
  if variance <= alias.MAX_TABLE_VARIANCE:
    single = (alias.alias_table(mechanism, variance),)
    return _sampler(mechanism, variance, single, stride=0, smoothing_error=0.0)
  if mechanism == 'skellam':
    raise ConfigurationError(
      f'Skellam noise needs `variance` of at most {alias.MAX_TABLE_VARIANCE}, '
      f'got {float(variance)}. Use discrete Gaussian noise, or fewer bits.'
    )
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

"""Exact integer noise from one alias table, or from two of which one is stretched.

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
from tff_privacy_agg.numerics import alias, alias_draws, probabilities, randomness

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
      numbers = alias_draws.uniform_numbers(table, part, count)
      drawn.append(alias_draws.draw(table, numbers, stream, stream_id, i, count))
      start += table.words(count)
    first, *second = drawn
    return first + self.stride * second[0] if second else first


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

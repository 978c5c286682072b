"""Sensitivity of integer noise that is correlated over rounds by a banded Toeplitz matrix.

The server releases `r_t = x_t + n_t` with `n_t = z_t - round(sum_j c_j n_(t-j))`, `z_t` a fresh
discrete Gaussian. Given the past releases, `r_t` is a discrete Gaussian around the integer vector
`q_t = x_t - round(sum_j c_j (r_(t-j) - x_(t-j)))`. One participation moves `x_t` by an integer vector
v, and `q_(t+j)` by `c_j v` and a rounding error below 1 in each coordinate where v is not 0.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

# Coefficients are multiples of 2^-24: with noise below 2^35 their products fit 60 bits.
FRACTION_BITS = 24
ONE = 2**FRACTION_BITS


@dataclasses.dataclass(frozen=True)
class BandedColumn:
  """First column of a banded lower-triangular Toeplitz matrix, in fixed point.

  Attributes:
    steps: Coefficients in units of `2^-24`; the first is `2^24`, which stands for 1.
  """

  steps: tuple[int, ...]

  def __post_init__(self):
    if not self.steps or self.steps[0] != ONE:
      raise ConfigurationError(
        f'A column of {len(self.steps)} coefficients does not begin with 1; divide it by its first.'
      )

  @classmethod
  def from_floats(cls, column: Sequence[float]) -> 'BandedColumn':
    """Rounds coefficients, of which the first is 1, to the nearest multiples of `2^-24`."""
    return cls(tuple(round(Fraction(c) * ONE) for c in column))

  @property
  def bands(self) -> int:
    """Number of coefficients, at least 1."""
    return len(self.steps)

  @functools.cached_property
  def squared_steps(self) -> int:
    """Exact squared norm in units of `2^-48`."""
    return sum(c * c for c in self.steps)

  def squared_sensitivity(self, l2_squared: int, dimension: int) -> int:
    """Largest squared norm by which one participation moves the centres of all rounds.

    `floor((||c|| L + sqrt((bands - 1) m))^2)` with `m = min(dimension, L^2)`, exact: centres are
    integer vectors, so their squared distance is an integer.

    Args:
      l2_squared: `L^2`, largest squared norm of one client's integers, at least 1.
      dimension: Coordinates, at least 1.

    >>> BandedColumn.from_floats([1.0]).squared_sensitivity(100, 4)
    100
    """
    _validate.at_least(1, l2_squared=l2_squared, dimension=dimension)
    scaled = self.squared_steps * l2_squared
    rounding = (self.bands - 1) * min(dimension, l2_squared)
    twice_product = math.isqrt(4 * ONE**2 * scaled * rounding)
    return (scaled + rounding * ONE**2 + twice_product) // ONE**2

  def mu_squared(
    self,
    *,
    l2_squared: int,
    dimension: int,
    variance: Fraction,
    participations: int,
    separation: int,
  ) -> Fraction:
    """Squared mu of all rounds together for one client.

    Args:
      l2_squared: Largest squared norm of one client's integers.
      dimension: Coordinates.
      variance: `V - t^2` of the reduction to a Gaussian, of one fresh draw, positive.
      participations: Most rounds in which one client takes part.
      separation: Any two of these rounds x < y have y - x >= separation.

    Raises:
      ConfigurationError: If a client may return while its last participation still counts.
    """
    _validate.at_least(1, participations=participations, separation=separation)
    if variance <= 0:
      raise ConfigurationError(f'`variance` is {variance}; it must be positive.')
    if separation < self.bands:
      raise ConfigurationError(
        f'{self.bands} bands need participations at least {self.bands} rounds apart, got '
        f'`separation` {separation}. Separate cohorts further, or use fewer bands.'
      )
    return Fraction(participations * self.squared_sensitivity(l2_squared, dimension)) / variance


def most_participations(rounds: int, separation: int) -> int:
  """Most of `rounds` rounds in which one client can take part, `separation` rounds apart.

  >>> most_participations(10, 3)
  4
  """
  _validate.at_least(1, rounds=rounds, separation=separation)
  return (rounds - 1) // separation + 1

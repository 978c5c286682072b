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

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

# Coefficients are multiples of 2^-24: with noise below 2^35 their products fit 60 bits.
FRACTION_BITS = 24
ONE = 2**FRACTION_BITS
# Rounds of the inverse that are looked at; its sum is that of all rounds to within this factor.
_LONGEST, _MARGIN = 2**20, 1 + 2**-10


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True)
class BandedColumn:
  """First column of a banded lower-triangular Toeplitz matrix, in fixed point.

  Attributes:
    steps: Coefficients in units of `2^-24`; the first is `2^24`, which stands for 1.
  """

  steps: tuple[int, ...]

  def __post_init__(self) -> None:
    if not all(type(step) is int for step in self.steps):
      raise ConfigurationError(
        f'`steps` must be integers, multiples of 2^-24; got {self.steps!r}. Pass coefficients to '
        '`from_floats`.'
      )
    if not self.steps or self.steps[0] != ONE:
      raise ConfigurationError(
        f'A column of {len(self.steps)} coefficients does not begin with 1; divide it by its first.'
      )

  @classmethod
  def from_floats(cls, column: Sequence[float]) -> 'BandedColumn':
    """Rounds coefficients, of which the first is 1, to the nearest multiples of `2^-24`."""
    if not all(map(math.isfinite, column)):
      raise ConfigurationError(f'The coefficients of a column must be finite, got {list(column)}.')
    return cls(tuple(round(Fraction(c) * ONE) for c in column))

  @property
  def bands(self) -> int:
    """Number of coefficients, at least 1."""
    return len(self.steps)

  @property
  def coefficients(self) -> list[float]:
    """The coefficients as floats; the first is 1."""
    return [step / ONE for step in self.steps]

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

    Examples:
      >>> BandedColumn.from_floats([1.0]).squared_sensitivity(100, 4)
      100
    """
    _validate.at_least(1, l2_squared=l2_squared, dimension=dimension)
    scaled = self.squared_steps * l2_squared
    rounding = (self.bands - 1) * min(dimension, l2_squared)
    twice_product = math.isqrt(4 * ONE**2 * scaled * rounding)
    return (scaled + rounding * ONE**2 + twice_product) // ONE**2

  def largest_noise(self, radius: int) -> int:
    """The most that a coordinate of the noise is off zero, in however many rounds.

    The noise is `C^-1 (z - e)` with rounding errors `e` of at most a half, so it is at most
    `(radius + 1/2) sum_t |h_t|` with `h` the first column of `C^-1`.

    Args:
      radius: The largest absolute value of a fresh draw, at least 0.

    Raises:
      ConfigurationError: If the noise could grow without end.

    Examples:
      >>> BandedColumn.from_floats([1.0, 0.5]).largest_noise(1000)
      2003
    """
    _validate.at_least(0, radius=radius)
    return math.ceil((radius + 0.5) * self._inverse_sum * _MARGIN)

  def inverse(self, rounds: int) -> np.ndarray:
    """First column of the inverse, float64 `[rounds]`: what a draw adds to each round from its own on."""
    # Takes half a second to import, which most programs would spend for nothing.
    from scipy import signal

    return signal.lfilter([1.0], np.array(self.steps, np.float64) / ONE, np.eye(1, rounds)[0])

  @functools.cached_property
  def _inverse_sum(self) -> float:
    """Bounds the sum of `|h_t|` over all rounds, but for floating-point rounding.

    After N rounds the rest f of h solves `C f = u`, where u is what the last coefficients of h
    carry over: `|f| <= |h| |u|` in sums of absolute values, over any number of rounds. So if
    `|u| < 1`, `|h| <= |first N of h| / (1 - |u|)`.
    """
    if self.bands == 1:
      return 1.0
    column = np.array(self.steps, np.float64) / ONE
    rounds = 16 * self.bands
    with np.errstate(over='ignore', invalid='ignore'):
      while rounds <= _LONGEST:
        h = self.inverse(rounds)
        carried = np.convolve(column[1:], h[1 - self.bands :])[self.bands - 2 :]
        if (rest := float(np.abs(carried).sum())) <= _MARGIN - 1:
          return float(np.abs(h).sum()) / (1 - rest)
        rounds *= 2
    raise ConfigurationError(
      f'The noise of these {self.bands} bands grows from round to round: the inverse of the matrix '
      'does not die out. Use smaller coefficients, each no larger than the one before.'
    )

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
    check_separation(self, separation)
    return Fraction(participations * self.squared_sensitivity(l2_squared, dimension)) / variance


def check_separation(column: BandedColumn, separation: int) -> None:
  """Raises unless participations so far apart move no round twice.

  Raises:
    ConfigurationError: If a client may return while its last participation still counts.
  """
  if separation < column.bands:
    raise ConfigurationError(
      f'{column.bands} bands need participations at least {column.bands} rounds apart, got '
      f'`separation` {separation}. Separate cohorts further, or use fewer bands.'
    )

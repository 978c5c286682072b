"""The integer design of the central model: clients round, the server adds all of the noise.

The server's noise is one discrete Gaussian, so nothing is spent on a sum of shares. Its variance is
the widest that the samplers draw from one table used twice; the scale follows from it.
"""

import math
from fractions import Fraction

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.correlated.column import BandedColumn
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.designs.scales import LARGEST_BOUND, MAXIMUM_BITS
from tff_privacy_agg.accounting.vectors import squared_norm
from tff_privacy_agg.errors import ConfigurationError

# x_1 + 626 x_2 of two draws of variance 1597^2: a standard deviation of 999,723 steps.
WIDEST_VARIANCE = Fraction(1597**2 * (1 + 626**2))
# What the noise and its two tables can add to a sum.
_ROOM_FOR_NOISE = 2**32
# Rounding moves a squared norm by less than this times K, but for one vector in 10^40.
_ROUNDING_SLACK = 8


@_validate.plain_numbers
def central_design(
  *,
  noise_multiplier: float,
  cohort_maximum: int,
  dimension: int,
  column: BandedColumn | None = None,
) -> IntegerDesign:
  """Solves the integer design of a stack whose server adds the noise.

  `K`, the clip norm in steps, is the largest integer at which the sum of `cohort_maximum` clients
  fits 62 bits, squared norms are exact in float64, and the samplers draw the noise. Clients round to
  the nearest integer. The squared norm of what they send is at most
  `K^2 + d/4 + K min(8, ceil(sqrt(d)))`, in integers: up to 64 coordinates that is the worst case
  of rounding; beyond, the few vectors that would exceed it are truncated towards zero.

  Args:
    noise_multiplier: Of the vector, positive: standard deviation over the norm bound; where noise
      is correlated over rounds, that of a fresh draw over how far one participation moves all
      rounds together.
    cohort_maximum: Largest cohort admitted, at least 1.
    dimension: Coordinates, at least 1.
    column: How the noise of rounds is correlated; None if it is not.

  Raises:
    ConfigurationError: If the noise is more than the samplers draw at one step a clip norm.

  Examples:
    >>> design = tpa.accounting.central_design(
    ...   noise_multiplier=1.0, cohort_maximum=100, dimension=1000
    ... )
    >>> round(design.scaled_norm), design.mechanism
    (999719, 'central_discrete_gaussian')
  """
  _validate.positive(noise_multiplier=noise_multiplier)
  _validate.at_least(1, cohort_maximum=cohort_maximum, dimension=dimension)
  z_squared = Fraction(noise_multiplier) ** 2

  def bound(norm: int) -> float:
    slack = min(_ROUNDING_SLACK, math.isqrt(dimension - 1) + 1)
    return math.sqrt(norm**2 + -(-dimension // 4) + slack * norm)

  def variance(norm: int) -> Fraction:
    moved = squared_norm(bound(norm))
    if column is not None:
      moved = column.squared_sensitivity(moved, dimension)
    return Fraction(math.ceil(16 * z_squared * moved), 16)

  def fits(norm: int) -> bool:
    of_sum = cohort_maximum * math.ceil(bound(norm)) + _ROOM_FOR_NOISE
    small = bound(norm) <= LARGEST_BOUND and of_sum <= 2 ** (MAXIMUM_BITS - 1)
    return small and variance(norm) <= WIDEST_VARIANCE

  if not fits(1):
    raise ConfigurationError(
      f'The server cannot add a noise multiplier of {noise_multiplier:g} to {dimension} '
      f'coordinates and {counted(cohort_maximum, "client")}: not even one step a clip norm carries '
      'it. Lower the noise multiplier or the dimension.'
    )
  low, high = 1, 2 * int(LARGEST_BOUND)
  while high - low > 1:
    middle = (low + high) // 2
    low, high = (middle, high) if fits(middle) else (low, middle)
  needed = variance(low)
  # One table serves every stack whose scale is fine: it takes a while to build.
  shared = needed * (1 + Fraction(1, 2**14)) >= WIDEST_VARIANCE
  return IntegerDesign(
    bits=MAXIMUM_BITS,
    modulus=2**MAXIMUM_BITS,
    dimension=dimension,
    scaled_norm=float(low),
    l2_bound=bound(low),
    l1_bound=bound(low) * min(math.sqrt(dimension), bound(low)),
    local_variance=float(WIDEST_VARIANCE if shared else needed),
    beta=0.0,
    mechanism=CENTRAL if column is None else CORRELATED,
    noise_multiplier=float(noise_multiplier),
  )

"""Closed forms of the integer domain: norm bounds, scale, capacity of the modulus.

Symbols: `K` the clip norm in integer units, `B` and `L1` the norm bounds of one
client's rounded vector, `v` the variance of one client's noise share, `D` the
padded dimension, `n` clients, `b` bits. Norms are in integer units throughout.
"""

import math
from collections.abc import Callable

from scipy import special

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError

MAXIMUM_BITS = 62
LARGEST_BOUND = 2.0**26  # squared norms stay exact in float64


@_validate.plain_numbers
def clip_stddevs(modclip_prob: float) -> float:
  """Returns `k = sqrt(2) * erfcinv(p)`: p is the two-sided tail of a normal beyond k.

  Args:
    modclip_prob: Probability that a coordinate of the sum wraps, in (0, 1).

  Examples:
    >>> round(tpa.accounting.clip_stddevs(1e-4), 2)
    3.89
  """
  _validate.fraction(modclip_prob=modclip_prob)
  return math.sqrt(2.0) * float(special.erfcinv(modclip_prob))


@_validate.plain_numbers
def norm_bounds(scaled_norm: float, dimension: int, beta: float) -> tuple[float, float]:
  """Returns (B, L1), the norm bounds of a stochastically rounded vector.

  `B^2 = min((K + sqrt(D))^2, K^2 + D/4 + sqrt(2 ln(1/beta)) (K + sqrt(D)/2))`,
  the second form for conditional rounding only; `L1 = B min(sqrt(D), B)`, as
  |x| <= x^2 for integers. arXiv:2102.06387, section 4.1.

  Args:
    scaled_norm: `K`, L2 bound before rounding, at least 0.
    dimension: `D`, at least 1.
    beta: A try of the conditional rounding is kept with probability at least
      1 - beta, in (0, 1); 0 means unconditional rounding.

  Examples:
    >>> [
    ...   round(bound, 1)
    ...   for bound in tpa.accounting.norm_bounds(500.0, dimension=1024, beta=0.6)
    ... ]
    [500.8, 16024.9]
  """
  _validate.non_negative(scaled_norm=scaled_norm, beta=beta)
  _validate.at_least(1, dimension=dimension)
  if beta >= 1:
    raise ConfigurationError(f'`beta` must be below 1, got {beta!r}.')
  root = math.sqrt(dimension)
  bound = scaled_norm + root
  if beta > 0:
    slack = math.sqrt(2.0 * math.log(1.0 / beta)) * (scaled_norm + root / 2.0)
    bound = min(bound, math.sqrt(scaled_norm**2 + dimension / 4.0 + slack))
  return bound, bound * min(root, bound)


@_validate.plain_numbers
def fits_modulus(
  scaled_norm: float,
  local_variance: float,
  *,
  clients: int,
  bits: int,
  dimension: int,
  modclip_prob: float,
  rho: float,
) -> bool:
  """Says whether a sum wraps with probability at most `modclip_prob` a coordinate.

  `2k sqrt(rho K^2 n^2/D + n/4 + n v) <= 2^b`; arXiv:2102.06387.

  Args:
    scaled_norm: `K`, at least 0.
    local_variance: `v`, at least 0.
    clients: `n`, the largest cohort admitted.
    bits: `b`, the modulus is 2^bits.
    dimension: `D`, at least 1.
    modclip_prob: In (0, 1).
    rho: Flatness of the rotation: 1 after a random rotation, `dimension` without.

  Examples:
    >>> tpa.accounting.fits_modulus(
    ...   500.0, 1e3, clients=100, bits=16, dimension=1024, modclip_prob=1e-4, rho=1.0
    ... )
    True
  """
  _validate.non_negative(scaled_norm=scaled_norm, local_variance=local_variance)
  _validate.at_least(1, clients=clients, bits=bits, dimension=dimension)
  _validate.positive(rho=rho)
  k = clip_stddevs(modclip_prob)
  signal = rho * (scaled_norm * clients) ** 2 / dimension
  return 4 * k**2 * (signal + clients * (0.25 + local_variance)) <= 4.0**bits


@_validate.plain_numbers
def scale_from_bits(
  *,
  clip: float,
  noise_multiplier: float,
  expected_clients: int,
  bits: int,
  dimension: int,
  modclip_prob: float,
  rho: float = 1.0,
) -> float:
  """Returns the scale that fills the modulus when noise is nominal, z*clip/sqrt(n) a client.

  `s = sqrt(2^(2b) - n k^2) / (2k sqrt(rho c^2 n^2/D + n sigma_local^2))`, with
  no cap, so `s * clip` does not depend on the clip; arXiv:2102.06387.

  Args:
    clip: L2 clip norm `c`, in units of the update, positive.
    noise_multiplier: Nominal noise of the sum over the clip norm, at least 0.
      Not the effective one, which rounding makes smaller.
    expected_clients: `n`, at least 1.
    bits: 1 to 62.
    dimension: Padded dimension `D`, at least 1.
    modclip_prob: In (0, 1).
    rho: Flatness of the rotation, positive.

  Raises:
    ConfigurationError: If rounding errors alone overflow the modulus.

  Examples:
    >>> round(
    ...   tpa.accounting.scale_from_bits(
    ...     clip=1.0,
    ...     noise_multiplier=1.0,
    ...     expected_clients=100,
    ...     bits=16,
    ...     dimension=1024,
    ...     modclip_prob=1e-4,
    ...   ),
    ...   1,
    ... )
    2566.9
  """
  _validate.positive(clip=clip, rho=rho)
  _validate.non_negative(noise_multiplier=noise_multiplier)
  _validate.at_least(1, expected_clients=expected_clients, dimension=dimension)
  k = clip_stddevs(modclip_prob)
  signal = rho * (clip * expected_clients) ** 2 / dimension
  deviation = math.sqrt(signal + (noise_multiplier * clip) ** 2)
  return _room(expected_clients, bits, k) / (2 * k * deviation)


@_validate.plain_numbers
def noise_multiplier_supremum(
  *, clients: int, bits: int, dimension: int, modclip_prob: float, beta: float
) -> float:
  """Returns the effective noise multiplier that no noise can exceed at this bit width.

  `sqrt(2^(2b) - n k^2) / (2k B0)`: as noise grows the scale falls, and the
  norm bound falls no lower than `B0`, that of rounding errors alone.

  Args:
    clients: `n`, at least 1.
    bits: 1 to 62.
    dimension: Padded dimension, at least 1.
    modclip_prob: In (0, 1).
    beta: As for `norm_bounds`.

  Examples:
    >>> round(
    ...   tpa.accounting.noise_multiplier_supremum(
    ...     clients=100, bits=16, dimension=1024, modclip_prob=1e-4, beta=0.6
    ...   ),
    ...   1,
    ... )
    510.5
  """
  _validate.at_least(1, clients=clients)
  k = clip_stddevs(modclip_prob)
  return _room(clients, bits, k) / (2 * k * norm_bounds(0.0, dimension, beta)[0])


def validate_bits(bits: int) -> None:
  """Raises unless `bits` is an integer from 1 to 62."""
  _validate.at_least(1, bits=bits)
  if bits > MAXIMUM_BITS:
    raise ConfigurationError(f'`bits` must be at most {MAXIMUM_BITS}, got {bits!r}.')


def validate_cohort(maximum: int, honest: int, bits: int) -> None:
  """Raises unless 1 <= honest <= maximum and the bits are in range."""
  _validate.at_least(1, cohort_maximum=maximum, minimum_honest=honest)
  validate_bits(bits)
  if honest > maximum:
    raise ConfigurationError(
      f'A cohort of at most {counted(maximum, "client")} cannot have '
      f'{counted(honest, "honest survivor")}. Lower the latter or raise the former.'
    )


def noiseless_norm(
  clients: int, bits: int, dimension: int, modclip_prob: float, rho: float
) -> float:
  """Returns the norm that fills the modulus if nothing but the signal did."""
  k = clip_stddevs(modclip_prob)
  return 2.0**bits * math.sqrt(dimension / rho) / (2 * k * clients)


def unwrapped_norm(clients: int, bits: int) -> float:
  """Returns the largest norm whose sum never wraps, wherever in the vector it lies, or less than 0.

  A coordinate of a rounded vector is at most `K + 1`, and `n (K + 1) <= 2^(b-1) - 1`.
  """
  return (2.0 ** (bits - 1) - 1) / clients - 1


def largest_norm(holds: Callable[[float], bool], high: float) -> float | None:
  """Returns the largest norm up to `high` at which a falling predicate holds, or None."""
  if holds(high):
    return high
  low = math.ldexp(high, -60)
  if not holds(low):
    return None
  for _ in range(80):
    middle = math.sqrt(low * high)
    if holds(middle):
      low = middle
    else:
      high = middle
  return low


def _room(clients: int, bits: int, k: float) -> float:
  validate_bits(bits)
  room = 4.0**bits - clients * k**2
  if room <= 0:
    needed = math.ceil(0.5 * math.log2(clients * k**2 + 1))
    raise ConfigurationError(
      f'With {counted(bits, "bit")} the rounding errors of {counted(clients, "client")} alone '
      f'overflow the modulus. Use at least {counted(needed, "bit")}.'
    )
  return math.sqrt(room)

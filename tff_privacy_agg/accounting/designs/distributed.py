"""The integer design where the clients add the noise, or nobody does: solved once at build.

Only the clip norm in integer units, `K`, matters to privacy, so `K`, the share
variance `v` and the bounds `B` and `L1` are constants; the scale `K / clip` alone
moves with an adaptive clip. Privacy is sized for the fewest honest survivors,
the modulus for the largest cohort.
"""

import math
import warnings

from tff_privacy_agg import _validate
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.designs import scales
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.designs.shares import LARGEST_SHARE, share_variance
from tff_privacy_agg.accounting.mechanisms.distributed import tau
from tff_privacy_agg.errors import ConfigurationError

_LARGEST_NOISELESS_NORM = 2.0**52  # scaled values stay below the integers of float64
_ERROR_OVER_CENTRAL = 1.001  # a larger scale would buy nothing but random bits
_TAU_WARNING = 1e-3


@_validate.plain_numbers
def solve(
  *,
  noise_multiplier: float | None,
  cohort_maximum: int,
  minimum_honest: int,
  bits: int,
  dimension: int,
  modclip_prob: float = 1e-4,
  rho: float = 1.0,
  beta: float = math.exp(-0.5),
  mechanism: str | None = None,
) -> IntegerDesign:
  """Solves the integer design of a stack.

  `K` is the smallest norm whose error is within 0.1 % of a central Gaussian's, or
  the largest that the modulus and the samplers carry if that is less. `v` is
  rounded up to a multiple of 1/16 and `K` down to 21 binary digits; then
  `z_eff(minimum_honest) >= noise_multiplier` and the sum of `cohort_maximum`
  clients fits the modulus. Without noise `K` fills the modulus: what a vector loses to
  rounding is `rounding_error` over the length of the summed integers.

  Args:
    noise_multiplier: Effective noise multiplier at `minimum_honest` honest
      survivors; 0 or None for no noise.
    cohort_maximum: Largest cohort admitted, at least 1.
    minimum_honest: Fewest honest survivors, 1 to `cohort_maximum`.
    bits: Bits of the modulus, 1 to 62.
    dimension: Padded dimension, at least 1.
    modclip_prob: Probability that a coordinate of the sum wraps, in (0, 1).
    rho: Flatness of the rotation: 1 after a random rotation, `dimension` without.
    beta: Bias parameter of the rounding, in [0, 1); 0 for unconditional rounding.
    mechanism: 'discrete_gaussian' or 'skellam'; ignored without noise.

  Raises:
    ConfigurationError: If the bits cannot carry the noise; names the smallest
      bit width that can.

  Examples:
    >>> design = tpa.accounting.solve(
    ...   noise_multiplier=1.0,
    ...   cohort_maximum=100,
    ...   minimum_honest=80,
    ...   bits=16,
    ...   dimension=1024,
    ...   mechanism='discrete_gaussian',
    ... )
    >>> round(design.scaled_norm), design.local_variance
    (706, 6248.8125)
  """
  _validate.non_negative(noise_multiplier=noise_multiplier or 0.0)
  z = float(noise_multiplier or 0.0)
  _validate.positive(rho=rho)
  scales.validate_cohort(cohort_maximum, minimum_honest, bits)
  if z > 0:
    _validate.one_of(DISTRIBUTED, mechanism=mechanism)
  law = mechanism if z > 0 else None

  def share(norm: float) -> float:
    return share_variance(z, scales.norm_bounds(norm, dimension, beta)[0], minimum_honest)

  def norm_for(width: int) -> float | None:
    def fits(norm: float) -> bool:
      variance = share(norm)
      if law is not None and (
        math.sqrt(variance) > LARGEST_SHARE[law]
        or scales.norm_bounds(norm, dimension, beta)[0] > scales.LARGEST_BOUND
      ):
        return False
      return scales.fits_modulus(
        norm,
        variance,
        clients=cohort_maximum,
        bits=width,
        dimension=dimension,
        modclip_prob=modclip_prob,
        rho=rho,
      )

    limit = scales.noiseless_norm(cohort_maximum, width, dimension, modclip_prob, rho)
    if law is None:
      limit = min(limit, _LARGEST_NOISELESS_NORM)
    else:
      limit = min(limit, _sufficient_norm(z, minimum_honest, dimension, beta))
    found = scales.largest_norm(fits, limit)
    if law is None and rho >= dimension:
      # Without a rotation the worst sum is the bound itself: no tail is to be kept free.
      never = min(scales.unwrapped_norm(cohort_maximum, width), _LARGEST_NOISELESS_NORM)
      found = max(found or 0.0, never) if never > 0 else found
    return None if found is None else _rounded_down(found)

  def works(norm: float | None) -> bool:
    if norm is None or law is None:
      return norm is not None
    one_step = math.floor(scales.norm_bounds(norm, dimension, beta)[0] ** 2) >= 1
    return one_step and not narrow(norm)

  def narrow(norm: float) -> bool:
    return law == 'discrete_gaussian' and share(norm) < 1

  norm = norm_for(bits)
  if norm is None or not works(norm):
    raise _infeasible(
      f'{counted(bits, "bit")} cannot carry '
      + (f'a noise multiplier of {z:g} ({law}) for ' if law else 'the sum of ')
      + f'{counted(cohort_maximum, "client")} with {counted(minimum_honest, "honest survivor")} '
      f'in dimension {dimension}',
      next((w for w in range(1, scales.MAXIMUM_BITS + 1) if works(norm_for(w))), None),
      share(norm) if norm is not None and narrow(norm) else None,
    )
  variance = share(norm)
  bound, l1 = scales.norm_bounds(norm, dimension, beta)
  if law == 'discrete_gaussian':
    _warn_of_tau(variance, cohort_maximum, dimension)
  return IntegerDesign(
    bits=bits,
    modulus=2**bits,
    dimension=dimension,
    scaled_norm=norm,
    l2_bound=bound,
    l1_bound=l1,
    local_variance=variance,
    beta=beta,
    mechanism=law,
    noise_multiplier=z,
  )


def _sufficient_norm(z: float, honest: int, dimension: int, beta: float) -> float:
  """Returns the smallest K whose error is within 0.1 % of a central Gaussian's."""

  def coarse(norm: float) -> bool:
    bound, _ = scales.norm_bounds(norm, dimension, beta)
    error = math.sqrt((z * bound) ** 2 + honest / 4) / (z * norm)
    return error > _ERROR_OVER_CENTRAL

  high = 1.0
  while coarse(high):
    high *= 2
  return scales.largest_norm(coarse, high) or high


def _rounded_down(value: float) -> float:
  mantissa, exponent = math.frexp(value)
  return math.ldexp(math.floor(math.ldexp(mantissa, 21)), exponent - 21)


def _infeasible(refused: str, smallest: int | None, share: float | None) -> ConfigurationError:
  if smallest is None and share is not None:
    return ConfigurationError(
      f'{refused}, and no bit width can: one share of the noise would have a variance of {share:g}, '
      'and the sum of discrete Gaussians is not accounted for below 1. Raise the noise multiplier.'
    )
  if smallest is None:
    return ConfigurationError(
      f'{refused}, and no bit width can: one share of the noise would exceed what the samplers '
      'draw. Admit more clients, or lower the noise multiplier or the dimension.'
    )
  if share is None:
    return ConfigurationError(
      f'{refused}: their sum would wrap. The smallest bit width that works is {smallest}: use at '
      'least that, or lower the noise multiplier.'
    )
  return ConfigurationError(
    f'{refused}: one share would have a variance of {share:g}, and the sum of discrete Gaussians '
    f'is not accounted for below 1. The smallest bit width that works is {smallest}: use at '
    'least that, Skellam noise, or a larger noise multiplier.'
  )


def _warn_of_tau(variance: float, clients: int, dimension: int) -> None:
  gap = tau(variance, clients) * dimension
  if gap > _TAU_WARNING:
    warnings.warn(
      f'One share of the discrete Gaussian has a variance of {variance:g} only: its sum costs '
      f'up to {gap:.2g} more than Gaussian noise at every order. Use more bits, or Skellam '
      'noise.',
      stacklevel=3,
    )

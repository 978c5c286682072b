"""The integer design: scale, noise share and norm bounds, solved once at build.

Only the clip norm in integer units, `K`, matters to privacy, so `K`, the share
variance `v` and the bounds `B` and `L1` are constants; the scale `K / clip` alone
moves with an adaptive clip. Privacy is sized for the fewest honest survivors,
the modulus for the largest cohort.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED, DISTRIBUTED
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting import scales
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.mechanisms import central, distributed
from tff_privacy_agg.errors import ConfigurationError

# Largest standard deviation of one share that the samplers tabulate.
LARGEST_SHARE: Mapping[str, float] = {'discrete_gaussian': 1e6, 'skellam': 3500.0}
LARGEST_BOUND = 2.0**26  # squared norms stay exact in float64
_LARGEST_NOISELESS_NORM = 2.0**52  # scaled values stay below the integers of float64
_LARGEST_NORM_WITH_COINS = 2.0**40
_ERROR_OVER_CENTRAL = 1.001  # a larger scale would buy nothing but random bits
_TAU_WARNING = 1e-3


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegerDesign:
  """Constants of the integer domain of one stack. Adjacency zero_out.

  Attributes:
    bits: Bits of the modulus.
    modulus: 2^bits.
    dimension: Padded dimension `D`.
    scaled_norm: `K`, the clip norm in integer units: the scale is `K / clip`.
    l2_bound: `B`, largest L2 norm of one client's integer vector.
    l1_bound: Largest L1 norm of the same vector.
    local_variance: `v`, variance (Skellam) or sigma^2 (discrete Gaussian) of one client's
      share, or of the server's noise, in squared integer units; a multiple of 1/16; 0 without noise.
    beta: Bias parameter of the conditional rounding; 0 if unconditional.
    mechanism: 'discrete_gaussian', 'skellam', 'central_discrete_gaussian',
      'correlated_discrete_gaussian', or None without noise.
    noise_multiplier: The effective noise multiplier asked for; 0 without noise.
  """

  bits: int
  modulus: int
  dimension: int
  scaled_norm: float
  l2_bound: float
  l1_bound: float
  local_variance: float
  beta: float
  mechanism: str | None
  noise_multiplier: float

  def noise_variance(self, shares: int) -> float:
    """Variance of the noise in a coordinate of a sum: of so many clients' shares, or the server's.

    Of a fresh draw, also where noise is correlated over rounds.
    """
    return self.local_variance * (1 if self.mechanism in (CENTRAL, CORRELATED) else shares)

  def z_eff(self, honest: int) -> float:
    """Effective noise multiplier `sqrt(h v) / B` with h honest shares; the server's is one.

    Of one round by itself, also where noise is correlated over rounds.
    """
    return math.sqrt(self.noise_variance(honest)) / self.l2_bound

  def error_over_central(self, honest: int) -> float:
    """Error of the sum of `honest` shares over that of a central Gaussian, at least about 1.

    Standard deviation of noise and rounding, over the standard deviation of a
    central Gaussian with the `noise_multiplier` asked for. Infinite without noise.
    """
    if self.noise_multiplier == 0:
      return math.inf
    error = math.sqrt(self.noise_variance(honest) + honest * 0.25)
    return error / (self.noise_multiplier * self.scaled_norm)

  @property
  def rounds_to_nearest(self) -> bool:
    """Whether coordinates are rounded to the nearest integer, not at random.

    Only without noise, where the scale leaves float64 too few binary digits for a fair coin.
    """
    return self.mechanism is None and self.scaled_norm > _LARGEST_NORM_WITH_COINS

  def rounding_error(self, clients: int) -> float:
    """Root mean square L2 norm of the rounding errors in a sum of `clients`, in integer units.

    With fractions spread evenly: variance 1/12 a coordinate to the nearest, 1/6 at random.
    """
    variance = 1 / 12 if self.rounds_to_nearest else 1 / 6
    return math.sqrt(clients * self.dimension * variance)

  def curve(self, honest: int, *, adjacency: str = 'zero_out') -> RdpCurve:
    """Returns one round's curve with `honest` honest shares; infinite without noise.

    Of one round by itself, also where noise is correlated over rounds.
    """
    if self.mechanism in (CENTRAL, CORRELATED):
      return central.central_discrete_gaussian(
        self.l2_bound**2, self.local_variance, adjacency=adjacency
      )
    if self.mechanism == 'skellam':
      return distributed.skellam(
        self.l2_bound,
        self.l1_bound,
        local_variance=self.local_variance,
        honest=honest,
        adjacency=adjacency,
      )
    return distributed.discrete_gaussian(
      self.l2_bound,
      self.l1_bound,
      self.local_variance,
      honest,
      self.dimension,
      adjacency=adjacency,
    )


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
        or scales.norm_bounds(norm, dimension, beta)[0] > LARGEST_BOUND
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


def share_variance(noise_multiplier: float, l2_bound: float, minimum_honest: int) -> float:
  """Variance of one share, so that `minimum_honest` of them give the noise multiplier.

  Args:
    noise_multiplier: Of the vector at `minimum_honest` honest survivors, at least 0.
    l2_bound: `B`, largest L2 norm of one client's integers, positive.
    minimum_honest: Fewest honest survivors, at least 1.

  Returns:
    A multiple of 1/16, rounded up.
  """
  sixteenths = math.ceil(16 * (noise_multiplier * l2_bound) ** 2 / minimum_honest)
  if math.sqrt(minimum_honest * (sixteenths / 16)) / l2_bound < noise_multiplier:  # rounding
    sixteenths += 1
  return sixteenths / 16


def derived_constants(design: IntegerDesign, minimum_honest: int) -> dict[str, float]:
  """The constants of a design that follow from the others, by name.

  Args:
    design: The design, whatever it states of them.
    minimum_honest: Fewest honest survivors that it was solved for, at least 1.

  Raises:
    ConfigurationError: If the others are outside their ranges.
  """
  scales.validate_bits(design.bits)
  bound, l1 = scales.norm_bounds(design.scaled_norm, design.dimension, design.beta)
  _validate.non_negative(noise_multiplier=design.noise_multiplier)
  return {
    'modulus': 2**design.bits,
    'l2_bound': bound,
    'l1_bound': l1,
    'local_variance': share_variance(design.noise_multiplier, bound, minimum_honest),
  }


def check_share(mechanism: str, local_variance: float) -> None:
  """Raises unless the samplers draw shares of this variance, and their sum is accounted for.

  Args:
    mechanism: 'discrete_gaussian' or 'skellam'.
    local_variance: `v`, in squared steps of the integer grid.

  Raises:
    ConfigurationError: If they do not.
  """
  _validate.positive(local_variance=local_variance)
  least = 1.0 if mechanism == 'discrete_gaussian' else 1 / 16
  if not least <= local_variance <= LARGEST_SHARE[mechanism] ** 2 or local_variance % (1 / 16):
    raise ConfigurationError(
      f'A share of {mechanism} noise has a variance that is a multiple of 1/16 from {least:g} to '
      f'{LARGEST_SHARE[mechanism] ** 2:g}, got {local_variance!r}.'
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
  gap = distributed.tau(variance, clients) * dimension
  if gap > _TAU_WARNING:
    warnings.warn(
      f'One share of the discrete Gaussian has a variance of {variance:g} only: its sum costs '
      f'up to {gap:.2g} more than Gaussian noise at every order. Use more bits, or Skellam '
      'noise.',
      stacklevel=3,
    )

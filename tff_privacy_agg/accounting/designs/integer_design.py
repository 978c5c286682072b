"""The constants of a stack in integers, and what follows from them."""

import dataclasses
import math

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.designs import scales
from tff_privacy_agg.accounting.designs.shares import share_variance
from tff_privacy_agg.accounting.mechanisms import central, distributed

_LARGEST_NORM_WITH_COINS = 2.0**40


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

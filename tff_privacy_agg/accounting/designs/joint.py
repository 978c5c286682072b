"""The design that fills the modulus, and the bits that a noise multiplier needs."""

import dataclasses
import math

from tff_privacy_agg import _validate
from tff_privacy_agg._deprecation import renamed
from tff_privacy_agg.accounting.designs import scales
from tff_privacy_agg.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class JointDesign:
  """The design that fills the modulus, in real numbers; see `joint_design`.

  Attributes:
    feasible: Whether the bits can carry the noise at all; if not, the rest is None.
    scaled_norm: `K`.
    l2_bound: `B`.
    l1_bound: L1 bound.
    local_variance: `v`.
    error_over_central: Error over that of a central Gaussian, at `minimum_honest`.
  """

  feasible: bool
  scaled_norm: float | None = None
  l2_bound: float | None = None
  l1_bound: float | None = None
  local_variance: float | None = None
  error_over_central: float | None = None


@renamed(max_clients='cohort_maximum', min_honest='minimum_honest', target_z_eff='noise_multiplier')
@_validate.plain_numbers
def joint_design(
  *,
  noise_multiplier: float,
  cohort_maximum: int,
  minimum_honest: int,
  bits: int,
  dimension: int,
  modclip_prob: float = 1e-4,
  rho: float = 1.0,
  beta: float = math.exp(-0.5),
) -> JointDesign:
  """Solves for the largest `K` whose sum fits the modulus, with noise to match.

  `v(K) = (z B(K))^2 / minimum_honest`; the wrap condition is `scales.fits_modulus` at
  `cohort_maximum`.

  Args:
    noise_multiplier: Effective noise multiplier at `minimum_honest` honest shares, positive.
    cohort_maximum: Largest cohort admitted.
    minimum_honest: Fewest honest survivors, 1 to `cohort_maximum`.
    bits: 1 to 62.
    dimension: Padded dimension.
    modclip_prob: Probability that a coordinate of the sum wraps, in (0, 1).
    rho: Flatness of the rotation, positive.
    beta: Bias parameter of the rounding, in [0, 1).

  Examples:
    >>> joint = tpa.accounting.joint_design(
    ...   noise_multiplier=1.0, cohort_maximum=100, minimum_honest=80, bits=16, dimension=1024
    ... )
    >>> joint.feasible, round(joint.scaled_norm)
    (True, 2538)
  """
  _validate.positive(noise_multiplier=noise_multiplier, rho=rho)
  scales.validate_cohort(cohort_maximum, minimum_honest, bits)

  def share(norm: float) -> float:
    return (noise_multiplier * scales.norm_bounds(norm, dimension, beta)[0]) ** 2 / minimum_honest

  def fits(norm: float) -> bool:
    return scales.fits_modulus(
      norm,
      share(norm),
      clients=cohort_maximum,
      bits=bits,
      dimension=dimension,
      modclip_prob=modclip_prob,
      rho=rho,
    )

  norm = scales.largest_norm(
    fits, scales.noiseless_norm(cohort_maximum, bits, dimension, modclip_prob, rho)
  )
  if norm is None:
    return JointDesign(feasible=False)
  bound, l1 = scales.norm_bounds(norm, dimension, beta)
  error = math.sqrt(minimum_honest * (share(norm) + 0.25)) / (noise_multiplier * norm)
  return JointDesign(
    feasible=True,
    scaled_norm=norm,
    l2_bound=bound,
    l1_bound=l1,
    local_variance=share(norm),
    error_over_central=error,
  )


@renamed(max_clients='cohort_maximum', min_honest='minimum_honest', target_z_eff='noise_multiplier')
@_validate.plain_numbers
def smallest_bits(
  *,
  noise_multiplier: float,
  cohort_maximum: int,
  minimum_honest: int,
  dimension: int,
  modclip_prob: float = 1e-4,
  rho: float = 1.0,
  beta: float = math.exp(-0.5),
  error_over_central: float = math.inf,
) -> int:
  """Returns the smallest bit width with a feasible `joint_design`.

  Args:
    noise_multiplier: As for `joint_design`, like the others.
    cohort_maximum: Largest cohort admitted.
    minimum_honest: Fewest honest survivors.
    dimension: Padded dimension.
    modclip_prob: Probability that a coordinate wraps.
    rho: Flatness of the rotation.
    beta: Bias parameter of the rounding.
    error_over_central: Largest error over a central Gaussian that will do, for
      example 1.01. By default any.

  Raises:
    ConfigurationError: If not even 62 bits are enough.

  Examples:
    >>> tpa.accounting.smallest_bits(
    ...   noise_multiplier=1.0, cohort_maximum=100, minimum_honest=80, dimension=1024
    ... )
    8
  """
  for bits in range(1, scales.MAXIMUM_BITS + 1):
    found = joint_design(
      noise_multiplier=noise_multiplier,
      cohort_maximum=cohort_maximum,
      minimum_honest=minimum_honest,
      bits=bits,
      dimension=dimension,
      modclip_prob=modclip_prob,
      rho=rho,
      beta=beta,
    )
    if found.error_over_central is not None and found.error_over_central <= error_over_central:
      return bits
  raise ConfigurationError(
    f'Not even {scales.MAXIMUM_BITS} bits carry a noise multiplier of {noise_multiplier:g} with an '
    f'error of at most {error_over_central:g} times that of a central Gaussian. Lower the '
    'noise multiplier, or allow a larger error.'
  )

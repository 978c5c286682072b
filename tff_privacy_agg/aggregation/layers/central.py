"""Central noise: clients send integers in the clear, and the server adds the noise to their sum."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _deprecation, _validate, accounting
from tff_privacy_agg._names import CENTRAL
from tff_privacy_agg.accounting import RdpCurve
from tff_privacy_agg.aggregation.domains import Domain, IntegerVectors, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import Mechanism, Numbers, Params, Slot
from tff_privacy_agg.numerics import randomness, rounding, samplers


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class CentralDiscreteGaussianNoise(Mechanism):
  """The server adds discrete Gaussian noise to a sum of integers: central differential privacy.

  The server sees the sum without noise, so nothing holds against it: epsilon in the server's view
  is infinite, and only the `release_epsilon` is finite.

  Each client multiplies its clipped vector by K, the clip norm in steps, and rounds it to the
  nearest integers, whose norm it checks in exact arithmetic. They are summed in int64. The server
  adds one exact draw a coordinate before anything is a float again. K is the finest scale at which
  the sum fits 62 bits and the noise can be drawn: see `accounting.central_design`.

  Domain: RealVectors(l2_bounded=True) -> IntegerVectors(noised=True, central=True).
  Sensitivity: B in the integer domain, `B^2 = K^2 + d/4 + K min(8, ceil(sqrt(d)))`.
  Channels: none. State: none.
  Reference: arXiv:2004.00010 (discrete Gaussian), arXiv:1710.06963, Algorithm 1.

  Args:
    noise_multiplier: Standard deviation of the noise in the sum over the norm of what one client
      sends, for a round as a whole, all channels together. Positive.
    name: Key of this layer.

  Raises:
    ConfigurationError: If `noise_multiplier` is not finite and positive.

  Examples:
    >>> tpa.CentralDiscreteGaussianNoise(noise_multiplier=1.0).output_domain(
    ...   tpa.RealVectors(dim=1000, l2_bounded=True)
    ... )
    IntegerVectors(dim=1000, flat=False, noised=True, central=True)
  """

  name: str = 'central_discrete_gaussian_noise'

  uses_randomness = True
  distributed = False

  def __post_init__(self) -> None:
    _validate.noise_multiplier(self.noise_multiplier)

  @property
  def mechanism(self) -> str:
    return CENTRAL

  @property
  def law(self) -> str:
    return 'discrete_gaussian'

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(
      self.name, RealVectors, domain, fix='Put it after `Clipping`, without `Quantization`.'
    )
    _checks.require(
      domain.l2_bounded,
      self.name,
      needs='L2-bounded real vectors',
      found=domain,
      fix='Put `Clipping` before `CentralDiscreteGaussianNoise`.',
    )
    return IntegerVectors(dim=domain.dim, flat=domain.flat, noised=True, central=True)

  def random_words(self, slot: Slot) -> Mapping[int, int]:
    return self.sampler(slot.integer_design).random_words(randomness.MODEL_NOISE, slot.dim)

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    scaled = value * tf.constant(slot.integer_design.scaled_norm, value.dtype)
    return rounding.nearest_round(scaled, slot.integer_design.l2_bound, tf.int64), {}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    noise = self.sampler(slot.integer_design).sample(
      params['randomness'], randomness.MODEL_NOISE, slot.dim
    )
    return slot.to_floats(total + tf.cast(noise, total.dtype))

  def curve(self, slot: Slot, honest: int) -> RdpCurve:
    return slot.integer_design.curve(honest)

  def integer_design(
    self, *, noise_multiplier: float, cohort_maximum: int, dimension: int
  ) -> accounting.IntegerDesign:
    """The constants of the integers; arguments as for `accounting.central_design`."""
    return accounting.central_design(
      noise_multiplier=noise_multiplier, cohort_maximum=cohort_maximum, dimension=dimension
    )

  def sampler(self, design: accounting.IntegerDesign) -> samplers.NoiseSampler:
    """Draws the noise of one round, or where it is correlated what is fresh of it."""
    return samplers.noise_sampler(self.law, design.local_variance)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianNoise(CentralDiscreteGaussianNoise):
  """The old name of `CentralDiscreteGaussianNoise`; it warns, and goes in the next minor version."""

  def __post_init__(self) -> None:
    _deprecation.warn_renamed('GaussianNoise', CentralDiscreteGaussianNoise.__name__, stacklevel=5)
    super().__post_init__()

"""Noise: the mechanisms that carry the privacy guarantee."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL
from tff_privacy_agg.accounting import RdpCurve
from tff_privacy_agg.aggregation.domains import Domain, IntegerVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import Mechanism, Numbers, Params, Slot
from tff_privacy_agg.aggregation.layers.central import CentralDiscreteGaussianNoise
from tff_privacy_agg.numerics import randomness, samplers


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DistributedNoise(Mechanism):
  """Integer noise of which every client adds one share before the sum."""

  uses_randomness = True

  def __post_init__(self) -> None:
    _validate.noise_multiplier(self.noise_multiplier)

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(
      self.name, IntegerVectors, domain, fix='Put `Quantization` before the noise.'
    )
    _checks.require(
      not domain.noised,
      self.name,
      needs='noiseless integer vectors',
      found=domain,
      fix='Keep one noise layer.',
    )
    return dataclasses.replace(domain, noised=True)

  def random_words(self, slot: Slot) -> Mapping[int, int]:
    return self._sampler(slot).random_words(randomness.MODEL_NOISE, slot.dim)

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    noise = self._sampler(slot).sample(params['randomness'], randomness.MODEL_NOISE, slot.dim)
    return value + tf.cast(noise, value.dtype), {}

  def curve(self, slot: Slot, honest: int) -> RdpCurve:
    return slot.integer_design.curve(honest)

  def _sampler(self, slot: Slot) -> samplers.NoiseSampler:
    return samplers.noise_sampler(self.mechanism, slot.integer_design.local_variance)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class DiscreteGaussianNoise(_DistributedNoise):
  """Each client adds discrete Gaussian noise of variance v to every coordinate.

  Domain: IntegerVectors -> IntegerVectors(noised=True).
  Sensitivity: unchanged. Channels: none. State: none.
  Reference: arXiv:2102.06387.

  Args:
    noise_multiplier: Effective noise multiplier of a round at
      `Cohort.minimum` honest survivors, all channels together. Positive.
    name: Key of this layer.

  Raises:
    ConfigurationError: If `noise_multiplier` is not finite and positive.

  Examples:
    >>> tpa.DiscreteGaussianNoise(noise_multiplier=1.0).output_domain(
    ...   tpa.IntegerVectors(dim=1000)
    ... )
    IntegerVectors(dim=1000, flat=False, noised=True, central=False)
  """

  name: str = 'discrete_gaussian_noise'

  @property
  def mechanism(self) -> str:
    return 'discrete_gaussian'


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class SkellamNoise(_DistributedNoise):
  """Each client adds Skellam noise (a difference of Poisson draws) of variance v.

  Sums of shares are Skellam again, so no correction for the sum is needed;
  shares of small variance are allowed.

  Domain: IntegerVectors -> IntegerVectors(noised=True).
  Sensitivity: unchanged. Channels: none. State: none.
  Reference: arXiv:2110.04995.

  Args:
    noise_multiplier: As in `DiscreteGaussianNoise`.
    name: Key of this layer.

  Raises:
    ConfigurationError: If `noise_multiplier` is not finite and positive.

  Examples:
    >>> tpa.SkellamNoise(noise_multiplier=1.0).output_domain(tpa.IntegerVectors(dim=1000))
    IntegerVectors(dim=1000, flat=False, noised=True, central=False)
  """

  name: str = 'skellam_noise'

  @property
  def mechanism(self) -> str:
    return 'skellam'


# By the name of the mechanism.
NOISE_LAYERS: Mapping[
  str, type[DiscreteGaussianNoise | SkellamNoise | CentralDiscreteGaussianNoise]
] = {
  'discrete_gaussian': DiscreteGaussianNoise,
  'skellam': SkellamNoise,
  CENTRAL: CentralDiscreteGaussianNoise,
}

"""Noise: the mechanisms that carry the privacy guarantee."""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate, accounting
from tff_privacy_agg.aggregation.domains import IntegerVectors, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import Mechanism
from tff_privacy_agg.numerics import randomness, samplers, structures


@dataclasses.dataclass(frozen=True, kw_only=True)
class _DistributedNoise(Mechanism):
  """Integer noise of which every client adds one share before the sum."""

  uses_randomness = True

  def __post_init__(self):
    _validate.positive(noise_multiplier=self.noise_multiplier)

  def output_domain(self, domain):
    _checks.takes(self.name, IntegerVectors, domain, fix='Put `Quantization` before the noise.')
    _checks.require(
      not domain.noised,
      self.name,
      needs='noiseless integer vectors',
      found=domain,
      fix='Keep one noise layer.',
    )
    return dataclasses.replace(domain, noised=True)

  def random_words(self, slot):
    return self._sampler(slot).random_words(randomness.MODEL_NOISE, slot.dim)

  def encode(self, slot, params, value):
    noise = self._sampler(slot).sample(params['randomness'], randomness.MODEL_NOISE, slot.dim)
    return value + tf.cast(noise, value.dtype), {}

  def curve(self, slot, honest):
    return slot.design.curve(honest)

  def _sampler(self, slot):
    return samplers.noise_sampler(self.mechanism, slot.design.local_variance)


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
  """

  name: str = 'discrete_gaussian_noise'

  @property
  def mechanism(self):
    return 'discrete_gaussian'


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
  """

  name: str = 'skellam_noise'

  @property
  def mechanism(self):
    return 'skellam'


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianNoise(Mechanism):
  """The server adds Gaussian noise to the sum: central differential privacy.

  The server sees the sum without noise, so nothing holds against it: epsilon in
  the server's view is infinite, and only the `release_epsilon` is finite. The
  draw is a float64 number, so attacks on floating-point noise (Mironov, CCS
  2012) are not ruled out; the distributed mechanisms have no such gap.

  Vectors are float64 in a stack with this layer, and clipped once more before they leave, as
  the layers in between round. The noise covers what one client moves the *computed* sum by,
  roundings included: see `accounting.float_sum_sensitivity`. That counts on clients that run
  this code: one that sends a vector of its own making can drown the others in roundings.

  Domain: RealVectors(l2_bounded=True) -> the same, noised.
  Sensitivity: 1 in units of the clip norm, plus roundings, which the noise is scaled by.
  Channels: none. State: none.
  Reference: arXiv:1710.06963, Algorithm 1.

  Args:
    noise_multiplier: Standard deviation of the noise in the sum over the clip
      norm, for a round as a whole, all channels together. Positive.
    name: Key of this layer.

  Raises:
    ConfigurationError: If `noise_multiplier` is not finite and positive.
  """

  name: str = 'gaussian_noise'

  uses_randomness = True
  distributed = False

  def __post_init__(self):
    _validate.positive(noise_multiplier=self.noise_multiplier)

  @property
  def mechanism(self):
    return 'gaussian'

  def output_domain(self, domain):
    _checks.takes(self.name, RealVectors, domain, fix='Put `GaussianNoise` before `PlainSum`.')
    _checks.require(
      domain.l2_bounded,
      self.name,
      needs='L2-bounded real vectors',
      found=domain,
      fix='Put `Clipping` before `GaussianNoise`.',
    )
    _checks.require(
      not domain.noised,
      self.name,
      needs='vectors without noise',
      found='vectors with central noise',
      fix='Keep one noise layer.',
    )
    return dataclasses.replace(domain, noised=True)

  def encode(self, slot, params, value):
    return value / tf.maximum(structures.l2_norm(value), 1), {}

  def decode(self, slot, params, total, sums):
    noise = tf.random.stateless_normal(
      total.shape,
      params['randomness'].seed(randomness.MODEL_NOISE),
      dtype=total.dtype,
      alg='philox',
    )
    moved = accounting.float_sum_sensitivity(slot.cohort.maximum, slot.dim)
    return total + noise * tf.constant(slot.vector_noise_multiplier * moved, total.dtype)

  def curve(self, slot, honest):
    del honest  # the server's noise does not depend on the survivors
    return accounting.gaussian(slot.vector_noise_multiplier)


# By the name of the mechanism.
NOISE_LAYERS: Mapping[str, type[DiscreteGaussianNoise | SkellamNoise | GaussianNoise]] = {
  'discrete_gaussian': DiscreteGaussianNoise,
  'skellam': SkellamNoise,
  'gaussian': GaussianNoise,
}

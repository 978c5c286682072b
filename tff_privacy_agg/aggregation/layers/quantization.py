"""Quantization: from bounded reals to integers of an exactly bounded norm."""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Domain, IntegerVectors, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import (
  Layer,
  Measurements,
  Numbers,
  Params,
  Slot,
)
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import modular, randomness, rounding


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Quantization(Layer):
  """Scales by K and rounds at random to integers whose L2 norm is at most B, exactly.

  K and B are constants of the build (the integer design): only the ratio of K to
  the clip norm moves with an adaptive clip.

  Domain: RealVectors(l2_bounded=True) -> IntegerVectors.
  Sensitivity: B in the integer domain, with
  `B^2 = min((K + sqrt(d))^2, K^2 + d/4 + sqrt(2 ln(1/beta)) (K + sqrt(d)/2))`.
  Channels: none. State: none.
  Measurements, in a stack without noise: `relative_error`, the expected L2 norm of the sum's
  rounding errors over that of the sum. Next to noise it is part of `error_over_central`.
  Reference: arXiv:2102.06387, section 4.1.

  Args:
    beta: Bias parameter of conditional rounding, in [0, 1): each try of the
      rounding is kept with probability at least `1 - beta`. 0 bounds the
      norm by its worst case, so that no try is ever rejected.
    modclip_prob: Probability, in (0, 1), that a coordinate of the sum of a full
      cohort wraps around the modulus. It touches utility, never privacy.
    name: Key of this layer.

  Raises:
    ConfigurationError: If a number is outside its range.

  Examples:
    >>> tpa.Quantization().output_domain(tpa.RealVectors(dim=1000, l2_bounded=True))
    IntegerVectors(dim=1000, flat=False, noised=False, central=False)
  """

  beta: float = math.exp(-0.5)
  modclip_prob: float = 1e-4
  name: str = 'quantization'

  uses_randomness = True

  def __post_init__(self) -> None:
    _validate.non_negative(beta=self.beta)
    if self.beta >= 1:
      raise ConfigurationError(f'`beta` must be below 1, got {self.beta!r}.')
    _validate.fraction(modclip_prob=self.modclip_prob)

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(self.name, RealVectors, domain, fix='Keep one layer that rounds.')
    _checks.require(
      domain.l2_bounded,
      self.name,
      needs='L2-bounded real vectors',
      found=domain,
      fix='Put `Clipping` before `Quantization`.',
    )
    return IntegerVectors(dim=domain.dim, flat=domain.flat)

  def random_words(self, slot: Slot) -> Mapping[int, int]:
    return {randomness.ROUNDING: randomness.SEED_WORDS}

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    design = slot.integer_design
    if design.rounds_to_nearest:
      scaled = value * tf.constant(design.scaled_norm, slot.dtype)
      return tf.cast(tf.math.rint(scaled), modular.dtype_for(design.bits)), {}
    rounded = rounding.conditional_round(
      value * tf.constant(design.scaled_norm, slot.dtype),
      design.l2_bound if design.mechanism else math.inf,
      params['randomness'].seed(randomness.ROUNDING),
      modular.dtype_for(design.bits),
    )
    return rounded, {}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    return slot.to_floats(total)

  def measure(self, slot: Slot, total: tf.Tensor, sums: Numbers) -> Measurements:
    design = slot.integer_design
    if design.mechanism is not None:
      return OrderedDict()
    length = tf.norm(tf.cast(total, tf.float64))
    one = tf.constant(design.rounding_error(1), tf.float64)
    error = one * tf.sqrt(sums['survivors']) / tf.maximum(length, 1.0)
    return OrderedDict(relative_error=tf.cast(error, tf.float32))

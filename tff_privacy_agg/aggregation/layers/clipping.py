"""Clipping: bounds what one client can contribute."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Channel, Domain, RealVectors
from tff_privacy_agg.aggregation.layers import _checks, thresholds
from tff_privacy_agg.aggregation.layers.base import (
  Layer,
  Measurements,
  Numbers,
  Params,
  Slot,
  State,
)
from tff_privacy_agg.aggregation.layers.thresholds import (
  AdaptiveQuantile,
  FixedThreshold,
  Threshold,
)
from tff_privacy_agg.numerics import structures


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Clipping(Layer):
  """Projects each client's vector onto the L2 ball of radius `norm`.

  Computes `x * min(1, norm / ||x||_2)` and hands it on in units of `norm`, so
  that what follows (scale, noise, modulus) does not depend on a moving norm.
  A vector with NaN or infinite coordinates, or whose norm overflows, becomes
  zeros.

  Domain: RealVectors -> RealVectors(l2_bounded=True).
  Sensitivity: one client's vector has L2 norm at most `norm` (zero-out adjacency),
  up to float rounding; `Quantization` enforces its bound exactly.
  Channels: `below` if the norm adapts: +1 from a client whose norm is at most
  `norm`, -1 from the others; it reveals the noised number of such clients.
  State: `norm`, float32, if the norm adapts.
  Reference: arXiv:1710.06963, Algorithm 1; arXiv:1905.03871 for the adaptive norm.

  Args:
    norm: L2 radius, in the unit of the values, 1e-12 to 1e12, or an `AdaptiveQuantile`.
    name: Key of this layer's state and measurements.

  Raises:
    ConfigurationError: If `norm` is neither.

  Examples:
    >>> from tff_privacy_agg.aggregation.layers import Slot
    >>> slot = Slot(dim=2, cohort=tpa.Cohort(expected=2))
    >>> tpa.Clipping(norm=1.0).encode(slot, {}, tf.constant([3.0, 4.0]))[0].numpy()
    array([0.6, 0.8], dtype=float32)
  """

  norm: Threshold
  name: str = 'clipping'

  def __post_init__(self) -> None:
    thresholds.threshold_of(norm=self.norm)

  @property
  def _threshold(self) -> AdaptiveQuantile | FixedThreshold:
    return thresholds.threshold_of(norm=self.norm)

  @property
  def channels(self) -> Mapping[str, Channel]:
    return self._threshold.channels('below')

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(self.name, RealVectors, domain, fix='Clip before quantizing.')
    _checks.require(
      not domain.l2_bounded,
      self.name,
      needs='vectors that are not clipped yet',
      found=domain,
      fix='Keep one `Clipping`.',
    )
    return dataclasses.replace(domain, l2_bounded=True, moving=not self._threshold.settles)

  def init(self, slot: Slot) -> State:
    return self._threshold.state('norm')

  def prepare(self, slot: Slot, state: State) -> Params:
    return self._threshold.params(state, 'norm')

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    norm = structures.l2_norm(value)
    limit = tf.cast(self._threshold.limit(params, 'norm'), value.dtype)
    factor = tf.where(tf.math.is_finite(norm), 1 / tf.maximum(norm, limit), 0)
    clipped = tf.math.multiply_no_nan(value, factor)
    return clipped, self._threshold.message('below', norm <= limit, slot.dtype)

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    return total * tf.cast(self._threshold.limit(params, 'norm'), total.dtype)

  def update(
    self, slot: Slot, state: State, params: Params, sums: Numbers
  ) -> tuple[State, Measurements]:
    limit = tf.cast(self._threshold.limit(params, 'norm'), tf.float32)
    new_state, counted = self._threshold.update(state, 'norm', sums, 'below', counts_above=False)
    return new_state, OrderedDict(norm=limit, **counted)

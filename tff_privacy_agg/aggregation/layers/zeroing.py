"""Zeroing: vectors far too large are replaced by zeros."""

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
class Zeroing(Layer):
  """Replaces a vector whose L2 norm exceeds `threshold` by zeros.

  A vector with NaN or infinite coordinates counts as above every threshold.

  Domain: RealVectors -> RealVectors. Sensitivity: unchanged, as a zeroed vector has norm 0.
  Channels: `above` if the threshold adapts: +1 from a client whose norm exceeds
  the estimate, -1 from the others; it reveals the noised number of such clients.
  State: `estimate`, float32, if the threshold adapts.
  Reference: arXiv:1905.03871 for the estimate.

  Args:
    threshold: L2 norm, in the unit of the values, 1e-12 to 1e12, or an `AdaptiveQuantile`.
    name: Key of this layer's state and measurements.

  Raises:
    ConfigurationError: If `threshold` is neither.

  Examples:
    >>> from tff_privacy_agg.aggregation.layers import Slot
    >>> slot = Slot(dim=2, cohort=tpa.Cohort(expected=2))
    >>> tpa.Zeroing(threshold=4.0).encode(slot, {}, tf.constant([3.0, 4.0]))[0].numpy()
    array([0., 0.], dtype=float32)
  """

  threshold: Threshold
  name: str = 'zeroing'

  def __post_init__(self) -> None:
    thresholds.threshold_of(threshold=self.threshold)

  @property
  def _threshold(self) -> AdaptiveQuantile | FixedThreshold:
    return thresholds.threshold_of(threshold=self.threshold)

  @property
  def channels(self) -> Mapping[str, Channel]:
    return self._threshold.channels('above')

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(
      self.name, RealVectors, domain, fix='Put `Zeroing` before `Quantization`.'
    )
    _checks.require(
      not domain.l2_bounded,
      self.name,
      needs='vectors that are not clipped yet',
      found=domain,
      fix='Put `Zeroing` before `Clipping`.',
    )
    return domain

  def init(self, slot: Slot) -> State:
    return self._threshold.state('estimate')

  def prepare(self, slot: Slot, state: State) -> Params:
    return self._threshold.params(state, 'estimate')

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    norm = structures.l2_norm(value)
    kept = norm <= tf.cast(self._threshold.limit(params, 'estimate'), value.dtype)  # NaN is not
    value = tf.math.multiply_no_nan(value, tf.cast(kept, value.dtype))
    at_or_below = norm <= tf.cast(self._threshold.estimate(params, 'estimate'), value.dtype)
    above = tf.logical_not(at_or_below)
    return value, self._threshold.message('above', above, slot.dtype)

  def update(
    self, slot: Slot, state: State, params: Params, sums: Numbers
  ) -> tuple[State, Measurements]:
    new_state, counted = self._threshold.update(state, 'estimate', sums, 'above', counts_above=True)
    if not counted:
      return new_state, OrderedDict()
    return new_state, OrderedDict(threshold=self._threshold.limit(params, 'estimate'), **counted)

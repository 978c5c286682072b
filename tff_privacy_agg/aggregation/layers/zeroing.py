"""Zeroing: vectors far too large are replaced by zeros."""

import dataclasses
from collections import OrderedDict

import tensorflow as tf

from tff_privacy_agg.aggregation.domains import RealVectors
from tff_privacy_agg.aggregation.layers import _checks, thresholds
from tff_privacy_agg.aggregation.layers.base import Layer
from tff_privacy_agg.aggregation.layers.thresholds import AdaptiveQuantile, Threshold
from tff_privacy_agg.numerics import structures


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
  """

  threshold: Threshold
  name: str = 'zeroing'

  def __post_init__(self):
    thresholds.check(threshold=self.threshold)

  @property
  def channels(self):
    return {'above': self.threshold.channel} if isinstance(self.threshold, AdaptiveQuantile) else {}

  def output_domain(self, domain):
    _checks.takes(self.name, RealVectors, domain, fix='Put `Zeroing` before `Quantization`.')
    _checks.require(
      not domain.l2_bounded,
      self.name,
      needs='vectors that are not clipped yet',
      found=domain,
      fix='Put `Zeroing` before `Clipping`.',
    )
    return domain

  def init(self, slot):
    if not isinstance(self.threshold, AdaptiveQuantile):
      return OrderedDict()
    return OrderedDict(estimate=tf.constant(self.threshold.initial, tf.float32))

  def prepare(self, slot, state):
    if not isinstance(self.threshold, AdaptiveQuantile):
      return OrderedDict()
    return OrderedDict(estimate=state['estimate'])

  def encode(self, slot, params, value):
    norm = structures.l2_norm(value)
    threshold = tf.cast(self._threshold(params), value.dtype)
    kept = norm <= threshold  # False for NaN too
    value = tf.math.multiply_no_nan(value, tf.cast(kept, value.dtype))
    if not isinstance(self.threshold, AdaptiveQuantile):
      return value, {}
    below = norm <= tf.cast(params['estimate'], value.dtype)
    return value, {'above': 1.0 - 2.0 * tf.cast(below, slot.dtype)}

  def update(self, slot, state, params, sums):
    if not isinstance(self.threshold, AdaptiveQuantile):
      return state, OrderedDict()
    above = thresholds.fraction_positive(sums, 'above')
    estimate = self.threshold.next_estimate(state['estimate'], 1 - above)
    return OrderedDict(estimate=estimate), OrderedDict(
      threshold=self._threshold(params), above=above
    )

  def _threshold(self, params):
    return (
      self.threshold.threshold(params['estimate'])
      if isinstance(self.threshold, AdaptiveQuantile)
      else self.threshold
    )

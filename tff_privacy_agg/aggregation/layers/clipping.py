"""Clipping: bounds what one client can contribute."""

import dataclasses
from collections import OrderedDict

import tensorflow as tf

from tff_privacy_agg.aggregation.domains import RealVectors
from tff_privacy_agg.aggregation.layers import _checks, thresholds
from tff_privacy_agg.aggregation.layers.base import Layer
from tff_privacy_agg.aggregation.layers.thresholds import AdaptiveQuantile, Threshold
from tff_privacy_agg.numerics import structures


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
  """

  norm: Threshold
  name: str = 'clipping'

  def __post_init__(self):
    thresholds.check(norm=self.norm)

  @property
  def channels(self):
    return {'below': self.norm.channel} if isinstance(self.norm, AdaptiveQuantile) else {}

  def output_domain(self, domain):
    _checks.takes(self.name, RealVectors, domain, fix='Clip before quantizing.')
    _checks.require(
      not domain.l2_bounded,
      self.name,
      needs='vectors that are not clipped yet',
      found=domain,
      fix='Keep one `Clipping`.',
    )
    return dataclasses.replace(domain, l2_bounded=True)

  def init(self, slot):
    if not isinstance(self.norm, AdaptiveQuantile):
      return OrderedDict()
    return OrderedDict(norm=tf.constant(self.norm.initial, tf.float32))

  def prepare(self, slot, state):
    return (
      OrderedDict(norm=state['norm']) if isinstance(self.norm, AdaptiveQuantile) else OrderedDict()
    )

  def encode(self, slot, params, value):
    norm = structures.l2_norm(value)
    limit = tf.cast(self._limit(params), value.dtype)
    factor = tf.where(tf.math.is_finite(norm), 1 / tf.maximum(norm, limit), 0)
    clipped = tf.math.multiply_no_nan(value, factor)
    if not isinstance(self.norm, AdaptiveQuantile):
      return clipped, {}
    return clipped, {'below': 2.0 * tf.cast(norm <= limit, slot.dtype) - 1.0}

  def decode(self, slot, params, total, sums):
    return total * tf.cast(self._limit(params), total.dtype)

  def update(self, slot, state, params, sums):
    limit = tf.cast(self._limit(params), tf.float32)
    if not isinstance(self.norm, AdaptiveQuantile):
      return state, OrderedDict(norm=limit)
    below = thresholds.fraction_positive(sums, 'below')
    norm = self.norm.next_estimate(state['norm'], below)
    return OrderedDict(norm=norm), OrderedDict(norm=limit, below=below)

  def _limit(self, params):
    return (
      self.norm.threshold(params['norm']) if isinstance(self.norm, AdaptiveQuantile) else self.norm
    )

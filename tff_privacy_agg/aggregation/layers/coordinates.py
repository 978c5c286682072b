"""Coordinate clipping: bounds each number on its own, for metrics and statistics."""

import dataclasses
import math

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Domain, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import Layer, Numbers, Params, Slot
from tff_privacy_agg.errors import CompositionError


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class CoordinateClipping(Layer):
  """Clips coordinate i to [-maximum[i], maximum[i]].

  Hands coordinate i on in units of `maximum[i] * sqrt(d)`, so that the vector has an L2
  norm of at most 1 and every coordinate gets the same noise in units of its bound.
  Coordinates that are not finite become 0.

  Domain: RealVectors -> RealVectors(l2_bounded=True).
  Sensitivity: `maximum[i]` in each coordinate (zero-out adjacency), all at once.
  Channels: none. State: none.
  Reference: arXiv:1812.06210, section 4 (several bounded vectors under one noise).

  Args:
    maximum: Largest absolute value of each coordinate, in the unit of the values.
      Positive.
    name: Key of this layer.

  Raises:
    ConfigurationError: If a bound is not positive.

  Examples:
    >>> layer = tpa.CoordinateClipping(maximum=[1.0, 5.0])
    >>> layer.output_domain(tpa.RealVectors(dim=2))
    RealVectors(dim=2, l2_bounded=True, flat=False, moving=False)
  """

  maximum: tuple[float, ...]
  name: str = 'coordinate_clipping'

  def __post_init__(self) -> None:
    object.__setattr__(self, 'maximum', tuple(float(bound) for bound in self.maximum))
    for position, bound in enumerate(self.maximum):
      _validate.positive(**{f'maximum[{position}]': bound})

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(self.name, RealVectors, domain, fix='Clip before quantizing.')
    _checks.require(
      not domain.l2_bounded and not domain.flat,
      self.name,
      needs='the values themselves',
      found=f'{domain}, clipped or rotated already',
      fix='Put it first, and use no other clipping.',
    )
    if domain.dim is not None and domain.dim != len(self.maximum):
      raise CompositionError(
        f'Layer {self.name!r} has {len(self.maximum)} bounds; the values have {domain.dim} '
        'coordinates. Give one bound for each.'
      )
    return dataclasses.replace(domain, l2_bounded=True)

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    bounds = tf.constant(self.maximum, slot.dtype)
    value = tf.where(tf.math.is_finite(value), value, tf.zeros_like(value))
    return tf.clip_by_value(value / bounds, -1, 1) / math.sqrt(len(self.maximum)), {}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    return total * tf.constant(self.maximum, slot.dtype) * math.sqrt(len(self.maximum))

"""Means: what the decoded sum is divided by."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Channel, Domain, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import (
  Layer,
  Measurements,
  Numbers,
  Params,
  Slot,
  State,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean(Layer):
  """Divides the decoded sum by the number of survivors.

  The number of survivors is public under zero-out adjacency: a client that is
  zeroed out still counts, so the denominator does not depend on its data.

  Domain: RealVectors -> RealVectors, unchanged. Sensitivity: unchanged.
  Channels: none. State: none. Reference: arXiv:1602.05629, Algorithm 1, with equal weights.

  Examples:
    >>> from tff_privacy_agg.aggregation.layers import Slot
    >>> slot = Slot(dim=2, cohort=tpa.Cohort(expected=2))
    >>> tpa.Mean().decode(
    ...   slot, {}, tf.constant([3.0, 4.0]), {'survivors': tf.constant(2.0)}
    ... ).numpy()
    array([1.5, 2. ], dtype=float32)
  """

  name: str = 'mean'

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(self.name, RealVectors, domain, fix='Put `Mean` before `Quantization`.')
    return domain

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    return total / tf.maximum(tf.cast(sums['survivors'], total.dtype), 1)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedMean(Layer):
  """Scales each value by `weight / maximum` and divides the sum by that of the weights.

  Weights are clipped to [0, maximum]; a weight that is not finite counts as 0. If all weights
  are 0, so is the mean.

  A weight far below `maximum` has a small share of the integers: it loses `maximum / weight`
  times as much to rounding, and to noise where there is some. Without noise, weights below
  `maximum * 2^-41` count as 0. State the largest weight that there is.

  Domain: RealVectors -> RealVectors; a bound on the norm stays, as the factor is at most 1.
  Sensitivity: unchanged. State: none.
  Channels: `weight`, in [0, 1]: the sum of `weight / maximum`. It depends on the
  clients' data, so without a noise layer it is released as it is and epsilon is infinite.
  Reference: arXiv:1602.05629, Algorithm 1.

  Args:
    maximum: Largest weight, in the unit of the weights. Finite and positive.
    weight_stddev: Standard deviation of the noise in the sum of `weight /
      maximum` over the expected clients; None lets the stack choose it.
    name: Key of this layer's measurements.

  Raises:
    ConfigurationError: If a number is not finite and positive.

  Examples:
    >>> from tff_privacy_agg.aggregation.layers import Slot
    >>> slot = Slot(dim=2, cohort=tpa.Cohort(expected=2))
    >>> value, numbers = tpa.WeightedMean(maximum=10.0).encode(
    ...   slot, {'client_weight': 5}, tf.constant([3.0, 4.0])
    ... )
    >>> value.numpy(), numbers['weight'].numpy()
    (array([1.5, 2. ], dtype=float32), 0.5)
  """

  maximum: float
  weight_stddev: float | None = None
  name: str = 'weighted_mean'

  uses_weight = True

  def __post_init__(self) -> None:
    _validate.positive(maximum=self.maximum)
    if self.weight_stddev is not None:
      _validate.positive(weight_stddev=self.weight_stddev)

  @property
  def channels(self) -> Mapping[str, Channel]:
    channel = Channel(resolution=2**12, exact_resolution=2**40, stddev=self.weight_stddev)
    return {'weight': channel}

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(
      self.name, RealVectors, domain, fix='Put `WeightedMean` before `Quantization`.'
    )
    return domain

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    weight = tf.cast(params['client_weight'], slot.dtype)
    weight = tf.where(tf.math.is_finite(weight), weight, tf.zeros_like(weight))
    share = tf.clip_by_value(weight / self.maximum, 0.0, 1.0)
    return value * share, {'weight': share}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    weight = tf.cast(sums['weight'], total.dtype)
    if not slot.vector_noise_multiplier:
      return tf.math.divide_no_nan(total, weight)
    # Noise may bring the sum of the weights near zero: one full weight is the floor then.
    return total / tf.maximum(weight, 1.0)

  def update(
    self, slot: Slot, state: State, params: Params, sums: Numbers
  ) -> tuple[State, Measurements]:
    return state, OrderedDict(weight=tf.cast(sums['weight'] * self.maximum, tf.float32))

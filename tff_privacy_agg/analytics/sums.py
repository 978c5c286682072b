"""Sums, counts and means of what clients hold."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation.layers import CoordinateClipping, Layer
from tff_privacy_agg.analytics import bounds
from tff_privacy_agg.analytics.base import Query
from tff_privacy_agg.analytics.error_law import ErrorLaw


class _OneNumber(Query):
  """A question about one number of each client."""

  @property
  def value_type(self) -> compat.Type:
    return compat.TensorType(np.float64)

  @property
  def size(self) -> int:
    return 1

  @property
  def bound(self) -> Layer:
    return CoordinateClipping(maximum=(self.unit,))


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sum(_OneNumber):
  """The sum of a number that every client holds.

  Attributes:
    maximum: Largest absolute value of one client's number; larger ones are cut to it, what
      is not finite counts as 0. Positive.
  """

  maximum: float

  def __post_init__(self) -> None:
    bounds.check_maximum(self.maximum)

  @property
  def unit(self) -> float:
    return self.maximum

  def encode(self, value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(value, [1])

  def decode(
    self, sums: tf.Tensor, survivors: tf.Tensor, stddev: tf.Tensor
  ) -> Mapping[str, tf.Tensor]:
    return OrderedDict(sum=sums[0], stddev=stddev)

  def precision(self, law: ErrorLaw, confidence: float) -> Mapping[str, float]:
    return {'sum': law.half_width(confidence)}

  def limits(self, survivors: Any) -> Mapping[str, tuple[Any, Any]]:
    return {'sum': (-survivors * self.maximum, survivors * self.maximum)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count(_OneNumber):
  """Number of clients that answer yes. The number of those who answered at all is public."""

  @property
  def value_type(self) -> compat.Type:
    return compat.TensorType(np.bool_)

  @property
  def unit(self) -> float:
    return 1.0

  def encode(self, value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(tf.cast(value, tf.float64), [1])

  def decode(
    self, sums: tf.Tensor, survivors: tf.Tensor, stddev: tf.Tensor
  ) -> Mapping[str, tf.Tensor]:
    return OrderedDict(count=sums[0], fraction=sums[0] / survivors, stddev=stddev)

  def precision(self, law: ErrorLaw, confidence: float) -> Mapping[str, float]:
    half = law.half_width(confidence)
    return {'count': half, 'fraction': half / law.clients}

  def limits(self, survivors: Any) -> Mapping[str, tuple[Any, Any]]:
    return {'count': (0.0, survivors), 'fraction': (0.0, 1.0)}


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mean(_OneNumber):
  """The mean of a number that every client holds.

  Numbers are cut to [lower, upper] and summed as differences from the middle, which halves
  the noise; what is not finite counts as the middle. Under zero-out adjacency the
  denominator, the number of clients, is public.

  Attributes:
    lower: Least number.
    upper: Largest number, above `lower`.
  """

  lower: float
  upper: float

  def __post_init__(self) -> None:
    bounds.check_range(self.lower, self.upper)

  @property
  def unit(self) -> float:
    return (self.upper - self.lower) / 2

  def encode(self, value: tf.Tensor) -> tf.Tensor:
    return tf.reshape(value - self._middle, [1])

  def decode(
    self, sums: tf.Tensor, survivors: tf.Tensor, stddev: tf.Tensor
  ) -> Mapping[str, tf.Tensor]:
    return OrderedDict(mean=self._middle + sums[0] / survivors, stddev=stddev / survivors)

  def precision(self, law: ErrorLaw, confidence: float) -> Mapping[str, float]:
    # No ratio of two noised numbers: the number of survivors is exact.
    return {'mean': law.half_width(confidence) / law.clients}

  def limits(self, survivors: Any) -> Mapping[str, tuple[Any, Any]]:
    return {'mean': (self.lower, self.upper)}

  @property
  def _middle(self) -> float:
    return (self.lower + self.upper) / 2

"""Base class of queries: a bounded vector of each client, and the reading of their sum.

It adds no noise itself.
"""

import abc
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation.layers import Layer
from tff_privacy_agg.analytics.error_law import ErrorLaw


class Query(abc.ABC):
  """A question whose answer is read off a sum of bounded vectors."""

  @property
  @abc.abstractmethod
  def value_type(self) -> compat.Type:
    """TFF type of one client's value."""

  @property
  @abc.abstractmethod
  def size(self) -> int:
    """Numbers in a client's vector."""

  @property
  @abc.abstractmethod
  def bound(self) -> Layer:
    """The layer that bounds a client's vector."""

  @property
  @abc.abstractmethod
  def unit(self) -> float:
    """Standard deviation of the noise in one number of the sum at noise multiplier 1."""

  @abc.abstractmethod
  def encode(self, value: tf.Tensor) -> tf.Tensor:
    """A client's vector, float64 `[size]`."""

  @abc.abstractmethod
  def decode(
    self, sums: tf.Tensor, survivors: tf.Tensor, stddev: tf.Tensor
  ) -> Mapping[str, tf.Tensor]:
    """The answer, as the noise has left it.

    Args:
      sums: float64 `[size]`, the noised sum.
      survivors: Number of clients in it, float64; public under zero-out adjacency.
      stddev: Standard deviation of the noise in each number of `sums`.
    """

  @abc.abstractmethod
  def precision(self, law: ErrorLaw, confidence: float) -> Mapping[str, float]:
    """Largest error of the answer by name, known before anybody is asked.

    Args:
      law: Of the error of each number of the sum.
      confidence: Probability, in (0, 1), that it is no further off.
    """

  @abc.abstractmethod
  def limits(self, survivors: Any) -> Mapping[str, tuple[Any, Any]]:
    """Least and largest true answer of so many clients, by name; a number or a tensor."""

  def cut(self, answer: Mapping[str, tf.Tensor], survivors: tf.Tensor) -> Mapping[str, Any]:
    """The answer within its limits, and what it was before, whose error has mean zero: `uncut`.

    Args:
      answer: What `decode` gave.
      survivors: Number of clients in it, float64.
    """
    limits = self.limits(survivors)
    within = {name: tf.clip_by_value(answer[name], *ends) for name, ends in limits.items()}
    uncut = OrderedDict((name, answer[name]) for name in limits)
    return OrderedDict(**{**answer, **within}, uncut=uncut)

  def intervals(
    self, found: Mapping[str, Any], law: ErrorLaw, confidence: float
  ) -> Mapping[str, np.ndarray]:
    """Confidence intervals, `[..., 2]`, by name: the answer and its precision, within the limits.

    Args:
      found: What `decode` gave, not cut.
      law: Of the error of each number of the sum.
      confidence: Probability, in (0, 1), that one interval covers.
    """
    limits = self.limits(law.clients)
    return {
      name: np.clip(np.stack([found[name] - half, found[name] + half], axis=-1), *limits[name])
      for name, half in self.precision(law, confidence).items()
    }

"""What a query is: a bounded vector of each client, and how the sum of them is read.

It adds no noise itself.
"""

import abc
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _compat
from tff_privacy_agg.layers import Layer


class Query(abc.ABC):
  """A question whose answer is read off a sum of bounded vectors."""

  @property
  @abc.abstractmethod
  def value_type(self) -> _compat.Type:
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
    """The answer.

    Args:
      sums: float64 `[size]`, the noised sum.
      survivors: Number of clients in it, float64; public under zero-out adjacency.
      stddev: Standard deviation of the noise in each number of `sums`.
    """

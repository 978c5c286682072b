"""Geometric tracking of a quantile from the fraction of clients below it."""

import tensorflow as tf

# Squares of float32 coordinates underflow below about 1e-19 and overflow above about 1e19.
LOWEST, HIGHEST = 1e-12, 1e12


def geometric_update(
  estimate: tf.Tensor, below_fraction: tf.Tensor, target: float, learning_rate: float
) -> tf.Tensor:
  """One step of `C <- C exp(-learning_rate (fraction - target))`.

  Args:
    estimate: Scalar, the current estimate of the quantile.
    below_fraction: Scalar in [0, 1], the (noised) fraction of values at or below it.
    target: The quantile that is sought, in [0, 1].
    learning_rate: Positive.

  Returns:
    The next estimate, within [1e-12, 1e12] so that it stays usable as a scale.
    Reference: arXiv:1905.03871.
  """
  step = tf.exp(-learning_rate * (tf.cast(below_fraction, estimate.dtype) - target))
  return tf.clip_by_value(estimate * step, LOWEST, HIGHEST)

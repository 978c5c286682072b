"""Rounding to integers of an exactly bounded L2 norm: at random, or to the nearest."""

import functools
from collections.abc import Callable

import tensorflow as tf

from tff_privacy_agg.numerics import randomness, structures, tracing

_MOST_TRIES = 16


def conditional_round(
  vector: tf.Tensor, l2_bound: float, seed: tf.Tensor, dtype: tf.DType
) -> tf.Tensor:
  """Rounds each coordinate up or down at random until the norm is within the bound.

  Unbiased to 2^-17 before conditioning. After 16 tries whose norm exceeds the bound the
  vector is truncated towards zero, which never lengthens it; should that exceed
  the bound too (it cannot for a vector of norm at most `l2_bound`), zeros are
  sent. So the result always satisfies the bound, which is what privacy rests
  on: any distribution of the rounding whose support lies in the ball is as private, and
  the coins need no secrecy.

  Args:
    vector: `[d]` floats, finite.
    l2_bound: Bound B on the L2 norm of the result; `floor(B^2) < 2^53`, or
      infinite for none.
    seed: `[2]` int64 for the rounding coins.
    dtype: Integer dtype of the result.

  Returns:
    `[d]` integers whose sum of squares is at most `floor(l2_bound**2)`, exactly.
    Reference: arXiv:2102.06387, section 4.1 and Algorithm 1.
  """
  if l2_bound == float('inf'):
    return tf.cast(_attempt(vector, seed, 0), dtype)

  first = _attempt(vector, seed, 0)

  def tried_again() -> tf.Tensor:
    return _later_tries(vector.dtype)(vector, seed, _half_of_square(l2_bound))

  rounded = tf.cond(_within(first, l2_bound), lambda: first, tried_again)
  # An operation, as graphs that are written and read again keep no other shapes.
  return tf.cast(tf.ensure_shape(rounded, vector.shape), dtype)


@functools.cache
def _later_tries(dtype: tf.DType) -> Callable[..., tf.Tensor]:
  """What few clients need: the tries after the first, and then the truncated vector or zeros."""

  @tracing.traced_once(
    tf.TensorSpec([None], dtype),
    tf.TensorSpec([2], tf.int64),
    tf.TensorSpec([], tf.float64),
    apart=True,
  )
  def later_tries(vector: tf.Tensor, seed: tf.Tensor, limit: tf.Tensor) -> tf.Tensor:
    def attempt(
      _: tf.Tensor, tries: tf.Tensor, fits: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      rounded = _attempt(vector, seed, tries)
      return rounded, tries + 1, _half_of_squares(rounded) <= limit

    rounded, _, fits = tf.while_loop(
      lambda _, tries, fits: (tries < _MOST_TRIES) & ~fits, attempt, (vector, 1, False)
    )
    shorter = _truncate(vector)
    fit = _half_of_squares(shorter) <= limit
    shorter = tf.where(fit, shorter, tf.zeros_like(vector))
    return tf.where(fits, rounded, shorter)

  return later_tries


def nearest_round(vector: tf.Tensor, l2_bound: float, dtype: tf.DType) -> tf.Tensor:
  """Rounds each coordinate to the nearest integer, if that is within the bound.

  A vector that would exceed it gets every coordinate one step nearer to zero, which is shorter than
  it was before rounding; one that exceeds it still, or is not finite, becomes zeros.

  Args:
    vector: `[d]` floats.
    l2_bound: As for `conditional_round`, finite.
    dtype: Integer dtype of the result.

  Returns:
    `[d]` integers whose sum of squares is at most `floor(l2_bound**2)`, exactly.
  """
  rounded = tf.math.rint(vector)

  def shortened() -> tf.Tensor:
    shorter = rounded - tf.sign(rounded)
    return tf.cond(_within(shorter, l2_bound), lambda: shorter, lambda: tf.zeros_like(shorter))

  return tf.cast(tf.cond(_within(rounded, l2_bound), lambda: rounded, shortened), dtype)


def _within(rounded: tf.Tensor, l2_bound: float) -> tf.Tensor:
  return _half_of_squares(rounded) <= _half_of_square(l2_bound)


# Exact: a sum of squares of integers, and half of it, is exact in float64 below 2^53, and one
# above stays above any bound that lies below.
def _half_of_squares(rounded: tf.Tensor) -> tf.Tensor:
  return tf.nn.l2_loss(tf.cast(rounded, tf.float64))


def _half_of_square(l2_bound: float) -> tf.Tensor:
  return tf.constant(int(l2_bound**2) / 2, tf.float64)


def _attempt(vector: tf.Tensor, seed: tf.Tensor, attempt: int | tf.Tensor) -> tf.Tensor:
  """Rounds up with the probability that is the fraction, to within 2^-17."""
  size = structures.length(vector)
  words = randomness.philox_words(seed, -(-size // 2), stream=attempt)
  halves = structures.first(tf.reshape(tf.bitcast(words, tf.uint16), [-1]), size)
  # At the middle of each of 2^16 equal cells, so that the error is as often up as down.
  coins = (tf.cast(halves, vector.dtype) + 0.5) * 2.0**-16
  return tf.floor(vector + coins)


def _truncate(vector: tf.Tensor) -> tf.Tensor:
  return tf.sign(vector) * tf.floor(tf.abs(vector))

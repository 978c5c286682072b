"""Rounding to integers of an exactly bounded L2 norm: at random, or to the nearest."""

import tensorflow as tf

from tff_privacy_agg.numerics import randomness, structures

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

  def attempt(
    _: tf.Tensor, tries: tf.Tensor, fits: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    rounded = _attempt(vector, seed, tries)
    return rounded, tries + 1, _within(rounded, l2_bound)

  # A function of its own: few clients need it, and to prepare its operations takes all of them long.
  @tf.function(autograph=False, experimental_attributes={'_noinline': True})
  def try_again() -> tf.Tensor:
    rounded, _, fits = tf.while_loop(
      lambda _, tries, fits: (tries < _MOST_TRIES) & ~fits, attempt, (first, 1, False)
    )
    shorter = _truncate(vector)
    shorter = tf.where(_within(shorter, l2_bound), shorter, tf.zeros_like(vector))
    return tf.where(fits, rounded, shorter)

  first = _attempt(vector, seed, 0)
  return tf.cast(tf.cond(_within(first, l2_bound), lambda: first, try_again), dtype)


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
  # Exact: a sum of squares of integers, and half of it, is exact in float64 below 2^53, and one
  # above stays above any bound that lies below.
  limit = tf.constant(int(l2_bound**2) / 2, tf.float64)
  return tf.nn.l2_loss(tf.cast(rounded, tf.float64)) <= limit


def _attempt(vector: tf.Tensor, seed: tf.Tensor, attempt: int | tf.Tensor) -> tf.Tensor:
  """Rounds up with the probability that is the fraction, to within 2^-17."""
  words = randomness.philox_words(seed, -(-vector.shape[0] // 2), stream=attempt)
  halves = structures.first(tf.reshape(tf.bitcast(words, tf.uint16), [-1]), vector.shape[0])
  # At the middle of each of 2^16 equal cells, so that the error is as often up as down.
  coins = (tf.cast(halves, vector.dtype) + 0.5) * 2.0**-16
  return tf.floor(vector + coins)


def _truncate(vector: tf.Tensor) -> tf.Tensor:
  return tf.sign(vector) * tf.floor(tf.abs(vector))

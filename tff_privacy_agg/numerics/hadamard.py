"""Randomized Hadamard rotation as a product of small Hadamard matrices.

A Hadamard matrix of order n is a Kronecker product of factors of orders 12 to
64. Orders 12, 20, 28, 36 and 44 (Paley) next to powers of two keep the padding of
a vector of at least 1,000 coordinates under 10 %. Multiplying by one factor is a
`matmul`; a transposed product moves the next axis into place, so no transpose is
ever done on its own.
"""

import numpy as np
import tensorflow as tf

from tff_privacy_agg.numerics import randomness, structures
from tff_privacy_agg.numerics.orders import factors, matrix, padded_dimension

_POWERS_OF_TWO = np.array([[1 << i for i in range(32)]], np.uint32).view(np.int32)


def flip(vector: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Multiplies `[d]` by independent signs +-1 from a public seed, one random bit each.

  Args:
    vector: `[d]`, float32 or float64.
    seed: `[2]` int64, the same on the server and on every client.
  """
  dim = vector.shape[0]
  words = randomness.philox_words(seed, -(-dim // 32))
  # Products move each bit of a word to the top, where a float has its sign.
  moved = tf.reshape(tf.reshape(words, [-1, 1]) * tf.constant(_POWERS_OF_TWO), [-1])
  top = tf.bitwise.bitwise_and(structures.first(moved, dim), tf.int32.min)
  if vector.dtype == tf.float64:
    top = tf.cast(top, tf.int64) * 2**32
  flipped = tf.bitwise.bitwise_xor(tf.bitcast(vector, top.dtype), top)
  return tf.bitcast(flipped, vector.dtype)


def _transform(vector: tf.Tensor, *, inverse: bool) -> tf.Tensor:
  order = vector.shape[0]
  for size in factors(order):
    factor = matrix(size) / np.sqrt(size)
    # The leading axis is multiplied and becomes the last: the axes end as they began. The other
    # way round, from the last axis to the leading one, takes about twice as long.
    columns = tf.constant(factor if inverse else factor.T, vector.dtype)
    vector = tf.matmul(tf.reshape(vector, [size, -1]), columns, transpose_a=True)
  return tf.reshape(vector, [order])


def rotate(vector: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Multiplies `[d]` by random signs and by an orthonormal Hadamard matrix.

  The signed vector is padded with zeros to `padded_dimension(d)`. The L2 norm is
  kept up to rounding; each coordinate becomes sub-Gaussian with standard
  deviation `norm / sqrt(padded)`. Reference: arXiv:1611.00429, section 3.

  Args:
    vector: `[d]` floats.
    seed: `[2]` int64, public.

  Returns:
    `[padded_dimension(d)]` floats.
  """
  padded = structures.pad(flip(vector, seed), padded_dimension(vector.shape[0]))
  return _transform(padded, inverse=False)


def unrotate(vector: tf.Tensor, seed: tf.Tensor, dim: int) -> tf.Tensor:
  """Inverse of `rotate`: from `[padded_dimension(dim)]` to `[dim]`."""
  return flip(structures.first(_transform(vector, inverse=True), dim), seed)

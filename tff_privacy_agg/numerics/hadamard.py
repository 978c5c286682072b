"""Randomized Hadamard rotation as a product of small Hadamard matrices.

A Hadamard matrix of order n is a Kronecker product of factors of orders 12 to
64. Orders 12, 20, 28, 36 and 44 (Paley) beside powers of two keep the padding of
a vector of at least 1,000 coordinates under 10 %. Multiplying by one factor is a
`matmul`; a transposed product moves the next axis into place, so no transpose is
ever done on its own.
"""

import functools
import itertools

import numpy as np
import tensorflow as tf

from tff_privacy_agg.numerics import randomness, structures

# Order -> (prime q, kind): kind 1 has order q + 1 (q = 3 mod 4), kind 2 has
# order 2 (q + 1) (q = 1 mod 4). Paley, J. Math. Phys. 12 (1933).
_PALEY = {12: (11, 1), 20: (19, 1), 28: (13, 2), 36: (17, 2), 44: (43, 1)}
_PALEY_COUNTS = (0, 1, 2, 3)
_LARGEST_FACTOR = 64
_POWERS_OF_TWO = np.array([[1 << i for i in range(32)]], np.uint32).view(np.int32)


def _paley(order: int) -> np.ndarray:
  q, kind = _PALEY[order]
  squares = {x * x % q for x in range(1, q)}
  character = np.array([0] + [1 if x in squares else -1 for x in range(1, q)])
  jacobsthal = character[(np.arange(q)[:, None] - np.arange(q)[None, :]) % q]
  bordered = np.zeros((q + 1, q + 1), int)
  bordered[0, 1:] = 1
  bordered[1:, 0] = -1 if kind == 1 else 1
  bordered[1:, 1:] = jacobsthal
  if kind == 1:
    return bordered + np.eye(q + 1, dtype=int)
  return np.kron(bordered, [[1, 1], [1, -1]]) + np.kron(
    np.eye(q + 1, dtype=int), [[1, -1], [-1, -1]]
  )


@functools.cache
def matrix(order: int) -> np.ndarray:
  """A Hadamard matrix `[order, order]` of +-1 for a power of two or a Paley order."""
  if order in _PALEY:
    return _paley(order)
  if order == 1:
    return np.ones((1, 1), int)
  return np.kron(matrix(order // 2), [[1, 1], [1, -1]])


@functools.cache
def padded_dimension(dim: int) -> int:
  """The smallest order n >= dim of the form 2^a times at most three Paley orders."""
  best = 1 << max(dim - 1, 0).bit_length()
  for count in _PALEY_COUNTS[1:]:
    for paley in itertools.combinations_with_replacement(_PALEY, count):
      odd_part = int(np.prod(paley))
      power = 1
      while odd_part * power < dim:
        power *= 2
      best = min(best, odd_part * power)
  return best


@functools.cache
def factors(order: int) -> tuple[int, ...]:
  """Orders of the small matrices whose Kronecker product has the given order."""
  found: list[int] = []
  remaining = order
  for count in _PALEY_COUNTS:
    for paley in itertools.combinations_with_replacement(_PALEY, count):
      rest, left_over = divmod(order, int(np.prod(paley, dtype=int)))
      if left_over == 0 and rest & (rest - 1) == 0:
        found, remaining = list(paley), rest
        break
    else:
      continue
    break
  bits = remaining.bit_length() - 1
  largest = _LARGEST_FACTOR.bit_length() - 1
  if bits:
    parts = -(-bits // largest)
    found += [1 << (bits // parts + (i < bits % parts)) for i in range(parts)]
  return tuple(found) or (1,)


def flip(vector: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Multiplies `[d]` by independent signs +-1 from a public seed, one random bit each.

  Args:
    vector: `[d]`, float32 or float64.
    seed: `[2]` int64, the same on the server and on every client.
  """
  dim = vector.shape[0]
  words = randomness.philox_words(seed, -(-dim // 32))
  # Products move each bit of a word to the top, where a float has its sign.
  moved = words[:, tf.newaxis] * tf.constant(_POWERS_OF_TWO)
  top = tf.bitwise.bitwise_and(tf.reshape(moved, [-1])[:dim], tf.int32.min)
  if vector.dtype == tf.float64:
    top = tf.cast(top, tf.int64) * 2**32
  flipped = tf.bitwise.bitwise_xor(tf.bitcast(vector, top.dtype), top)
  return tf.bitcast(flipped, vector.dtype)


def _transform(vector: tf.Tensor, *, inverse: bool) -> tf.Tensor:
  order = vector.shape[0]
  sizes = factors(order)
  for size in sizes if inverse else reversed(sizes):
    scaled = tf.constant(matrix(size) / np.sqrt(size), vector.dtype)
    if inverse:
      # Undo `H @ Y^T`: the leading axis holds the factor; put it last again.
      vector = tf.matmul(tf.reshape(vector, [size, -1]), scaled, transpose_a=True)
    else:
      vector = tf.matmul(scaled, tf.reshape(vector, [-1, size]), transpose_b=True)
    vector = tf.reshape(vector, [order])
  return vector


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
  return flip(_transform(vector, inverse=True)[:dim], seed)

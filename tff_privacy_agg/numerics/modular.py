"""Arithmetic modulo a power of two, and the integer types that hold it."""

import tensorflow as tf


def dtype_for(bits: int) -> tf.DType:
  """The integer dtype whose wrap-around sums stay right modulo `2**bits`.

  Sums of residues may overflow the dtype: two's complement keeps them right
  modulo any power of two, so int32 serves up to 30 bits and int64 up to 62.
  """
  return tf.int32 if bits <= 30 else tf.int64


def wrap(integers: tf.Tensor, bits: int) -> tf.Tensor:
  """Residues in [0, 2**bits) of (negative or positive) integers."""
  return tf.bitwise.bitwise_and(integers, tf.constant(2**bits - 1, integers.dtype))


def centre(residues: tf.Tensor, bits: int) -> tf.Tensor:
  """The representatives in [-2**(bits-1), 2**(bits-1)) of residues."""
  half = tf.constant(2 ** (bits - 1), residues.dtype)
  return wrap(residues + half, bits) - half

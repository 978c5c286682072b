"""Random phases followed by a discrete Fourier transform, as a rotation of reals."""

import math

import tensorflow as tf

from tff_privacy_agg.numerics import structures


def padded_dimension(dim: int) -> int:
  """The smallest even number of coordinates that holds `dim`."""
  return dim + dim % 2


def _phases(seed: tf.Tensor, count: int) -> tf.Tensor:
  angles = tf.random.stateless_uniform([count], seed, 0.0, 2 * math.pi, tf.float64, alg='philox')
  return tf.complex(tf.cos(angles), tf.sin(angles))


def rotate(vector: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
  """Rotates `[d]` by random phases and a unitary DFT of pairs of coordinates.

  The transform runs in complex128: TF's single-precision one loses up to 1e-3 of
  the norm at lengths that are no power of two.

  Args:
    vector: `[d]` floats.
    seed: `[2]` int64, public.

  Returns:
    `[padded_dimension(d)]` floats of the same L2 norm up to rounding.
    Reference: arXiv:2102.06387.
  """
  padded = structures.pad(tf.cast(vector, tf.float64), padded_dimension(vector.shape[0]))
  half = padded.shape[0] // 2
  spectrum = tf.signal.fft(tf.complex(padded[:half], padded[half:]) * _phases(seed, half))
  spread = tf.concat([tf.math.real(spectrum), tf.math.imag(spectrum)], axis=0)
  return tf.cast(spread / math.sqrt(half), vector.dtype)


def unrotate(vector: tf.Tensor, seed: tf.Tensor, dim: int) -> tf.Tensor:
  """Inverse of `rotate`: from `[padded_dimension(dim)]` to `[dim]`."""
  half = vector.shape[0] // 2
  scaled = tf.cast(vector, tf.float64) * math.sqrt(half)
  signal = tf.signal.ifft(tf.complex(scaled[:half], scaled[half:]))
  signal *= tf.math.conj(_phases(seed, half))
  joined = tf.concat([tf.math.real(signal), tf.math.imag(signal)], axis=0)[:dim]
  return tf.cast(joined, vector.dtype)

"""Between lists of tensors and one flat vector."""

from collections.abc import Sequence

import tensorflow as tf


def concatenate(tensors: Sequence[tf.Tensor], dtype: tf.DType) -> tf.Tensor:
  """Flattens tensors, in the order given, into one vector.

  Args:
    tensors: Float tensors of any shapes and dtypes.
    dtype: Dtype of the vector.

  Returns:
    Vector `[d]` of `dtype`, d the total number of elements.
  """
  flat = [tf.reshape(tf.cast(tensor, dtype), [-1]) for tensor in tensors]
  return flat[0] if len(flat) == 1 else tf.concat(flat, axis=0)


def split(
  vector: tf.Tensor, shapes: Sequence[Sequence[int]], dtypes: Sequence[tf.DType]
) -> list[tf.Tensor]:
  """Inverse of `concatenate`.

  Args:
    vector: `[d]`.
    shapes: Static shapes of the tensors; their sizes add up to d.
    dtypes: Dtypes of the tensors; for integers the nearest one is taken.

  Returns:
    The tensors, in order.
  """
  sizes = [tf.TensorShape(shape).num_elements() for shape in shapes]
  parts = tf.split(vector, sizes)
  return [
    tf.cast(tf.reshape(tf.math.round(part) if dtype.is_integer else part, shape), dtype)
    for part, shape, dtype in zip(parts, shapes, dtypes, strict=True)
  ]


def pad(vector: tf.Tensor, length: int) -> tf.Tensor:
  """Appends zeros up to `length`."""
  missing = length - vector.shape[0]
  return vector if missing == 0 else tf.pad(vector, [[0, missing]])


def length(vector: tf.Tensor) -> int | tf.Tensor:
  """The number of elements: an integer where it is known, else an int32 scalar."""
  known = vector.shape[0]
  return tf.shape(vector)[0] if known is None else known


def first(vector: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """The first `count` elements; no operation where `vector` is known to have no more."""
  is_all = not tf.is_tensor(count) and vector.shape[0] == count
  return vector if is_all else tf.slice(vector, [0], [count])


def l2_norm(vector: tf.Tensor) -> tf.Tensor:
  """L2 norm of `[d]`; NaN or infinite where any coordinate is, or on overflow."""
  return tf.sqrt(2 * tf.nn.l2_loss(vector))


def finite_or_zero(vector: tf.Tensor, factor: tf.Tensor | float = 1.0) -> tf.Tensor:
  """`factor * vector`, or zeros where the vector's norm is not finite.

  Args:
    vector: `[d]` floats.
    factor: Scalar, finite wherever the norm of `vector` is.
  """
  finite = tf.math.is_finite(l2_norm(vector))
  factor = tf.where(finite, tf.cast(factor, vector.dtype), tf.zeros([], vector.dtype))
  return tf.math.multiply_no_nan(vector, factor)

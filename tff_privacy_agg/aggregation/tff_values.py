"""Between TFF values of any structure and one flat vector, in TFF's declared order.

`tf.nest` sorts dictionary keys, TFF keeps the order in which they were declared:
walking the TFF type, not the Python value, keeps both sides alike.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg._tff import compat, structures as tff_structures
from tff_privacy_agg.errors import CompositionError
from tff_privacy_agg.numerics import structures


def _leaf_types(value_type: compat.Type) -> Iterator[tuple[str, Any]]:
  """The leaves of a type, each with what Python code would write for it."""
  for steps, leaf in tff_structures.leaves(value_type):
    written = (f'.{step}' if isinstance(step, str) else f'[{step}]' for step in steps)
    yield f'value{"".join(written)}', leaf


def _size(path: str, leaf: compat.Type) -> int:
  if not isinstance(leaf, compat.TensorType):
    raise CompositionError(
      f'A stack sums structures of tensors; `{path}` is {leaf}. Aggregate it separately.'
    )
  if leaf.shape is None or any(size is None for size in leaf.shape):
    raise CompositionError(
      f'A stack sums tensors of known shapes; `{path}` is {leaf}. Give it a static shape.'
    )
  return int(np.prod(tuple(leaf.shape), dtype=np.int64))


def count(value_type: compat.Type) -> int:
  """Number of coordinates of a value of numbers.

  Raises:
    CompositionError: Unless the type is a structure of tensors of fully known shapes.
  """
  return sum(_size(path, leaf) for path, leaf in _leaf_types(value_type))


def measure(value_type: compat.Type) -> tuple[int, tf.DType]:
  """Number of coordinates of a value, and the float dtype that holds all of them.

  Args:
    value_type: TFF type of one client's value, without placement.

  Returns:
    The dimension, and float64 if any leaf is float64, else float32.

  Raises:
    CompositionError: Unless the type is a structure of float tensors of fully
      known shapes with at least one coordinate.
  """
  dim, dtype = 0, tf.float32
  for path, leaf in _leaf_types(value_type):
    dim += _size(path, leaf)
    if not tf.as_dtype(leaf.dtype).is_floating:
      raise CompositionError(
        f'A stack sums float tensors; `{path}` is {leaf}. '
        'Cast it to float32, or aggregate it separately.'
      )
    if tf.as_dtype(leaf.dtype) == tf.float64:
      dtype = tf.float64
  if dim == 0:
    raise CompositionError(
      f'A stack sums at least one number; {value_type} holds none. Pass a value with coordinates.'
    )
  return dim, dtype


def check_weight(weight_type: compat.Type) -> None:
  """Raises unless `weight_type` is a scalar number."""
  scalar = isinstance(weight_type, compat.TensorType) and weight_type.shape == ()
  dtype = tf.as_dtype(weight_type.dtype) if scalar else tf.string
  if not (dtype.is_floating or dtype.is_integer):
    raise CompositionError(
      f'A weight is a scalar number; got {weight_type}. '
      'Use `client_weighting` of the learning process to give one.'
    )


def to_vector(value: Any, value_type: compat.Type, dtype: tf.DType) -> tf.Tensor:
  """One client's value as a vector `[d]` of `dtype`."""
  leaves = tff_structures.flatten(value, value_type)
  return structures.concatenate([tf.convert_to_tensor(leaf) for leaf in leaves], dtype)


def from_vector(vector: tf.Tensor, value_type: compat.Type) -> Any:
  """Inverse of `to_vector`, with the Python containers that the type names."""
  types = [leaf for _, leaf in _leaf_types(value_type)]
  shapes, dtypes = [leaf.shape for leaf in types], [tf.as_dtype(leaf.dtype) for leaf in types]
  return tff_structures.pack(iter(structures.split(vector, shapes, dtypes)), value_type)

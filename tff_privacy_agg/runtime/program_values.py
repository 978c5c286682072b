"""Values inside a TFF program: a structure is a list, a value at the clients one value for each."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat, structures


@dataclasses.dataclass(frozen=True)
class Same:
  """A value that all clients have."""

  value: Any


@dataclasses.dataclass(frozen=True)
class SerializedDataset:
  """A dataset as TFF serializes it; whoever made it has compared its type."""

  graph_def: bytes


def placed(tff_type: Any) -> Iterator[tuple[str, Any]]:
  """Paths and types of all parts; none without a type."""
  return iter(()) if tff_type is None else structures.paths(tff_type)


def is_at_clients(tff_type: Any) -> bool:
  """Whether a type is placed at the clients."""
  return isinstance(tff_type, compat.FederatedType) and tff_type.placement is compat.CLIENTS


def has_sequence(tff_type: Any) -> bool:
  """Whether there is a dataset in a type."""
  return any(isinstance(below, compat.SequenceType) for _, below in structures.paths(tff_type))


def count_clients(value: Any, tff_type: Any) -> int:
  """The number of clients in an argument; 0 if it has none."""
  if tff_type is None:
    return 0
  pairs = zip(structures.flatten(value, tff_type), structures.paths(tff_type), strict=True)
  counts = {len(leaf) for leaf, (_, below) in pairs if is_at_clients(below) and not below.all_equal}
  if len(counts) > 1:
    raise ValueError(f'The arguments at clients have {sorted(counts)} clients; give each as many.')
  return counts.pop() if counts else 0


def of_client(value: Any, tff_type: Any, client: int) -> Any:
  """One client's part of a structure of values at the clients."""
  if isinstance(tff_type, compat.StructType):
    items = zip(value, compat.struct_items(tff_type), strict=True)
    return [of_client(child, below, client) for child, (_, below) in items]
  return value.value if isinstance(value, Same) else value[client]


def nested(leaves: Iterator[Any], tff_type: Any) -> Any:
  """Leaves as a structure of a type."""
  if not isinstance(tff_type, compat.StructType):
    return next(leaves)
  return [nested(leaves, below) for _, below in compat.struct_items(tff_type)]


def plain(value: Any, tff_type: Any) -> Any:
  """An argument as programs take it, checked against its type."""
  if isinstance(tff_type, compat.FederatedType):
    if not is_at_clients(tff_type):
      return plain(value, tff_type.member)
    if tff_type.all_equal:
      return Same(plain(value, tff_type.member))
    if not isinstance(value, list):
      raise TypeError(f'A list with one value for each client was expected, got {type(value)}.')
    return [plain(one, tff_type.member) for one in value]
  if isinstance(tff_type, compat.StructType):
    return [plain(child, below) for child, below in structures.children(value, tff_type)]
  if isinstance(tff_type, compat.SequenceType):
    return _sequence(value, tff_type)
  if isinstance(tff_type, compat.TensorType):
    return _array(value, tff_type)
  raise NotImplementedError(f'An argument of type {tff_type}.')


def _sequence(value: Any, tff_type: Any) -> Any:
  if isinstance(value, SerializedDataset):
    return value.graph_def
  if not isinstance(value, tf.data.Dataset):  # A list of elements, or refused.
    return tff.framework.serialize_value(value, tff_type)[0].sequence.serialized_graph_def
  found = compat.SequenceType(compat.tensorflow_to_type(value.element_spec))
  if not tff_type.is_assignable_from(found):
    raise TypeError(f'A dataset of type {tff_type} was expected, got {found}.')
  return value


def _array(value: Any, tff_type: Any) -> np.ndarray:
  dtype = np.dtype(getattr(tff_type.dtype, 'as_numpy_dtype', tff_type.dtype))
  if dtype.kind in 'SUO':
    array = np.asarray(value, object)
  else:
    found = np.asarray(value)
    # Python's own numbers have no size; arrays must not lose any.
    own = isinstance(value, bool | int | float | complex | list | tuple)
    if not np.can_cast(found.dtype, dtype, 'same_kind' if own else 'safe') or (
      found.dtype.kind == 'b' and dtype.kind != 'b'
    ):
      raise TypeError(f'A value of type {tff_type} was expected, got {found.dtype}.')
    array = np.asarray(found, dtype)
    if own and dtype.kind in 'iu' and not np.array_equal(array, found):
      raise TypeError(f'A value of type {tff_type} was expected, got {value}.')
  shape = tff_type.shape
  if shape is not None and (
    len(shape) != array.ndim
    or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True))
  ):
    raise TypeError(f'A value of type {tff_type} was expected, got one of shape {array.shape}.')
  return array


def contained(value: Any, tff_type: Any) -> Any:
  """A result in the containers that its type names."""
  if isinstance(tff_type, compat.FederatedType):
    if isinstance(value, Same):
      return contained(value.value, tff_type.member)
    if is_at_clients(tff_type):
      return [contained(one, tff_type.member) for one in value]
    return contained(value, tff_type.member)
  if not isinstance(tff_type, compat.StructType):
    return value
  items = zip(compat.struct_items(tff_type), value, strict=True)
  return structures.contain(
    [(name, contained(child, below)) for (name, below), child in items], tff_type
  )

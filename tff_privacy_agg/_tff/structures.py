"""Between TFF's structures and flat lists of leaves, in TFF's declared order.

`tf.nest` sorts dictionary keys and TFF does not: everything here walks the TFF type.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tff_privacy_agg._tff import compat


def leaves(tff_type: Any, steps: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any]]:
  """The (steps, type) pairs of a type's leaves; a step is a name, or the position of a nameless."""
  if not isinstance(tff_type, compat.StructType):
    yield steps, tff_type
    return
  for index, (name, element) in enumerate(compat.struct_items(tff_type)):
    yield from leaves(element, (*steps, name or index))


def paths(tff_type: Any) -> Iterator[tuple[str, Any]]:
  """The (path, type) pairs of a type's leaves; a path is names or positions, `/` between."""
  for steps, leaf in leaves(tff_type):
    yield '/'.join(map(str, steps)), leaf


def children(value: Any, tff_type: Any) -> Iterator[tuple[Any, Any]]:
  """The (value, type) pairs one level below; `value` in any container that TFF takes."""
  for index, (name, element) in enumerate(compat.struct_items(tff_type)):
    if isinstance(value, Mapping):
      yield (value[name] if name in value else list(value.values())[index]), element
    elif isinstance(value, Sequence):
      yield value[index], element
    elif dataclasses.is_dataclass(value) or hasattr(value, '__attrs_attrs__'):
      yield getattr(value, name), element
    else:
      yield value[index], element


def flatten(value: Any, tff_type: Any) -> list[Any]:
  """The leaves of `value`."""
  if not isinstance(tff_type, compat.StructType):
    return [value]
  return [leaf for child, below in children(value, tff_type) for leaf in flatten(child, below)]


def pack(leaves: Iterator[Any], tff_type: Any) -> Any:
  """The inverse of `flatten`, in the Python containers that the type names."""
  if not isinstance(tff_type, compat.StructType):
    return next(leaves)
  items = [(name, pack(leaves, below)) for name, below in compat.struct_items(tff_type)]
  return contain(items, tff_type)


def contain(items: Sequence[tuple[str | None, Any]], tff_type: Any) -> Any:
  """One level of a structure in the container that its type names.

  Args:
    items: (name or None, value) for each element.
    tff_type: The `StructType`; one without a container gives an `OrderedDict` if its elements
      have names, else a tuple, as TFF does.
  """
  container = getattr(tff_type, 'python_container', None)
  named = bool(items) and items[0][0] is not None
  if container is None:
    container = OrderedDict if named else tuple
  if issubclass(container, Mapping):
    return container(items)
  values = [value for _, value in items]
  if hasattr(container, '_fields'):
    return container(*values)
  if named:
    return container(**{str(name): value for name, value in items})
  return container(values)


def restore(value: Any, tff_type: Any) -> Any:
  """`value` with every structure in the container that `tff_type` names; leaves as they are."""
  if isinstance(tff_type, compat.FederatedType):
    return restore(value, tff_type.member)
  if not isinstance(tff_type, compat.StructType):
    return value
  names = [name for name, _ in compat.struct_items(tff_type)]
  below = [restore(child, child_type) for child, child_type in children(value, tff_type)]
  return contain(list(zip(names, below, strict=True)), tff_type)

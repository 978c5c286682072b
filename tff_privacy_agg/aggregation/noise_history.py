"""Noise that a process keeps for later rounds: where it stands in a state, and its removal.

A stack with `CorrelatedNoise` keeps the noise of the last rounds under the layer's name, as `history`.
It is a secret: a release less its noise is the exact sum.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

HISTORY = 'history'
# In the account of a stack whose noise is correlated, and of no other.
SINCE_RESTART = 'since_restart'


def holds_noise(value: Any) -> bool:
  """Whether a state, or anything that may hold one, holds the noise of earlier rounds."""
  found: list[Mapping[str, Any]] = []

  def note(stack: Mapping[str, Any]) -> Mapping[str, Any]:
    found.append(stack)
    return stack

  map_stacks(note, value)
  return bool(found)


def without_noise(value: Any) -> Any:
  """A state in which correlated noise begins anew; accounts stay as they are."""
  return map_stacks(_begun_anew, value)


def map_stacks(change: Callable[..., Mapping[str, Any]], value: Any, *others: Any) -> Any:
  """Replaces the states of stacks whose noise is correlated by what `change` makes of them.

  Args:
    change: From such a state, and those at the same place in `others`, to another.
    value: Nested dictionaries, tuples, lists and the states of TFF's processes.
    others: Of the same structure.
  """
  if isinstance(value, Mapping):
    if _is_stack(value):
      return change(value, *others)
    pairs = {
      key: map_stacks(change, value[key], *(other[key] for other in others)) for key in value
    }
    return _like(value, pairs)
  if hasattr(value, '_fields'):
    return type(value)(*(map_stacks(change, *one) for one in zip(value, *others, strict=True)))
  if isinstance(value, tuple | list):
    return type(value)(map_stacks(change, *one) for one in zip(value, *others, strict=True))
  if hasattr(value, '__attrs_attrs__'):
    names = [attribute.name for attribute in value.__attrs_attrs__]
    return type(value)(
      **{
        name: map_stacks(change, getattr(value, name), *(getattr(one, name) for one in others))
        for name in names
      }
    )
  return value


def _is_stack(value: Mapping[str, Any]) -> bool:
  account = value.get('privacy')
  return isinstance(account, Mapping) and SINCE_RESTART in account


def _begun_anew(stack: Mapping[str, Any]) -> Mapping[str, Any]:
  parts = {}
  for name, part in stack.items():
    zeroed = {HISTORY, SINCE_RESTART} & {*part} if isinstance(part, Mapping) else set()
    parts[name] = part
    if zeroed:
      parts[name] = _like(
        part, {key: np.zeros_like(part[key]) if key in zeroed else part[key] for key in part}
      )
  return _like(stack, parts)


def _like(value: Any, items: Mapping[str, Any]) -> Any:
  """Items in a dictionary of the type of `value`."""
  return type(value)(items)

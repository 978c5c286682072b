"""The clients' values of a question, in the types that TFF sums."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError

_KINDS = {'f': ('iuf', 'number'), 'b': ('b', 'bool')}  # NumPy's kinds that are taken for a type's


def client_values(values: Any, value_type: compat.Type) -> Sequence[Any]:
  """One value for each client, of the query's type.

  Integers and narrower floats count as numbers. Values of a query of one's own, whose type is
  neither numbers nor bools, are left to TFF.

  Args:
    values: A list, an array or the like with one entry for each client.
    value_type: TFF type of one value.

  Raises:
    ConfigurationError: If they are of another type or shape, or there are none.
  """
  if not isinstance(value_type, compat.TensorType) or value_type.dtype is None:
    return values
  wanted = np.dtype(value_type.dtype)
  if wanted.kind not in _KINDS:
    return values
  kinds, word = _KINDS[wanted.kind]
  shape = tuple(value_type.shape or ())
  one = f'one {word}' if not shape else f'a list of {shape[0]} {word}s'
  try:
    found = np.asarray(values)
  except ValueError:  # lists of different lengths
    found = np.asarray(None)
  if found.ndim > 0 and not len(found):
    raise ConfigurationError(f'`values` must have {one} for each client, got no client.')
  if found.dtype.kind not in kinds or found.shape[1:] != shape or found.ndim != 1 + len(shape):
    raise ConfigurationError(
      f'`values` must have {one} for each client, got {_described(values, found)}. Convert them.'
    )
  return list(found.astype(wanted))


def _described(values: Any, found: np.ndarray) -> str:
  """What was given, without any client's value."""
  if found.ndim == 0:
    unlike = ' of unlike values' if isinstance(values, list | tuple) else ''
    return f'a {type(values).__name__}{unlike}'
  return f'values of shape {list(found.shape)} and type {found.dtype}'

"""Integer arrays to the words that are masked, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tff_privacy_agg.secagg.errors import InputOutOfRange
from tff_privacy_agg.secagg.leaves import Leaf
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import packing


def _checked(leaf: Leaf, value: Any) -> np.ndarray:
  try:
    array = np.asarray(value)
  except ValueError:
    raise InputOutOfRange(f'Leaf {leaf.name!r} takes an array, got no rectangular one.') from None
  if array.dtype.kind not in 'iu':
    raise InputOutOfRange(
      f'Leaf {leaf.name!r} takes integers, got an array of {array.dtype}. Quantize first.'
    )
  if array.shape != leaf.shape:
    raise InputOutOfRange(f'Leaf {leaf.name!r} has shape {leaf.shape}, got {array.shape}.')
  low, high = -(2 ** (leaf.bits - 1)), 2**leaf.bits - 1
  if leaf.no_wrap is not None:
    low, high = 0, leaf.no_wrap
  if int(array.min()) < low or int(array.max()) > high:
    raise InputOutOfRange(
      f'Leaf {leaf.name!r} takes values from {low} to {high}; one is outside. Clip first, or give '
      'the leaf more bits.'
    )
  return array


def prepare(params: SessionParams, values: Mapping[str, Any]) -> list[np.ndarray]:
  """Copies one client's values into padded words, modulo each leaf's modulus.

  Raises:
    InputOutOfRange: If a leaf is missing or unknown, no integer, of another shape, or
      outside its range. The text does not show the values.
  """
  names = [leaf.name for leaf in params.leaves]
  if set(values) != set(names):
    raise InputOutOfRange(
      f'Values for the leaves {names} are needed, got {sorted(map(str, values))}.'
    )
  return [packing.pad(_checked(leaf, values[leaf.name]), leaf.bits) for leaf in params.leaves]


def restore(params: SessionParams, words: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
  """The sums by leaf: unsigned words below 2**bits, of the leaf's shape.

  Reduces the words modulo each leaf's modulus, in place. Words of tags may follow.
  """
  found = {}
  for leaf, vector in zip(params.leaves, words, strict=False):
    sums = vector[: leaf.size]
    np.bitwise_and(sums, sums.dtype.type(2**leaf.bits - 1), out=sums)
    found[leaf.name] = sums.reshape(leaf.shape)
  return found

"""Clients' inputs to secure sums: leaves, bits, and the way there and back."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg._tff import compat, structures
from tff_privacy_agg.errors import ConfigurationError

MODULAR, BITWIDTH, MAX_INPUT = 'modular', 'bitwidth', 'max_input'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aggregand:
  """One tensor of a secure sum.

  Attributes:
    name: Kind of the sum and place in the client's result.
    kind: 'modular', 'bitwidth' or 'max_input'.
    shape: Shape of the tensor.
    dtype: NumPy dtype of the tensor, and of the sum that TFF expects.
    bits: Bits of the modulus in the protocol.
    largest: Largest value of one client: what its own bits carry in the clear.
  """

  name: str
  kind: str
  shape: tuple[int, ...]
  dtype: np.dtype
  bits: int
  largest: int

  @property
  def size(self) -> int:
    """Number of elements."""
    return int(np.prod(self.shape, dtype=np.int64))

  @property
  def leaf(self) -> secagg.Leaf:
    """The leaf of the session; bounded sums are checked against their bound."""
    bound = None if self.kind == MODULAR else self.largest
    return secagg.Leaf(self.name, self.shape, self.bits, bound)

  @property
  def plain_bytes(self) -> float:
    """Bytes of one client's values in the clear, at the bits that a value needs."""
    return self.size * self.largest.bit_length() / 8

  def encode(self, value: Any) -> np.ndarray:
    """One client's values as the session takes them; a copy only where they must change."""
    array = np.asarray(value, self.dtype).reshape(self.shape)
    if self.kind == MODULAR and not (array.min() >= 0 and array.max() <= self.largest):
      return np.bitwise_and(array, self.dtype.type(self.largest))
    return array


def _bits(kind: str, bound: int, maximum_clients: int) -> tuple[int, int]:
  """Bits of the modulus, and the largest value of one client."""
  if kind == MODULAR:
    return secagg.bits_of_modulus(bound), bound - 1
  if kind == BITWIDTH:
    return secagg.bits_of_bitwidth(bound, maximum_clients), 2**bound - 1
  return secagg.bits_of_max_input(bound, maximum_clients), bound


def _aggregand(
  kind: str, path: str, tensor_type: compat.TensorType, bound: int, maximum_clients: int
) -> Aggregand:
  name = f'{kind}/{path}' if path else kind
  shape = tensor_type.shape
  if shape is None or any(extent is None for extent in shape):
    raise ConfigurationError(
      f'A secure sum needs a shape that is known; {name!r} is {tensor_type}. Give it a static shape.'
    )
  dtype = np.dtype(getattr(tensor_type.dtype, 'as_numpy_dtype', tensor_type.dtype))
  if dtype.kind not in 'iu':
    raise ConfigurationError(
      f'A secure sum takes integers; {name!r} is {tensor_type}. Quantize it first.'
    )
  bits, largest = _bits(kind, bound, maximum_clients)
  if bits > 62 or (kind != MODULAR and largest * maximum_clients > np.iinfo(dtype).max):
    raise secagg.CapacityError(
      f'{name!r} sums values up to {largest} of {maximum_clients} clients as {dtype}. That takes '
      f'{(largest * maximum_clients).bit_length()} bits; {dtype} and the protocol have at most '
      f'{min(62, np.iinfo(dtype).bits - 1)}. Lower `maximum_clients`, or the bound of the sum.'
    )
  return Aggregand(
    name=name, kind=kind, shape=tuple(shape), dtype=dtype, bits=bits, largest=largest
  )


def aggregands_of(
  kind: str, values_type: Any, bounds: Any, bounds_type: Any, maximum_clients: int
) -> list[Aggregand]:
  """The tensors of the secure sums of one kind, in TFF's order.

  Args:
    kind: 'modular', 'bitwidth' or 'max_input'.
    values_type: TFF type of one client's values, a structure with one element for each sum.
    bounds: The moduli, bit widths or largest inputs; a number stands for all tensors below it.
    bounds_type: TFF type of `bounds`.
    maximum_clients: Most clients of a round.

  Raises:
    CapacityError: If a sum of that many clients does not fit.
    UnsupportedModulusError: If a modulus is not a power of two.
    ConfigurationError: If a tensor is not of integers, or of unknown shape.
  """
  found = []
  spread = _spread(values_type, bounds, bounds_type)
  for (path, tensor_type), bound in zip(structures.paths(values_type), spread, strict=True):
    found.append(_aggregand(kind, path, tensor_type, int(bound), maximum_clients))
  return found


def _spread(values_type: Any, bounds: Any, bounds_type: Any) -> Iterator[Any]:
  """A bound for each leaf of `values_type`."""
  if not isinstance(bounds_type, compat.StructType):
    yield from (bounds for _ in structures.paths(values_type))
    return
  elements = compat.struct_items(values_type)
  pairs = zip(elements, structures.children(bounds, bounds_type), strict=True)
  for (_, element), (bound, bound_type) in pairs:
    yield from _spread(element, bound, bound_type)

"""What a session sums: its arrays, and the bits that a sum needs."""

import dataclasses
import math
import re

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.errors import UnsupportedModulusError

LARGEST_BITS = 62
NAME = re.compile(r'[\x21-\x7e]{1,200}')


@_validate.plain_numbers
def bits_of_modulus(modulus: int) -> int:
  """Bits of a modular sum: b of `modulus` = 2**b.

  Raises:
    UnsupportedModulusError: If it is no power of two between 2 and 2**62.

  Examples:
    >>> tpa.secagg.bits_of_modulus(2**16)
    16
  """
  _validate.at_least(1, modulus=modulus)
  modulus = int(modulus)
  bits = modulus.bit_length() - 1
  if modulus != 2**bits or not 1 <= bits <= LARGEST_BITS:
    raise UnsupportedModulusError(
      f'The modulus is {modulus}. Masks are uniform only modulo a power of two from 2 to '
      f'2**{LARGEST_BITS}. Take the next larger power of two.'
    )
  return bits


@_validate.plain_numbers
def bits_of_bitwidth(bitwidth: int, maximum_clients: int) -> int:
  """Bits that hold the sum of values of `bitwidth` bits of so many clients.

  Examples:
    >>> tpa.secagg.bits_of_bitwidth(8, maximum_clients=100)
    15
  """
  _validate.at_least(1, bitwidth=bitwidth, maximum_clients=maximum_clients)
  return bitwidth + (maximum_clients - 1).bit_length()


@_validate.plain_numbers
def bits_of_max_input(max_input: int, maximum_clients: int) -> int:
  """Bits that hold the sum of values from 0 to `max_input` of so many clients.

  Examples:
    >>> tpa.secagg.bits_of_max_input(255, maximum_clients=100)
    15
  """
  _validate.at_least(1, max_input=max_input, maximum_clients=maximum_clients)
  return (max_input * maximum_clients).bit_length()


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True)
class Leaf:
  """One array of the sum, modulo 2**bits.

  Values may be given as residues or as signed numbers: from -2**(bits-1) to
  2**bits - 1. Sums wrap, as modular sums do, unless `no_wrap` is stated.

  Args:
    name: Printable ASCII without blanks, unique in the session.
    shape: Shape of the array; () for a scalar.
    bits: Bits of the modulus, 1 to 62.
    no_wrap: Values are 0 to `no_wrap`, and `maximum_clients` of them must not reach
      the modulus. None: any residue.

  Raises:
    UnsupportedModulusError: If `bits` is not 1 to 62.
  """

  name: str
  shape: tuple[int, ...]
  bits: int
  no_wrap: int | None = None

  def __post_init__(self) -> None:
    _validate.instance(str, name=self.name)
    if not NAME.fullmatch(self.name):
      raise ConfigurationError(f'`name` must be printable ASCII without blanks, got {self.name!r}.')
    _validate.instance(tuple, shape=self.shape)
    for extent in self.shape:
      _validate.at_least(1, shape=extent)
    object.__setattr__(self, 'shape', tuple(int(extent) for extent in self.shape))
    if self.size >= 2**32:
      raise ConfigurationError(f'Leaf {self.name!r} has {self.size} elements; at most 2**32 - 1.')
    if isinstance(self.bits, bool) or not isinstance(self.bits, int):
      raise UnsupportedModulusError(
        f'Leaf {self.name!r} has {self.bits!r} bits; give an integer, see `bits_of_modulus`.'
      )
    if not 1 <= self.bits <= LARGEST_BITS:
      raise UnsupportedModulusError(
        f'Leaf {self.name!r} has {counted(self.bits, "bit")}. A modulus is 2**1 to '
        f'2**{LARGEST_BITS}.'
      )
    if self.no_wrap is not None:
      _validate.at_least(1, no_wrap=self.no_wrap)

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.shape)

"""Sums: the last layer, what leaves the clients."""

import abc
import dataclasses
from typing import Any

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Domain, IntegerVectors, ModularVectors, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import Layer, Numbers, Params, Slot
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import modular, structures

_FEWEST_BITS, _MOST_BITS = 2, 62


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terminal(Layer):
  """A layer that ends a stack."""

  hides_parts = False
  """True where the server sees nothing but the sum, modulo the modulus."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularTerminal(Terminal):
  """Wraps integers modulo `2**width` before they leave the client."""

  @property
  @abc.abstractmethod
  def width(self) -> int:
    """Bits of the modulus."""

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(
      self.name, IntegerVectors, domain, fix='Put `Quantization` before the sum.'
    )
    _checks.require(
      not domain.central,
      self.name,
      needs='integers that the clients add the noise to',
      found='integers that the server adds the noise to',
      fix='Use `PlainSum`.',
    )
    return ModularVectors(modulus=2**self.width, dim=domain.dim, noised=domain.noised)

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    return modular.wrap(value, self.width), {}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    return modular.centre(modular.wrap(total, self.width), self.width)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class SecureModularSum(ModularTerminal):
  """One secure sum modulo `2**bits` of all that leaves the clients.

  Domain: IntegerVectors -> ModularVectors. Sensitivity: unchanged; wrapping is
  post-processing of the noised sum. Channels: none. State: none.
  Reference: arXiv:2102.06387, Algorithm 1; the sum: CCS 2017, Bonawitz et al.

  Args:
    bits: Bits of the modulus, 2 to 62. What leaves a client is `bits` bits a
      coordinate. A width that cannot carry the noise is refused when the
      dimension is known, naming the smallest that can.
    name: Key of this layer.

  Raises:
    ConfigurationError: If `bits` is not an integer from 2 to 62.

  Examples:
    >>> tpa.SecureModularSum(bits=16).output_domain(tpa.IntegerVectors(dim=1000, noised=True))
    ModularVectors(modulus=65536, dim=1000, noised=True)
  """

  bits: int = 16
  name: str = 'secure_modular_sum'

  hides_parts = True

  def __post_init__(self) -> None:
    _validate.at_least(_FEWEST_BITS, bits=self.bits)
    if self.bits > _MOST_BITS:
      raise ConfigurationError(
        f'`bits` must be at most {_MOST_BITS}, got {self.bits}: sums modulo 2**bits run in int64.'
      )

  @property
  def width(self) -> int:
    return self.bits


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class ForeignSum(ModularTerminal):
  """Sums residues with another TFF aggregation factory.

  The factory's aggregate is reduced modulo `modulus` after the sum, so any
  factory that sums integer tensors exactly will do. What else the server sees is
  that factory's matter, and the sum before the modulus is more than the noise
  covers: so epsilon in the server's view is infinite, and `release_epsilon`
  alone is claimed.

  Domain: IntegerVectors -> ModularVectors. Sensitivity: unchanged.
  Channels: none. State: `inner`, that of the factory's process.
  Reference: `tff.aggregators.SumFactory` and others.

  Args:
    factory: A `tff.aggregators.UnweightedAggregationFactory` for structures of
      integer tensors.
    modulus: A power of two from 2**2 to 2**62.
    name: Key of this layer's state and measurements.

  Raises:
    ConfigurationError: If `modulus` is no such power, or `factory` cannot create.

  Examples:
    >>> layer = tpa.ForeignSum(factory=tff.aggregators.SumFactory(), modulus=2**16)
    >>> layer.output_domain(tpa.IntegerVectors(dim=1000, noised=True))
    ModularVectors(modulus=65536, dim=1000, noised=True)
  """

  factory: Any
  modulus: int
  name: str = 'foreign_sum'

  def __post_init__(self) -> None:
    _validate.at_least(2**_FEWEST_BITS, modulus=self.modulus)
    if self.modulus & (self.modulus - 1) or self.modulus > 2**_MOST_BITS:
      raise ConfigurationError(
        f'`modulus` must be a power of two up to 2**{_MOST_BITS}, got {self.modulus}. '
        'Sums in machine integers are right only modulo powers of two.'
      )
    if not callable(getattr(self.factory, 'create', None)):
      raise ConfigurationError(
        f'`factory` must be a tff.aggregators factory with `create`, got {self.factory!r}.'
      )

  @property
  def width(self) -> int:
    return int(self.modulus).bit_length() - 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlainSum(Terminal):
  """Sums vectors in the clear: the server sees every client's vector.

  Domain: RealVectors -> ModularVectors(modulus=None), summed as floats, or
  IntegerVectors(central=True) -> the same, summed in int64. Sensitivity: unchanged.
  Channels: none. State: none. A vector with NaN or infinite coordinates counts
  as zeros.

  Args:
    name: Key of this layer.

  Examples:
    >>> tpa.PlainSum().output_domain(tpa.RealVectors(dim=1000))
    ModularVectors(modulus=None, dim=1000, noised=False)
  """

  name: str = 'plain_sum'

  def output_domain(self, domain: Domain) -> Domain:
    if not (isinstance(domain, IntegerVectors) and domain.central):
      _checks.takes(
        self.name, RealVectors, domain, fix='Use `SecureModularSum` for quantized vectors.'
      )
    noised = isinstance(domain, IntegerVectors)
    return ModularVectors(modulus=None, dim=domain.dim, noised=noised)

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    return value if value.dtype.is_integer else structures.finite_or_zero(value), {}

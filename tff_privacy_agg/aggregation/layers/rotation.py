"""Rotations: they spread a vector evenly, so that few bits a coordinate suffice."""

import abc
import dataclasses
import types
from collections import OrderedDict

import tensorflow as tf

from tff_privacy_agg.aggregation.domains import Domain, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import (
  Layer,
  Measurements,
  Numbers,
  Params,
  Slot,
  State,
)
from tff_privacy_agg.numerics import dft, hadamard


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rotation(Layer):
  """A random rotation whose seed is public and changes every round."""

  name: str = 'rotation'

  @property
  @abc.abstractmethod
  def _transform(self) -> types.ModuleType:
    """The module with `padded_dimension`, `rotate` and `unrotate`."""

  def output_domain(self, domain: Domain) -> Domain:
    domain = _checks.takes(self.name, RealVectors, domain, fix='Rotate before quantizing.')
    _checks.require(
      not domain.flat,
      self.name,
      needs='vectors that are not rotated yet',
      found='rotated vectors',
      fix='Keep one rotation.',
    )
    dim = None if domain.dim is None else self._transform.padded_dimension(domain.dim)
    return dataclasses.replace(domain, dim=dim, flat=True)

  def init(self, slot: Slot) -> State:
    # Public: it protects nothing, so TF's own seeding is enough.
    start = tf.random.uniform([], maxval=2**62, dtype=tf.int64)
    return OrderedDict(seed=tf.stack([start, tf.zeros_like(start)]))

  def prepare(self, slot: Slot, state: State) -> Params:
    return OrderedDict(seed=state['seed'])

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    return self._transform.rotate(value, params['seed']), {}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    return self._transform.unrotate(total, params['seed'], slot.dim)

  def update(
    self, slot: Slot, state: State, params: Params, sums: Numbers
  ) -> tuple[State, Measurements]:
    return OrderedDict(seed=state['seed'] + tf.constant([0, 1], tf.int64)), OrderedDict()


@dataclasses.dataclass(frozen=True, kw_only=True)
class HadamardRotation(_Rotation):
  """Random signs, then a Hadamard matrix of the next order of at least d.

  Domain: RealVectors(d) -> RealVectors(padded, flat=True), padded under 1.1 d
  from d = 1,000 on. Sensitivity: L2 norms are kept. Channels: none.
  State: `seed`, int64 `[2]`, public. Reference: arXiv:1611.00429, section 3.

  Examples:
    >>> tpa.HadamardRotation().output_domain(tpa.RealVectors(dim=1000, l2_bounded=True))
    RealVectors(dim=1008, l2_bounded=True, flat=True, moving=False)
  """

  @property
  def _transform(self) -> types.ModuleType:
    return hadamard


@dataclasses.dataclass(frozen=True, kw_only=True)
class DFTRotation(_Rotation):
  """Random phases, then a discrete Fourier transform.

  Slower than `HadamardRotation`, with no padding but to an even dimension.

  Domain: RealVectors(d) -> RealVectors(d + d % 2, flat=True).
  Sensitivity: L2 norms are kept. Channels: none.
  State: `seed`, int64 `[2]`, public. Reference: arXiv:2102.06387.

  Examples:
    >>> tpa.DFTRotation().output_domain(tpa.RealVectors(dim=7))
    RealVectors(dim=8, l2_bounded=False, flat=True, moving=False)
  """

  @property
  def _transform(self) -> types.ModuleType:
    return dft

"""Base class of layers: configuration, and pure functions on tensors.

A layer holds no tensors and knows nothing of TFF. The stack folds its functions:
`prepare` at the start of a round on the server, `encode` on every client from
the first layer to the last, `decode` and `update` on the server after the sum.
"""

import abc
import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_privacy_agg.accounting import IntegerDesign, RdpCurve
from tff_privacy_agg.aggregation.domains import Channel, Cohort, Domain
from tff_privacy_agg.errors import CompositionError

State = Mapping[str, tf.Tensor]
Params = Mapping[str, Any]
Measurements = Mapping[str, tf.Tensor]
Numbers = Mapping[str, tf.Tensor]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slot:
  """The static facts of a layer's place in a bound stack.

  Attributes:
    dim: Coordinates that the layer's `encode` takes.
    cohort: The cohort that the stack is built for.
    design: The frozen integer design; None in a stack without quantization.
    dtype: Float dtype of the vectors of the stack.
    vector_noise_multiplier: The part of the mechanism's noise multiplier that
      falls to the vector, channels aside; 0 without a mechanism.
  """

  dim: int
  cohort: Cohort
  design: IntegerDesign | None = None
  dtype: tf.DType = tf.float32
  vector_noise_multiplier: float = 0.0

  @property
  def integer_design(self) -> IntegerDesign:
    """`design`, for a layer that needs one.

    Raises:
      CompositionError: If the stack has none.
    """
    if self.design is None:
      raise CompositionError(
        'This stack sums floats and has no integer design. Use `Quantization` and '
        '`SecureModularSum`, or `CentralDiscreteGaussianNoise`.'
      )
    return self.design

  def to_floats(self, total: tf.Tensor) -> tf.Tensor:
    """A sum of integers of the design in units of the clip norm."""
    scale = self.dtype.as_numpy_dtype(self.integer_design.scaled_norm)
    return tf.cast(total, self.dtype) * (1 / scale)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layer(abc.ABC):
  """One step of a stack.

  State, params, sums and measurements are flat dictionaries of tensors that the
  stack keeps under the layer's name. `params` of a layer that sets
  `uses_randomness` also holds `'randomness'`, a `RandomStream`; that of one that
  sets `uses_weight` holds `'client_weight'`, a scalar.

  A layer with `keeps_noise` has secret state: `decode_keeping` takes the place of `decode`,
  and what it keeps is next round's state, whether the round is accepted or not. `prepare` is
  broadcast, so it must leave that state out.
  """

  name: str

  uses_randomness = False
  uses_weight = False

  @property
  def channels(self) -> Mapping[str, Channel]:
    """Bounded numbers that this layer adds to the secure sum."""
    return {}

  @property
  def keeps_noise(self) -> bool:
    """Whether `decode_keeping` takes the place of `decode`."""
    return False

  @abc.abstractmethod
  def output_domain(self, domain: Domain) -> Domain:
    """The domain after this layer.

    Raises:
      CompositionError: If the layer cannot stand after `domain`.
    """

  def random_words(self, slot: Slot) -> Mapping[int, int]:
    """Number of random words that `encode` draws from each stream; hardly ever more."""
    del slot
    return {}

  def init(self, slot: Slot) -> State:
    """State of the first round."""
    del slot
    return OrderedDict()

  def prepare(self, slot: Slot, state: State) -> Params:
    """Values that clients need this round. Pure: the server recomputes them to decode."""
    del slot, state
    return OrderedDict()

  def encode(self, slot: Slot, params: Params, value: tf.Tensor) -> tuple[tf.Tensor, Numbers]:
    """A client's value after this layer, and its numbers for the channels, in [-1, 1]."""
    del slot, params
    return value, {}

  def decode(self, slot: Slot, params: Params, total: tf.Tensor, sums: Numbers) -> tf.Tensor:
    """Undoes `encode` on the sum over clients.

    Args:
      slot: Static facts.
      params: What `prepare` gave.
      total: The sum in this layer's output domain.
      sums: `survivors` (number of clients, float) and the (noised) sums of this
        layer's channels.
    """
    del slot, params, sums
    return total

  def decode_keeping(
    self, slot: Slot, params: Params, total: tf.Tensor, state: State
  ) -> tuple[tf.Tensor, State]:
    """As `decode`, of a layer that sets `keeps_noise`: its own state in, and that of the next round."""
    del slot, params
    return total, state

  def measure(self, slot: Slot, total: tf.Tensor, sums: Numbers) -> Measurements:
    """Metrics of this round's sum in this layer's output domain.

    Args:
      slot: Static facts.
      total: As for `decode`: part of the release, so that what follows from it is, too. The
        stack shows zeros for a round that is not accepted.
      sums: As for `decode`.
    """
    del slot, total, sums
    return OrderedDict()

  def update(
    self, slot: Slot, state: State, params: Params, sums: Numbers
  ) -> tuple[State, Measurements]:
    """State of the next round, and what this round's metrics say of the layer."""
    del slot, params, sums
    return state, OrderedDict()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mechanism(Layer):
  """A layer that adds noise, and so carries a privacy guarantee.

  Attributes:
    noise_multiplier: Effective noise multiplier of a whole round, all channels
      together, at `Cohort.minimum` honest survivors: standard deviation of the
      noise in the sum over the most that one client can move it.
  """

  noise_multiplier: float

  distributed = True
  """True where clients draw the noise, so that it holds against the server."""

  @property
  @abc.abstractmethod
  def mechanism(self) -> str:
    """Name of the mechanism, as in `accounting`."""

  @property
  def law(self) -> str:
    """Name of the distribution of one draw, as in the samplers."""
    return self.mechanism

  @abc.abstractmethod
  def curve(self, slot: Slot, honest: int) -> RdpCurve:
    """Renyi curve of the vector's release in one round with `honest` honest shares."""

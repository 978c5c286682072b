"""Build time: a checked stack of layers meets a dimension, and all constants are solved.

What one round reveals is fixed here, in Python, once: the integer design of the
vector, the noise of every auxiliary channel, and the table of Renyi
divergences by number of honest survivors. The graph only adds rows of it.
"""

import dataclasses
import functools
import math
import typing
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.domains import Channel, Cohort, Domain, RealVectors
from tff_privacy_agg.aggregation.layers import (
  ForeignSum,
  Layer,
  Mechanism,
  ModularTerminal,
  Quantization,
  Slot,
  Terminal,
)
from tff_privacy_agg.errors import CompositionError, ConfigurationError
from tff_privacy_agg.numerics import probabilities, samplers

# A scaled coordinate above this loses its fraction in float32.
_LARGEST_FLOAT32_SCALE = 2**16
# Channel sums wrap beyond this many standard deviations of their noise: never.
_CHANNEL_MARGIN = 16
# As many as an int32 holds: no cohort of a plausible size passes for one within the maximum.
_FEWEST_CHANNEL_BITS, _MOST_CHANNEL_BITS = 30, 62
_RESERVED_NAMES = ('privacy',)


def check(layers: Sequence[Layer], dim: int | None = None) -> list[Domain]:
  """The domains before each layer and after the last one.

  Args:
    layers: From the client's value to the sum.
    dim: Dimension of the value; None while it is not known.

  Raises:
    CompositionError: If the layers do not form a stack.
  """
  if isinstance(layers, Layer) or not isinstance(layers, Sequence):
    raise CompositionError(
      f'A stack takes a sequence of layers; got {layers!r}. Pass a list that ends with a sum.'
    )
  if not layers:
    raise CompositionError(
      'A stack needs layers; got none. End it with `SecureModularSum` or another sum.'
    )
  for layer in layers:
    if not isinstance(layer, Layer):
      raise CompositionError(f'A stack takes layers; got {layer!r}. Pass instances of `tpa.Layer`.')
  names = [layer.name for layer in layers]
  for name in names:
    if names.count(name) > 1:
      raise CompositionError(
        f'Layers need different names; {name!r} is used {names.count(name)} times. '
        'Remove one of them, or pass `name=`.'
      )
    if name in _RESERVED_NAMES:
      raise CompositionError(f'A layer cannot be named {name!r}; the stack uses it. Rename it.')
  for position, layer in enumerate(layers[:-1]):
    if isinstance(layer, Terminal):
      raise CompositionError(
        f'Layer {layer.name!r} ends a stack; layer {layers[position + 1].name!r} stands after it. '
        'Put the sum last.'
      )
  if not isinstance(layers[-1], Terminal):
    raise CompositionError(
      f'A stack ends with a sum; the last layer is {layers[-1].name!r}. '
      'Add `SecureModularSum` (or `ForeignSum`, `PlainSum`).'
    )
  domains: list[Domain] = [RealVectors(dim=dim)]
  for layer in layers:
    domains.append(layer.output_domain(domains[-1]))
  return domains


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelPlan:
  """A channel of a bound stack.

  Attributes:
    layer: Name of the layer that contributes.
    name: Name of the channel within the layer.
    resolution: Integer steps in one unit: the sensitivity in the integer domain.
    local_variance: Variance of one client's share of the noise, in squared
      steps; 0 where clients add none.
    central_stddev: Standard deviation of the server's noise, in units; 0 where
      the server adds none.
  """

  layer: str
  name: str
  resolution: int
  local_variance: float
  central_stddev: float

  def noise_multiplier(self, honest: int) -> float:
    """Standard deviation of the noise in the sum over the most one client can move it."""
    return math.sqrt(honest * self.local_variance) / self.resolution + self.central_stddev


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binding:
  """The constants of a stack for one dimension.

  Attributes:
    layers: The layers.
    cohort: The cohort.
    slots: Static facts, by layer name.
    mechanism: The noise layer, or None.
    design: The integer design, or None in a stack of floats.
    channels: Plans of the channels, in the order in which they are summed.
    channel_bits: Bits of the channels' modulus.
    beside: What the same cohort releases beside this stack in every round, such as
      private metrics: the curve, the noise multiplier and the facts cover it.
  """

  layers: tuple[Layer, ...]
  cohort: Cohort
  slots: Mapping[str, Slot]
  mechanism: Mechanism | None
  design: accounting.IntegerDesign | None
  channels: tuple[ChannelPlan, ...]
  channel_bits: int
  beside: tuple['Binding', ...] = ()

  @property
  def dtype(self) -> tf.DType:
    """Float dtype of the vectors."""
    return self.slots[self.layers[0].name].dtype

  @property
  def law(self) -> str:
    """Name of the noise law, or 'none'."""
    return self.mechanism.mechanism if self.mechanism else 'none'

  @property
  def holds_against_server(self) -> bool:
    """Whether the guarantee holds against the server, too.

    It takes noise that the server does not know, and a sum that shows the server
    nothing but residues of the total: the sum of residues before the modulus
    tells how many wrapped around, which the noise does not cover.
    """
    terminal = self.layers[-1]
    hidden = self.distributed and isinstance(terminal, Terminal) and terminal.hides_parts
    return hidden and all(other.holds_against_server for other in self.beside)

  @property
  def distributed(self) -> bool:
    """Whether the clients draw the noise."""
    return self.mechanism is not None and self.mechanism.distributed

  def noise_multiplier(self, honest: int) -> float:
    """Effective noise multiplier of a round, all channels together."""
    if self.mechanism is None or (honest == 0 and self.mechanism.distributed):
      return 0.0
    slot = self.slots[self.mechanism.name]
    vector = self.design.z_eff(honest) if self.design else slot.vector_noise_multiplier
    parts = [vector] + [channel.noise_multiplier(honest) for channel in self.channels]
    parts += [other.noise_multiplier(honest) for other in self.beside]
    return 1 / math.sqrt(sum(1 / part**2 for part in parts))

  def curve(self, honest: int) -> accounting.RdpCurve:
    """Renyi curve of one round with `honest` honest survivors: all that it releases.

    Raises:
      ConfigurationError: In a stack without a noise layer.
    """
    if self.mechanism is None:
      raise ConfigurationError(
        'A privacy curve was asked of a stack without a noise layer. '
        'Epsilon is infinite there; add `DiscreteGaussianNoise` before the sum.'
      )
    total = self.mechanism.curve(self.slots[self.mechanism.name], honest)
    for channel in self.channels:
      if self.mechanism.distributed:
        total += accounting.bit_channel(
          self.mechanism.mechanism, channel.resolution, channel.local_variance, honest
        )
      else:
        total += accounting.gaussian(channel.noise_multiplier(honest))
    for other in self.beside:
      total += other.curve(honest)
    return total

  @functools.cached_property
  def orders(self) -> np.ndarray:
    """Renyi orders of the table."""
    return accounting.table_orders(integer_only=self.law == 'skellam')

  @functools.cached_property
  def rdp_table(self) -> np.ndarray:
    """`[maximum + 1, orders]`: one round's Renyi divergence by honest survivors."""
    return accounting.rdp_table(self.curve, self.cohort.maximum, self.orders)

  @property
  def worst_round(self) -> np.ndarray:
    """`[orders]`: most Renyi divergence of a round with `Cohort.minimum` or more honest ones."""
    if self.distributed:
      return self.rdp_table[self.cohort.minimum :].max(axis=0)
    return self.curve(honest=1).rdp(self.orders)

  @functools.cached_property
  def sampler_distance(self) -> float:
    """Total variation distance of a full round's noise to the accounted law, rounded up."""
    total = sum((Fraction(other.sampler_distance) for other in self.beside), Fraction(0))
    if self.mechanism is not None and self.design is not None:
      dim = self.slots[self.mechanism.name].dim
      draws = [(dim, self.design.local_variance)]
      draws += [(1, channel.local_variance) for channel in self.channels]
      total += self.cohort.maximum * sum(
        count * Fraction(samplers.noise_sampler(self.law, variance).distance)
        for count, variance in draws
      )
    return probabilities.round_up(total)

  def facts(self) -> dict:
    """What the guarantee rests on, as JSON values; infinities are left out."""
    design = self.design
    return {
      'mechanism': self.law,
      'adjacency': 'zero_out',
      'holds_against_server': self.holds_against_server,
      'noise_multiplier': self.noise_multiplier(self.cohort.minimum),
      'cohort': dataclasses.asdict(self.cohort),
      'integer_design': None if design is None else dataclasses.asdict(design),
      'channels': [dataclasses.asdict(channel) for channel in self.channels],
      'public': ['number of survivors'],
      'sampler_distance_per_round': self.sampler_distance,
      'layers': [repr(layer) for layer in self.layers],
      **({'beside': [other.facts() for other in self.beside]} if self.beside else {}),
    }


def bind(
  layers: Sequence[Layer],
  cohort: Cohort,
  dim: int,
  dtype: tf.DType,
  beside: Sequence[Binding] = (),
) -> Binding:
  """Solves all constants of a stack for values of `dim` coordinates.

  Args:
    layers: Layers that pass `check`.
    cohort: The cohort.
    dim: Number of coordinates of a client's value; at least 1.
    dtype: The least float dtype of the vectors; float64 replaces float32 where
      the scale asks for it, and where the server adds the noise.
    beside: What is released beside it, bound for the same cohort.

  Raises:
    ConfigurationError: If the modulus cannot carry the noise, or `beside` does not fit.
  """
  domains = check(layers, dim)
  mechanism = next((layer for layer in layers if isinstance(layer, Mechanism)), None)
  channels = tuple(
    _plan(layer.name, name, channel, mechanism, cohort)
    for layer in layers
    for name, channel in layer.channels.items()
  )
  vector_noise_multiplier = 0.0
  if mechanism is not None:
    parts = [channel.noise_multiplier(cohort.minimum) for channel in channels]
    vector_noise_multiplier = accounting.split_noise_multiplier(mechanism.noise_multiplier, parts)
    if not mechanism.distributed:
      dtype = tf.float64  # float32 sums round by more than the noise could cover
  design = None
  terminal = layers[-1]
  for layer, domain in zip(layers, domains, strict=False):
    if isinstance(layer, Quantization) and isinstance(terminal, ModularTerminal):
      size, flat = typing.cast(int, domain.dim), typing.cast(RealVectors, domain).flat
      design = accounting.solve(
        noise_multiplier=vector_noise_multiplier,
        cohort_maximum=cohort.maximum,
        minimum_honest=cohort.minimum,
        bits=terminal.width,
        dimension=size,
        modclip_prob=layer.modclip_prob,
        rho=1.0 if flat else float(size),
        beta=layer.beta,
        mechanism=mechanism.mechanism if mechanism else None,
      )
      if design.scaled_norm > _LARGEST_FLOAT32_SCALE:
        dtype = tf.float64
  slots = OrderedDict(
    (
      layer.name,
      Slot(
        dim=typing.cast(int, domain.dim),
        cohort=cohort,
        design=design,
        dtype=dtype,
        vector_noise_multiplier=vector_noise_multiplier,
      ),
    )
    for layer, domain in zip(layers, domains, strict=False)
  )
  return Binding(
    layers=tuple(layers),
    cohort=cohort,
    slots=slots,
    mechanism=mechanism,
    design=design,
    channels=channels,
    channel_bits=_channel_bits(channels, cohort, terminal),
    beside=_fitting(beside, mechanism, cohort),
  )


def _fitting(
  beside: Sequence[Binding], mechanism: Mechanism | None, cohort: Cohort
) -> tuple[Binding, ...]:
  for other in beside:
    if mechanism is None or other.mechanism is None:
      raise ConfigurationError(
        'Releases beside a stack are accounted with it; one of the two has no noise. '
        'Add a noise layer to both, or leave the release out.'
      )
    if other.cohort != cohort or other.law != mechanism.mechanism:
      raise ConfigurationError(
        f'Releases beside a stack come from its cohort with its kind of noise; got '
        f'{other.law} noise of {other.cohort} beside {mechanism.mechanism} noise '
        f'of {cohort}. Build both alike.'
      )
  return tuple(beside)


def _plan(
  layer: str, name: str, channel: Channel, mechanism: Mechanism | None, cohort: Cohort
) -> ChannelPlan:
  distributed = mechanism is not None and mechanism.distributed
  resolution = channel.resolution if distributed else channel.exact_resolution
  plan = functools.partial(ChannelPlan, layer=layer, name=name, resolution=resolution)
  if mechanism is None:
    return plan(local_variance=0.0, central_stddev=0.0)
  stddev = channel.stddev
  if stddev is None:
    # The server's noise does not depend on who survives.
    fewest = cohort.minimum if distributed else cohort.expected
    stddev = accounting.default_channel_stddev(mechanism.noise_multiplier, cohort.expected, fewest)
  if not distributed:
    return plan(local_variance=0.0, central_stddev=stddev)
  variance = accounting.channel_share_variance(resolution, stddev, cohort.expected)
  return plan(local_variance=variance, central_stddev=0.0)


def _channel_bits(channels: Sequence[ChannelPlan], cohort: Cohort, terminal: Layer) -> int:
  largest = float(cohort.maximum)
  for channel in channels:
    noise = _CHANNEL_MARGIN * math.sqrt(cohort.maximum * channel.local_variance)
    largest = max(largest, cohort.maximum * channel.resolution + noise)
  bits = math.ceil(math.log2(largest + 1)) + 1
  if bits > _MOST_CHANNEL_BITS:
    raise ConfigurationError(
      f'Channels of {bits} bits would be needed for a cohort of at most {cohort.maximum} clients; '
      f'there are at most {_MOST_CHANNEL_BITS}. Lower `Cohort.maximum`.'
    )
  if not isinstance(terminal, ForeignSum):
    return max(bits, _FEWEST_CHANNEL_BITS)
  # One modulus, and one dtype, for all that its factory sums: TFF's secure ones ask for that.
  if bits > terminal.width:
    raise ConfigurationError(
      f"`modulus` must be at least 2**{bits} to count the clients and sum the layers' channels, "
      f'got 2**{terminal.width}. Raise it, and that of the factory.'
    )
  return terminal.width

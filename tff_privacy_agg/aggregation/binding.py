"""Build time: a checked stack of layers meets a dimension, and all constants are solved.

What one round reveals is fixed here, in Python, once: the integer design of the
vector, the noise of every auxiliary channel, and the table of Renyi
divergences by number of honest survivors. The graph only adds rows of it.
"""

import dataclasses
import functools
import typing
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg._names import CENTRAL, CORRELATED
from tff_privacy_agg.aggregation.channel_plans import ChannelPlan, channel_bits, plan_channel
from tff_privacy_agg.aggregation.composition import check
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.integer_design import solve_design, warn_if_coarse
from tff_privacy_agg.aggregation.layers import Layer, Mechanism, Slot, Terminal
from tff_privacy_agg.aggregation.round_prices import law_of, round_price, strategy_of
from tff_privacy_agg.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Binding:
  """The constants of a stack for one dimension.

  Attributes:
    layers: The layers.
    cohort: The cohort.
    slots: Static facts, by layer name.
    mechanism: The noise layer, or None.
    design: The integer design, or None in a stack of floats, which has no noise.
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
    """Name of the mechanism, or 'none'."""
    return law_of(self.mechanism)

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

  @property
  def strategy(self) -> accounting.BandedToeplitz | None:
    """How the noise of rounds is correlated; None where it is not."""
    return strategy_of(self.mechanism)

  @functools.cached_property
  def price(self) -> accounting.RoundPrice:
    """The releases of one round and their price, other stacks of the cohort included."""
    own = round_price(
      self.mechanism,
      self.cohort,
      self.design,
      self.channels,
      holds_against_server=self.holds_against_server,
    )
    return own.beside([other.price for other in self.beside])

  def noise_multiplier(self, honest: int) -> float:
    """Effective noise multiplier of a round, all channels together."""
    return self.price.noise_multiplier(honest)

  def curve(self, honest: int) -> accounting.RdpCurve:
    """Renyi curve of one round with `honest` honest survivors: all that it releases.

    Raises:
      ConfigurationError: In a stack without a noise layer.
    """
    if self.mechanism is None:
      raise ConfigurationError(
        'A stack without a noise layer has no privacy curve: its epsilon is infinite. Add '
        '`DiscreteGaussianNoise` before the sum.'
      )
    return self.price.curve(honest)

  @functools.cached_property
  def account(self) -> accounting.Account:
    """The account that rounds are added to."""
    return accounting.account_of(self.price)

  @functools.cached_property
  def costs(self) -> np.ndarray:
    """`[maximum + 1, parts]`: one round's cost in the account by honest survivors."""
    honest = range(1, self.cohort.maximum + 1)
    one = [self.account.row(self.price, h if self.distributed else 1) for h in honest]
    dtype = np.int64 if isinstance(self.account, accounting.GaussianAccount) else np.float64
    first = self.account.infinite if self.distributed else one[0]
    return np.stack([first, *one]).astype(dtype)

  @property
  def worst_round(self) -> np.ndarray:
    """`[parts]`: the most that a round with `Cohort.minimum` or more honest ones costs."""
    return self.account.worst(self.price, self.cohort.minimum if self.distributed else 1)

  @property
  def sampler_distance(self) -> float:
    """Total variation distance of a full round's noise from the accounted distribution."""
    return self.price.distance(self.cohort.maximum)

  def limit(self, budget: accounting.Budget) -> accounting.Filter:
    """A budget with the limits that follow from the design alone."""
    best = self.costs[self.cohort.maximum]
    return budget.fix(self.account, self.worst_round, best, self.sampler_distance)

  def facts(self) -> dict:
    """Facts that the guarantee rests on, as JSON values; infinities are left out."""
    design = self.design
    return {
      'mechanism': self.law,
      'adjacency': 'zero_out',
      'holds_against_server': self.holds_against_server,
      'noise_multiplier': self.noise_multiplier(self.cohort.minimum),
      'cohort': dataclasses.asdict(self.cohort),
      'integer_design': None if design is None else dataclasses.asdict(design),
      'channels': [dataclasses.asdict(channel) for channel in self.channels],
      'price': self.price.as_dict(),
      'public': ['number of survivors'],
      'sampler_distance_per_round': self.sampler_distance,
      'layers': [repr(layer) for layer in self.layers],
      **({'strategy': self.strategy.as_dict()} if self.strategy else {}),
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
      the scale asks for it.
    beside: What is released beside it, bound for the same cohort.

  Raises:
    ConfigurationError: If the modulus cannot carry the noise, or `beside` does not fit.
  """
  domains = check(layers, dim)
  mechanism = next((layer for layer in layers if isinstance(layer, Mechanism)), None)
  channels = tuple(
    plan_channel(layer.name, name, channel, mechanism, cohort)
    for layer in layers
    for name, channel in layer.channels.items()
  )
  vector_noise_multiplier = 0.0
  if mechanism is not None:
    parts = [channel.noise_multiplier(cohort.minimum) for channel in channels]
    vector_noise_multiplier = accounting.split_noise_multiplier(mechanism.noise_multiplier, parts)
  design, dtype = solve_design(layers, domains, mechanism, cohort, vector_noise_multiplier, dtype)
  if design is not None:
    warn_if_coarse(layers, design)
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
  bound = Binding(
    layers=tuple(layers),
    cohort=cohort,
    slots=slots,
    mechanism=mechanism,
    design=design,
    channels=channels,
    channel_bits=channel_bits(channels, cohort, layers[-1]),
    beside=_fitting(beside, mechanism, cohort),
  )
  if bound.strategy is not None and not bound.price.has_mu:
    raise ConfigurationError(
      f'A noise multiplier of {vector_noise_multiplier:g} leaves noise that is correlated over rounds '
      'narrower than its proof takes. Raise it.'
    )
  return bound


def _fitting(
  beside: Sequence[Binding], mechanism: Mechanism | None, cohort: Cohort
) -> tuple[Binding, ...]:
  for other in beside:
    if mechanism is None or other.mechanism is None:
      raise ConfigurationError(
        'Releases with a stack are accounted with it; one of the two has no noise. '
        'Add a noise layer to both, or leave the release out.'
      )
    laws = [mechanism.mechanism]
    if mechanism.mechanism == CORRELATED:
      laws.append(CENTRAL)  # of the server, too
    if other.cohort != cohort or other.law not in laws:
      raise ConfigurationError(
        f'Releases with a stack come from its cohort with its kind of noise; got '
        f'{other.law} noise of {other.cohort} next to {mechanism.mechanism} noise '
        f'of {cohort}. Build both alike.'
      )
  return tuple(beside)

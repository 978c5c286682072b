"""The price of one round of a bound stack: the vectors with noise that it releases."""

from collections.abc import Sequence

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.channel_plans import ChannelPlan
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import CorrelatedNoise, Mechanism
from tff_privacy_agg.numerics import samplers


def law_of(mechanism: Mechanism | None) -> str:
  """Name of a mechanism, or 'none'."""
  return mechanism.mechanism if mechanism else 'none'


def strategy_of(mechanism: Mechanism | None) -> accounting.BandedToeplitz | None:
  """How a mechanism's noise is correlated over rounds; None where it is not."""
  return mechanism.strategy if isinstance(mechanism, CorrelatedNoise) else None


def round_price(
  mechanism: Mechanism | None,
  cohort: Cohort,
  design: accounting.IntegerDesign | None,
  channels: Sequence[ChannelPlan],
  *,
  holds_against_server: bool,
) -> accounting.RoundPrice:
  """The releases of one round of a stack and their price, other stacks of the cohort apart."""
  vectors: tuple[accounting.NoisyVector, ...] = ()
  law, strategy = law_of(mechanism), strategy_of(mechanism)
  if mechanism is not None and design is not None:
    of_design = (design.dimension, design.l2_bound, design.l1_bound)
    sizes = [('update', *of_design, design.local_variance)]
    for channel in channels:
      bound = channel.resolution
      name = f'{channel.layer}.{channel.name}'
      sizes.append((name, 1, bound, bound, channel.variance))
    vectors = tuple(
      accounting.noisy_vector(
        name=name,
        mechanism=law,
        dimension=dimension,
        l2_bound=l2,
        l1_bound=l1,
        local_variance=variance,
        fewest=cohort.minimum if mechanism.distributed else 1,
        most=cohort.maximum if mechanism.distributed else 1,
        draw_distance=samplers.noise_sampler(mechanism.law, variance).distance,
        column=strategy.column if strategy and name == 'update' else None,
      )
      for name, dimension, l2, l1, variance in sizes
    )
  return accounting.RoundPrice(
    mechanism=law,
    holds_against_server=holds_against_server,
    minimum=cohort.minimum,
    maximum=cohort.maximum,
    vectors=vectors,
    separation=strategy.separation if strategy else None,
    participations=strategy.participations if strategy else None,
  )

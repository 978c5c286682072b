"""Channels of a bound stack: resolution and noise of each, and the bits of their modulus."""

import dataclasses
import functools
import math
from collections.abc import Sequence

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.domains import Channel, Cohort
from tff_privacy_agg.aggregation.layers import ForeignSum, Layer, Mechanism
from tff_privacy_agg.errors import ConfigurationError

# Channel sums wrap beyond this many standard deviations of their noise: never.
_CHANNEL_MARGIN = 16
# As many as an int32 holds: no cohort of a plausible size passes for one within the maximum.
_FEWEST_CHANNEL_BITS, _MOST_CHANNEL_BITS = 30, 62


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelPlan:
  """A channel of a bound stack.

  Attributes:
    layer: Name of the layer that contributes.
    name: Name of the channel within the layer.
    resolution: Integer steps in one unit: the sensitivity in the integer domain.
    local_variance: Variance of one client's share of the noise, in squared
      steps; 0 where clients add none.
    central_stddev: Standard deviation of the server's noise that was asked for, in units; 0 where
      the server adds none.
  """

  layer: str
  name: str
  resolution: int
  local_variance: float
  central_stddev: float

  @property
  def variance(self) -> float:
    """Variance of one draw, of a client or of the server, in squared steps."""
    if not self.central_stddev:
      return self.local_variance
    return accounting.channel_share_variance(self.resolution, self.central_stddev, 1)

  def noise_multiplier(self, honest: int) -> float:
    """Standard deviation of the noise in the sum over the most one client can move it."""
    draws = 1 if self.central_stddev else honest
    return math.sqrt(draws * self.variance) / self.resolution


def plan_channel(
  layer: str, name: str, channel: Channel, mechanism: Mechanism | None, cohort: Cohort
) -> ChannelPlan:
  """The plan of a layer's channel, with noise where the stack has a mechanism."""
  distributed = mechanism is not None and mechanism.distributed
  plan = functools.partial(ChannelPlan, layer=layer, name=name)
  if mechanism is None:
    return plan(resolution=channel.exact_resolution, local_variance=0.0, central_stddev=0.0)
  stddev = channel.stddev
  if stddev is None:
    # The server's noise does not depend on who survives.
    fewest = cohort.minimum if distributed else cohort.expected
    stddev = accounting.default_channel_stddev(mechanism.noise_multiplier, cohort.expected, fewest)
  if not distributed:
    least = min(channel.resolution, channel.exact_resolution)
    resolution = accounting.central_channel_resolution(least, stddev)
    return plan(resolution=resolution, local_variance=0.0, central_stddev=stddev)
  resolution = accounting.channel_resolution(
    channel.resolution, stddev, cohort.expected, accounting.LARGEST_SHARE[mechanism.law]
  )
  variance = accounting.channel_share_variance(resolution, stddev, cohort.expected)
  return plan(resolution=resolution, local_variance=variance, central_stddev=0.0)


def channel_bits(channels: Sequence[ChannelPlan], cohort: Cohort, terminal: Layer) -> int:
  """Bits of the modulus that the count of clients and all channels are summed in.

  Raises:
    ConfigurationError: If there are not as many.
  """
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

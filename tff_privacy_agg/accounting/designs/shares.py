"""Division of the noise among clients: colluders, channels, noise that is added to be removed."""

import math
from collections.abc import Mapping
from fractions import Fraction

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError

# Largest standard deviation of one share that the samplers tabulate.
LARGEST_SHARE: Mapping[str, float] = {'discrete_gaussian': 1e6, 'skellam': 3500.0}
_WIDE = 8.0
# Variances are rounded up, to what the samplers still have to draw.
_ROUNDED_UP = 0.999
_SERVERS_STDDEV = 128.0
_WIDEST_STDDEV = 999_000.0  # below the largest that the samplers draw, with room to round up


@_validate.plain_numbers
def honest_survivors(survivors: int, colluding_fraction: float) -> int:
  """Returns `survivors - floor(colluding_fraction * survivors)`.

  Only these shares hide anything from a server that colludes with clients. The
  survivors are those of the round itself, never the planned cohort. The
  fraction is read as the decimal number it is written as.

  Args:
    survivors: Clients in the sum, at least 0.
    colluding_fraction: Share of survivors whose noise the server knows, in [0, 1].

  Examples:
    >>> tpa.accounting.honest_survivors(95, colluding_fraction=0.1)
    86
  """
  _validate.at_least(0, survivors=survivors)
  _validate.non_negative(colluding_fraction=colluding_fraction)
  if colluding_fraction > 1:
    raise ConfigurationError(f'`colluding_fraction` must be at most 1, got {colluding_fraction!r}.')
  return survivors - math.floor(Fraction(str(float(colluding_fraction))) * survivors)


@_validate.plain_numbers
def xnoise_components(
  *, sampled: int, tolerated_dropouts: int, central_variance: float
) -> list[float]:
  """Returns the variances of one client's noise components; arXiv:2209.12528 (XNoise).

  `V/U`, then `V/((U-j+1)(U-j))` for j = 1..T: after `D <= T` drop-outs the
  survivors reveal components j > D, and exactly `V` remains. Needs a distribution closed
  under sums: Skellam.

  Args:
    sampled: `U`, clients in the cohort, at least 1.
    tolerated_dropouts: `T`, 0 to `sampled` - 1.
    central_variance: `V`, variance to remain in the sum, positive.

  Returns:
    T + 1 variances; component 0 is never removed.

  Examples:
    >>> tpa.accounting.xnoise_components(
    ...   sampled=10, tolerated_dropouts=2, central_variance=90.0
    ... )
    [9.0, 1.0, 1.25]
  """
  _validate.at_least(1, sampled=sampled)
  _validate.at_least(0, tolerated_dropouts=tolerated_dropouts)
  _validate.positive(central_variance=central_variance)
  if tolerated_dropouts >= sampled:
    raise ConfigurationError(
      f'`tolerated_dropouts` is {tolerated_dropouts} of {counted(sampled, "client")}. Tolerate '
      'fewer than all.'
    )
  steps = range(1, tolerated_dropouts + 1)
  return [
    central_variance / sampled,
    *(central_variance / ((sampled - j + 1) * (sampled - j)) for j in steps),
  ]


@_validate.plain_numbers
def xnoise_remaining_variance(components: list[float], *, sampled: int, dropouts: int) -> float:
  """Returns the variance left in the sum once superfluous components are removed.

  Args:
    components: From `xnoise_components`.
    sampled: Clients in the cohort.
    dropouts: Clients that dropped out, 0 to the number tolerated.

  Raises:
    ConfigurationError: If more clients dropped out than are tolerated.

  Examples:
    >>> parts = tpa.accounting.xnoise_components(
    ...   sampled=10, tolerated_dropouts=2, central_variance=90.0
    ... )
    >>> round(tpa.accounting.xnoise_remaining_variance(parts, sampled=10, dropouts=1), 6)
    90.0
  """
  _validate.at_least(0, dropouts=dropouts)
  _validate.at_least(dropouts, sampled=sampled)
  for component in components:
    _validate.positive(components=component)
  if dropouts >= len(components):
    raise ConfigurationError(
      f'{counted(dropouts, "client")} dropped out; the components tolerate {len(components) - 1}. '
      'Abort the round, or plan for more drop-outs.'
    )
  return (sampled - dropouts) * math.fsum(components[: dropouts + 1])


@_validate.plain_numbers
def default_channel_stddev(noise_multiplier: float, expected: int, minimum_honest: int) -> float:
  """Standard deviation of the noise in the sum of a channel's numbers in [-1, 1].

  For a bit (+1 or -1) a stddev of `expected / 20` clients in the count is the literature's
  default (arXiv:1905.03871). The other term keeps a channel's cost at a sixteenth of
  the round's at the fewest honest survivors, so that small cohorts are not refused.

  Args:
    noise_multiplier: Of the whole round, positive.
    expected: Clients that a round is planned with.
    minimum_honest: Fewest honest survivors, 1 to `expected`.

  Examples:
    >>> tpa.accounting.default_channel_stddev(1.0, expected=100, minimum_honest=80)
    10.0
  """
  _validate.positive(noise_multiplier=noise_multiplier)
  _validate.at_least(1, expected=expected, minimum_honest=minimum_honest)
  worst = math.sqrt(expected / minimum_honest)
  return max(expected / 10, 4 * noise_multiplier * worst)


@_validate.plain_numbers
def channel_resolution(
  resolution: int, stddev: float, expected: int, widest_share: float = math.inf
) -> int:
  """Integer steps in one unit, enough that a share's variance is 8 or more.

  Narrower shares of discrete Gaussian noise add up to something less like one Gaussian, and cost
  more than their variance says.

  Args:
    resolution: The least, if the samplers draw a share at it.
    stddev: As for `channel_share_variance`.
    expected: Clients that a round is planned with.
    widest_share: Largest standard deviation of one share, in steps, that the samplers draw.

  Examples:
    >>> tpa.accounting.channel_resolution(64, stddev=10.0, expected=100)
    64
  """
  _validate.positive(stddev=stddev)
  _validate.at_least(1, resolution=resolution, expected=expected)
  per_step = stddev / math.sqrt(expected)
  finest = math.floor(min(_ROUNDED_UP * widest_share / per_step, 2.0**62))
  return max(1, min(max(resolution, math.ceil(math.sqrt(_WIDE) / per_step)), finest))


@_validate.plain_numbers
def central_channel_resolution(resolution: int, stddev: float) -> int:
  """Integer steps in one unit where the server adds the noise.

  So many that the noise has a standard deviation of 128 steps or more, next to which the `t^2` of
  its reduction to a Gaussian costs nothing, and no more than the samplers draw.

  Args:
    resolution: The least, if the samplers draw the noise at it.
    stddev: Standard deviation of the noise, in units.

  Examples:
    >>> tpa.accounting.central_channel_resolution(64, stddev=10.0)
    64
  """
  _validate.positive(stddev=stddev)
  _validate.at_least(1, resolution=resolution)
  wanted = max(resolution, math.ceil(_SERVERS_STDDEV / stddev))
  return max(1, min(wanted, math.floor(_WIDEST_STDDEV / stddev)))


@_validate.plain_numbers
def channel_share_variance(resolution: int, stddev: float, expected: int) -> float:
  """Variance of one client's share of a channel's noise, in squared integer steps.

  Rounded up to a multiple of 1/16, and to 1, the least that the sum of discrete
  Gaussians allows.

  Args:
    resolution: Integer steps in one unit of the channel's number.
    stddev: Standard deviation of the noise in the sum over `expected` clients, in units.
    expected: Clients that a round is planned with.

  Examples:
    >>> tpa.accounting.channel_share_variance(64, stddev=10.0, expected=100)
    4096.0
  """
  _validate.positive(stddev=stddev)
  _validate.at_least(1, resolution=resolution, expected=expected)
  variance = (resolution * stddev) ** 2 / expected
  return max(1.0, math.ceil(16 * variance) / 16)


def share_variance(noise_multiplier: float, l2_bound: float, minimum_honest: int) -> float:
  """Variance of one share, so that `minimum_honest` of them give the noise multiplier.

  Args:
    noise_multiplier: Of the vector at `minimum_honest` honest survivors, at least 0.
    l2_bound: `B`, largest L2 norm of one client's integers, positive.
    minimum_honest: Fewest honest survivors, at least 1.

  Returns:
    A multiple of 1/16, rounded up.
  """
  sixteenths = math.ceil(16 * (noise_multiplier * l2_bound) ** 2 / minimum_honest)
  if math.sqrt(minimum_honest * (sixteenths / 16)) / l2_bound < noise_multiplier:  # rounding
    sixteenths += 1
  return sixteenths / 16


def check_share(mechanism: str, local_variance: float) -> None:
  """Raises unless the samplers draw shares of this variance, and their sum is accounted for.

  Args:
    mechanism: 'discrete_gaussian' or 'skellam'.
    local_variance: `v`, in squared steps of the integer grid.

  Raises:
    ConfigurationError: If they do not.
  """
  _validate.positive(local_variance=local_variance)
  least = 1.0 if mechanism == 'discrete_gaussian' else 1 / 16
  if not least <= local_variance <= LARGEST_SHARE[mechanism] ** 2 or local_variance % (1 / 16):
    raise ConfigurationError(
      f'A share of {mechanism} noise has a variance that is a multiple of 1/16 from {least:g} to '
      f'{LARGEST_SHARE[mechanism] ** 2:g}, got {local_variance!r}.'
    )

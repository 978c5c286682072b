"""Who holds how much of the noise: colluders, and noise that is added to be removed."""

import math
from fractions import Fraction

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError


def honest_survivors(survivors: int, colluding_fraction: float) -> int:
  """Returns `survivors - floor(colluding_fraction * survivors)`.

  Only these shares hide anything from a server that colludes with clients. The
  survivors are those of the round itself, never the planned cohort. The
  fraction is read as the decimal number it is written as.

  Args:
    survivors: Clients in the sum, at least 0.
    colluding_fraction: Share of survivors whose noise the server knows, in [0, 1].
  """
  _validate.at_least(0, survivors=survivors)
  _validate.non_negative(colluding_fraction=colluding_fraction)
  if colluding_fraction > 1:
    raise ConfigurationError(f'`colluding_fraction` must be at most 1, got {colluding_fraction!r}.')
  return survivors - math.floor(Fraction(str(float(colluding_fraction))) * survivors)


def xnoise_components(
  *, sampled: int, tolerated_dropouts: int, central_variance: float
) -> list[float]:
  """Returns the variances of one client's noise components; arXiv:2209.12528 (XNoise).

  `V/U`, then `V/((U-j+1)(U-j))` for j = 1..T: after `D <= T` drop-outs the
  survivors reveal components j > D, and exactly `V` remains. Needs a law closed
  under sums: Skellam.

  Args:
    sampled: `U`, clients in the cohort, at least 1.
    tolerated_dropouts: `T`, 0 to `sampled` - 1.
    central_variance: `V`, variance to remain in the sum, positive.

  Returns:
    T + 1 variances; component 0 is never removed.
  """
  _validate.at_least(1, sampled=sampled)
  _validate.at_least(0, tolerated_dropouts=tolerated_dropouts)
  _validate.positive(central_variance=central_variance)
  if tolerated_dropouts >= sampled:
    raise ConfigurationError(
      f'{tolerated_dropouts} drop-outs were to be tolerated among {sampled} clients. Tolerate '
      'fewer than all.'
    )
  steps = range(1, tolerated_dropouts + 1)
  return [
    central_variance / sampled,
    *(central_variance / ((sampled - j + 1) * (sampled - j)) for j in steps),
  ]


def xnoise_remaining_variance(components: list[float], *, sampled: int, dropouts: int) -> float:
  """Returns the variance left in the sum once superfluous components are removed.

  Args:
    components: From `xnoise_components`.
    sampled: Clients in the cohort.
    dropouts: Clients that dropped out, 0 to the number tolerated.

  Raises:
    ConfigurationError: If more clients dropped out than are tolerated.
  """
  _validate.at_least(0, dropouts=dropouts)
  if dropouts >= len(components):
    raise ConfigurationError(
      f'{dropouts} clients dropped out; the components tolerate {len(components) - 1}. Abort '
      'the round, or plan for more drop-outs.'
    )
  return (sampled - dropouts) * math.fsum(components[: dropouts + 1])

"""Checks of the bounds of clients' numbers: of what can be summed, noised and divided as float64."""

import math

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

# Room for the sums of any cohort and their noise above, and for the steps of any design below.
_LEAST, _MOST = 1e-100, 1e100


def check_maximum(maximum: float) -> None:
  """Refuses a bound of absolute values that is not positive, or too near an end of the floats.

  Args:
    maximum: Largest absolute value of one client's number.
  """
  _validate.positive(maximum=maximum)
  if not _LEAST <= maximum <= _MOST:
    raise ConfigurationError(
      f'`maximum` must lie between {_LEAST:g} and {_MOST:g}, where sums neither underflow nor '
      f'overflow, got {maximum!r}. Give bound and values in another unit.'
    )


def check_range(lower: float, upper: float) -> None:
  """Refuses bounds that are not in order, or whose size or distance is near an end of the floats.

  Args:
    lower: Least number.
    upper: Largest number.
  """
  if not lower < upper or math.inf in (-lower, upper):
    raise ConfigurationError(
      f'`lower` must be below `upper`, both finite, got {lower!r} and {upper!r}.'
    )
  if max(-lower, upper) > _MOST or upper - lower < _LEAST:
    raise ConfigurationError(
      f'`lower` and `upper` must be at most {_MOST:g} in size and at least {_LEAST:g} apart, where '
      f'sums neither underflow nor overflow, got {lower!r} and {upper!r}. Give bounds and values in '
      'another unit.'
    )

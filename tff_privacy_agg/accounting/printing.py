"""Numbers that people copy: rounded to the side on which they still hold."""

import math


def rounded_up(value: float, digits: int) -> str:
  """A positive number in so many digits, never less than it is.

  Examples:
    >>> rounded_up(1.23401, 4)
    '1.235'
  """
  text = f'{value:.{digits}g}'
  if not math.isfinite(value) or float(text) >= value:
    return text
  step = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
  return f'{(math.floor(value / step) + 1) * step:.{digits}g}'

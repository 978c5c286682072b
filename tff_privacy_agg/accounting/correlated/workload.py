"""Coefficients of correlated noise that make the accumulated model's error small.

With `C` banded Toeplitz of column c and `A` the sums of all rounds so far (with momentum), the
noise on the sums is `A C^-1 z` and z grows with `||c||`; `||A C^-1||^2 ||c||^2` is minimised.
"""

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.correlated.strategy import BandedColumn
from tff_privacy_agg.errors import ConfigurationError

_STEPS, _SMALLEST_GAIN = 60, 1e-7


def optimal_column(rounds: int, bands: int, *, momentum: float = 0.0) -> BandedColumn:
  """Optimises the column for the mean squared error of all sums; BFGS from the square root.

  Args:
    rounds: Rounds of the training, at least 1.
    bands: At most `rounds`.
    momentum: Of the server's optimizer, at least 0 and below 1.
  """
  _validate.at_least(1, rounds=rounds, bands=bands)
  if bands > rounds or not 0 <= momentum < 1:
    raise ConfigurationError(
      f'{bands} bands over {rounds} rounds with a momentum of {momentum:g} have no column; use at '
      'most as many bands as rounds, and a momentum of at least 0 and below 1.'
    )
  k = np.arange(1, bands)
  c = np.cumprod((2 * k - 1) / (2 * k))
  inverse_hessian = np.eye(bands - 1)
  value, gradient = _loss(c, rounds, momentum)
  for _ in range(_STEPS if bands > 1 else 0):
    direction = -inverse_hessian @ gradient
    slope, size = float(direction @ gradient), 1.0
    while size > 1e-9:
      new = c + size * direction
      new_value, new_gradient = _loss(new, rounds, momentum)
      if new_value <= value + 1e-4 * size * slope:
        break
      size /= 2
    else:
      break
    s, y = new - c, new_gradient - gradient
    gain, value, c, gradient = value - new_value, new_value, new, new_gradient
    if (curvature := float(s @ y)) > 0:
      hy = inverse_hessian @ y
      inverse_hessian += (1 + float(y @ hy) / curvature) / curvature * np.outer(s, s)
      inverse_hessian -= (np.outer(hy, s) + np.outer(s, hy)) / curvature
    if gain < _SMALLEST_GAIN:
      break
  return BandedColumn.from_floats([1.0, *c.tolist()])


def root_mean_squared_error(column: list[float], rounds: int, momentum: float = 0.0) -> float:
  """Deviation of an average sum for one participation of norm 1 and mu of 1.

  Args:
    column: Coefficients, of which the first is 1.
    rounds: Rounds of the training.
    momentum: Of the server's optimizer.
  """
  return float(np.exp(_loss(np.asarray(column[1:]), rounds, momentum)[0] / 2))


def _loss(c: np.ndarray, rounds: int, momentum: float) -> tuple[float, np.ndarray]:
  """Log of the mean squared error times the squared norm, and its gradient by c_1, c_2, ..."""
  inverse = np.zeros(rounds)
  inverse[0] = 1.0
  with np.errstate(over='ignore', invalid='ignore'):
    for t in range(1, rounds):
      reach = min(t, len(c))
      inverse[t] = -(c[:reach] @ inverse[t - reach : t][::-1])
    sums = np.cumsum(np.convolve(inverse, momentum ** np.arange(rounds))[:rounds])
    weighted = (rounds - np.arange(rounds)) * sums
    error, norm = float(weighted @ sums) / rounds, 1 + float(c @ c)
    if not np.isfinite(error):
      return np.inf, np.zeros(len(c))
    moved = np.convolve(sums, inverse)[:rounds]
    by_c = [-2 * float(weighted[j:] @ moved[: rounds - j]) for j in range(1, len(c) + 1)]
  return float(np.log(error * norm)), np.array(by_c) / (rounds * error) + 2 * c / norm

"""Coefficients of correlated noise that make the accumulated model's error small.

With `C` banded Toeplitz of column c and `A` the sums of all rounds so far (with momentum and
learning rates), the noise on the sums is `A C^-1 z` and z grows with `||c||`;
`||A C^-1||^2 ||c||^2` is minimised.
"""

from collections.abc import Sequence

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.correlated.column import BandedColumn
from tff_privacy_agg.errors import ConfigurationError

_STEPS, _SMALLEST_GAIN = 60, 1e-7
_ROUNDS_AT_ONCE = 64  # of a schedule: bounds the memory


def optimal_column(
  rounds: int,
  bands: int,
  *,
  momentum: float = 0.0,
  learning_rates: Sequence[float] | None = None,
) -> BandedColumn:
  """Optimises the column for the mean squared error of all sums; BFGS from the square root.

  Args:
    rounds: Rounds of the training, at least 1.
    bands: At most `rounds`.
    momentum: Of the server's optimizer, at least 0 and below 1.
    learning_rates: Of the server's optimizer in each round; None where they are all alike.
  """
  _validate.at_least(1, rounds=rounds, bands=bands)
  if bands > rounds:
    raise ConfigurationError(
      f'`bands` must be at most the number of rounds, {rounds}, got {bands}. Lower it.'
    )
  _validate.below_one(momentum=momentum)
  k = np.arange(1, bands)
  c, inverse_hessian = np.cumprod((2 * k - 1) / (2 * k)), np.eye(bands - 1)
  # Rounds that are all alike cost little, and lead near the column of a schedule.
  losses = [_Loss(rounds, momentum, None)]
  losses += [] if learning_rates is None else [_Loss(rounds, momentum, learning_rates)]
  for loss in losses:
    c = _minimised(loss, c, inverse_hessian)
  return BandedColumn.from_floats([1.0, *c.tolist()])


def root_mean_squared_error(
  column: Sequence[float],
  rounds: int,
  momentum: float = 0.0,
  learning_rates: Sequence[float] | None = None,
) -> float:
  """Deviation of an average sum for one participation of norm 1 and mu of 1.

  Args:
    column: Coefficients, of which the first is 1.
    rounds: Rounds of the training.
    momentum: Of the server's optimizer.
    learning_rates: Of the server's optimizer in each round; None for 1.
  """
  loss = _Loss(rounds, momentum, learning_rates)
  return float(np.exp(loss(np.asarray(column[1:], dtype=np.float64))[0] / 2))


def _minimised(loss: '_Loss', c: np.ndarray, inverse_hessian: np.ndarray) -> np.ndarray:
  """The minimum near c by BFGS, which goes on from `inverse_hessian` and changes it."""
  value, gradient = loss(c)
  for _ in range(_STEPS if len(c) else 0):
    direction = -inverse_hessian @ gradient
    slope, size = float(direction @ gradient), 1.0
    while size > 1e-9:
      new = c + size * direction
      new_value, new_gradient = loss(new)
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
  return c


class _Loss:
  """Log of the mean squared error times the squared norm, and its gradient by c_1, c_2, ..."""

  def __init__(self, rounds: int, momentum: float, learning_rates: Sequence[float] | None):
    self._rounds = rounds
    self._momenta = momentum ** np.arange(rounds)
    self._rates = None
    if learning_rates is None:
      return
    rates = np.asarray(learning_rates, dtype=np.float64)
    if (
      rates.shape != (rounds,)
      or not np.all(np.isfinite(rates))
      or rates.min() < 0
      or not rates.max()
    ):
      raise ConfigurationError(
        f'`learning_rates` must be {counted(rounds, "number")}, one for each round, at least 0 and '
        f'not all of them 0; got {rates.shape} of them. Pass those of the server optimizer.'
      )
    # Each round's rates from there on; only their shape matters to the best column.
    padded = np.concatenate([rates, np.zeros(rounds)])
    self._rates = np.lib.stride_tricks.sliding_window_view(padded, rounds)[:rounds]

  def __call__(self, c: np.ndarray) -> tuple[float, np.ndarray]:
    rounds = self._rounds
    inverse = np.zeros(rounds)
    inverse[0] = 1.0
    with np.errstate(over='ignore', invalid='ignore'):
      for t in range(1, rounds):
        reach = min(t, len(c))
        inverse[t] = -(c[:reach] @ inverse[t - reach : t][::-1])
      carried = np.convolve(inverse, self._momenta)[:rounds]
      squares, by_carried = self._squares(carried)
      error, norm = squares / rounds, 1 + float(c @ c)
      if not np.isfinite(error):
        return np.inf, np.zeros(len(c))
      moved = np.convolve(carried, inverse)[:rounds]
      by_c = [-float(by_carried[j:] @ moved[: rounds - j]) for j in range(1, len(c) + 1)]
    return float(np.log(error * norm)), np.array(by_c) / (rounds * error) + 2 * c / norm

  def _squares(self, carried: np.ndarray) -> tuple[float, np.ndarray]:
    """Squared errors of all sums, and their gradient by what a round's noise adds after so many."""
    rounds = self._rounds
    if self._rates is None:
      sums = np.cumsum(carried)
      weighted = (rounds - np.arange(rounds)) * sums
      return float(weighted @ sums), 2 * _from_there_on(weighted)
    total, gradient = 0.0, np.zeros(rounds)
    for first in range(0, rounds, _ROUNDS_AT_ONCE):
      rates = self._rates[first : first + _ROUNDS_AT_ONCE, : rounds - first]
      left = rounds - first - np.arange(len(rates))
      sums = np.cumsum(rates * carried[: rounds - first], axis=1)
      sums[np.arange(rounds - first) >= left[:, None]] = 0.0
      total += float(np.vdot(sums, sums))
      gradient[: rounds - first] += 2 * np.einsum('km,km->m', rates, _from_there_on(sums))
    return total, gradient


def _from_there_on(values: np.ndarray) -> np.ndarray:
  return np.cumsum(values[..., ::-1], axis=-1)[..., ::-1]

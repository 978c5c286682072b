"""Finding noise multipliers: from a target epsilon, and across several channels."""

import math
from collections.abc import Callable, Sequence

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting import accountant
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.exact_gaussian import gaussian_epsilon
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.errors import ConfigurationError

_DIGITS = 6  # of a noise multiplier that is printed
_LARGEST = 2.0**40


@_validate.plain_numbers
def split_noise_multiplier(total: float, bit_multipliers: Sequence[float]) -> float:
  """Returns the vector's noise multiplier when channels share one budget.

  `1/z^2 = 1/z_v^2 + sum_i 1/z_i^2`: exact for Gaussian noise (arXiv:1905.03871),
  a starting point for integer noise, whose curves are then added.

  Args:
    total: `z`, effective noise multiplier of the round as a whole, positive.
    bit_multipliers: `z_i` of each further channel: standard deviation of its
      noise over the most that one client can move it. Positive.

  Raises:
    ConfigurationError: If the other channels spend the whole budget.

  Examples:
    >>> round(tpa.accounting.split_noise_multiplier(1.0, [5.0, 5.0]), 3)
    1.043
  """
  _validate.positive(total=total)
  for multiplier in bit_multipliers:
    _validate.positive(bit_multipliers=multiplier)
  spent = math.fsum(1.0 / multiplier**2 for multiplier in bit_multipliers)
  left = 1.0 / total**2 - spent
  if left <= 0:
    alone = math.sqrt(1.0 / spent)
    raise ConfigurationError(
      f'A total noise multiplier of {total:g} is out of reach: the other channels, with '
      f'{list(bit_multipliers)}, alone allow less than {alone:g}. Raise the noise of these '
      'channels (or the cohort that adds it), drop a channel, or lower the total.'
    )
  return 1.0 / math.sqrt(left)


@_validate.plain_numbers
def find_noise_multiplier(
  target_epsilon: float, delta: float, curve: Callable[[float], RdpCurve]
) -> float:
  """Returns the smallest noise multiplier, to 60 bisections, that keeps epsilon at the target.

  Args:
    target_epsilon: In nats, positive. Never exceeded by the result.
    delta: Strictly between 0 and 1.
    curve: Maps a noise multiplier to the curve of the whole training with the
      mechanism's own terms, for example
      `lambda z: solve(noise_multiplier=z, ...).curve(honest).scaled(rounds)`.

  Raises:
    ConfigurationError: If no noise multiplier reaches the target.

  Examples:
    >>> z = tpa.accounting.find_noise_multiplier(
    ...   8.0, 1e-6, lambda z: tpa.accounting.gaussian(z).scaled(100)
    ... )
    >>> round(z, 3)
    6.893
  """
  _validate.fraction(delta=delta)
  return smallest_noise_multiplier(target_epsilon, lambda z: accountant.epsilon(curve(z), delta)[0])


@_validate.plain_numbers
def find_gaussian_noise_multiplier(target_epsilon: float, delta: float, rounds: int) -> float:
  """Returns the exact noise multiplier of `rounds` Gaussian releases (arXiv:1805.06530).

  Args:
    target_epsilon: In nats, positive.
    delta: Strictly between 0 and 1.
    rounds: At least 1.

  Examples:
    >>> round(tpa.accounting.find_gaussian_noise_multiplier(8.0, 1e-6, rounds=100), 3)
    6.529
  """
  _validate.fraction(delta=delta)
  _validate.at_least(1, rounds=rounds)
  root = math.sqrt(rounds)
  return smallest_noise_multiplier(target_epsilon, lambda z: gaussian_epsilon(root / z, delta))


def printed_noise_multiplier(
  target_epsilon: float, epsilon_of: Callable[[float], float], *, bisections: int = 60
) -> float:
  """Returns `smallest_noise_multiplier` rounded up to six digits: what is printed is what is used.

  Args:
    target_epsilon: As there, like the others. Never exceeded by the result.
    epsilon_of: As there.
    bisections: As there.

  Raises:
    ConfigurationError: As there.
  """
  z = smallest_noise_multiplier(target_epsilon, epsilon_of, bisections=bisections)
  z = float(rounded_up(z, _DIGITS))
  while epsilon_of(z) > target_epsilon:  # what rounding of the design took away
    z = float(rounded_up(z * (1 + 10.0**-_DIGITS), _DIGITS))
  return z


def too_few_bits(
  bits: int, most: int, epsilon_at: Callable[[int], float], *, target: float, needs: str
) -> ConfigurationError:
  """Error for a bit width that cannot carry the noise; names one that can.

  Args:
    bits: The width.
    most: The widest, which carries it.
    epsilon_at: Gives epsilon of the whole training at a width, with enough noise.
    target: Epsilon that is to be reached.
    needs: What the noise is needed for, and how much it is, for the sentence.
  """

  def carries(width: int) -> bool:
    try:
      return epsilon_at(width) <= target
    except ConfigurationError:
      return False

  enough = next(width for width in range(bits + 1, most + 1) if carries(width))
  return ConfigurationError(
    f'{counted(bits, "bit")} a coordinate cannot carry the noise that {needs}. Set `bits` to '
    f'{enough} or more.'
  )


def smallest_noise_multiplier(
  target_epsilon: float, epsilon_of: Callable[[float], float], *, bisections: int = 60
) -> float:
  """Returns the smallest noise multiplier, to some bisections, whose epsilon is at most the target.

  A noise multiplier that `epsilon_of` refuses does not reach the target: designs
  may be impossible both below and above the range that works.

  Args:
    target_epsilon: In nats, positive. Never exceeded by the result.
    epsilon_of: Gives epsilon of the whole training at a noise multiplier.
    bisections: Of an interval whose ends differ by a factor of two.

  Raises:
    ConfigurationError: If no noise multiplier reaches the target.
  """
  _validate.positive(target_epsilon=target_epsilon)
  best = math.inf
  refusal = None

  def reaches(z: float) -> bool:
    nonlocal best, refusal
    try:
      found = epsilon_of(z)
    except ConfigurationError as error:
      refusal = refusal or error
      return False
    best = min(best, found)
    return found <= target_epsilon

  high = 1.0
  while not reaches(high):
    high *= 2
    if high > _LARGEST:
      if refusal is not None:
        raise refusal
      raise ConfigurationError(
        f'No noise multiplier reaches an epsilon of {target_epsilon:g}; the best found is '
        f'{best:g}. Use more bits, more clients, fewer rounds, or a larger target.'
      )
  low = high / 2
  while reaches(low):
    low, high = low / 2, low
    if low < 1 / _LARGEST:
      return high
  for _ in range(bisections):
    middle = math.sqrt(low * high)
    if reaches(middle):
      high = middle
    else:
      low = middle
  return high

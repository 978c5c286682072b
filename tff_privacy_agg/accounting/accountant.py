"""From curves to epsilon, and to delta.

Conversion of Renyi DP (arXiv:2004.00010, Proposition 12; the same as
dp_accounting), minimised over the order `a`:

  epsilon = RDP(a) + ln(1 - 1/a) - (ln delta + ln a) / (a - 1)

Every order gives a valid epsilon, so a better search only tightens it. The
minimum is taken once, on the total of all rounds, never round by round.
"""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.exact_gaussian import NEARLY
from tff_privacy_agg.accounting.orders import INTEGER_ORDERS, conversion_offsets
from tff_privacy_agg.errors import ConfigurationError

# Reserving part of delta for the distance of the noise: tries before epsilon is called infinite.
_RESERVES = 200
# Of delta, too little to look for.
NEGLIGIBLE = 1e-12
_LOG_EXCESS = np.linspace(math.log(1e-7), math.log(1e9), 512)  # ln(a - 1)


@_validate.plain_numbers
def epsilon(
  curve: RdpCurve,
  delta: float,
  orders: ArrayLike | None = None,
  *,
  distance: float = 0.0,
) -> tuple[float, float]:
  """Returns (epsilon, order): the smallest epsilon that the curve proves at `delta`.

  Args:
    curve: The total over all rounds and channels.
    delta: Strictly between 0 and 1; well below 1/population to mean anything.
    orders: The orders to try. By default a curve valid for real orders is
      minimised over a continuous order, any other over `INTEGER_ORDERS`.
    distance: Total variation distance of all draws from the distribution of the curve, such as
      `Binding.sampler_distance`; it takes its part of `delta`.

  Returns:
    Epsilon in nats, at least 0, and the order that gives it. (inf, nan) if the
    curve is infinite, or the distance leaves nothing of `delta`.

  Examples:
    >>> epsilon, order = tpa.accounting.epsilon(tpa.accounting.gaussian(1.0), delta=1e-5)
    >>> round(epsilon, 3), round(order, 3)
    (4.728, 5.432)
  """

  _validate.instance(RdpCurve, curve=curve)
  _validate.fraction(delta=delta)
  _validate.non_negative(distance=distance)

  def at(remaining: float) -> tuple[float, float]:
    def objective(a: np.ndarray) -> np.ndarray:
      return curve.rdp(a) + conversion_offsets(a, remaining)

    value, order = _minimise(objective, curve, orders)
    return max(value, 0.0), order

  found = at_distance(at, delta, distance)
  if math.isinf(found[0]) and distance and curve.maximum_order == math.inf:
    grid = INTEGER_ORDERS if curve.integer_only else 1.0 + np.exp(_LOG_EXCESS)
    grid = grid if orders is None else np.asarray(orders, dtype=np.float64)
    return epsilon_at_orders(curve.rdp(grid), grid, delta, distance)
  return found


@_validate.plain_numbers
def epsilon_at_orders(
  rdp: np.ndarray, orders: np.ndarray, delta: float, distance: float
) -> tuple[float, float]:
  """Returns (epsilon, order) of Renyi divergences at `orders` and noise near its distribution.

  At each order `exp((a-1)(RDP(a) + ln(1-1/a) - e) - ln a) + (1 + e^e) distance` is a delta for
  every `e`; it falls, then rises. Epsilon is the least root up to the turn, infinite if none is.

  Args:
    rdp: Renyi divergences, shape [m].
    orders: Orders above 1, shape [m].
    delta: Strictly between 0 and 1.
    distance: Total variation distance of all that was drawn from its distribution, at least 0.

  Examples:
    >>> orders = tpa.accounting.table_orders(integer_only=True)
    >>> epsilon, order = tpa.accounting.epsilon_at_orders(
    ...   orders / 2, orders, 1e-5, distance=0.0
    ... )
    >>> round(epsilon, 3), order
    (4.753, 5.0)
  """
  _validate.fraction(delta=delta)
  _validate.non_negative(distance=distance)
  bounds = rdp + conversion_offsets(orders, delta * NEARLY)
  best = int(np.argmin(bounds))
  least = max(float(bounds[best]), 0.0)
  if math.isinf(least):
    return math.inf, math.nan
  if distance * (1 + math.exp(min(least, 700.0))) <= NEGLIGIBLE * delta:
    return least, float(orders[best])
  log_distance = math.log(distance)
  known = np.isfinite(rdp)
  a, rate = orders[known], orders[known] - 1
  levels = rate * (rdp[known] + np.log1p(-1 / a)) - np.log(a)

  def excess(e: np.ndarray) -> np.ndarray:
    moved = np.exp(np.minimum(log_distance + np.logaddexp(0.0, e), 1.0))
    return np.exp(np.minimum(levels - rate * e, 1.0)) + moved - delta

  high = np.maximum((levels + np.log(rate) - log_distance) / a, 0.0)
  fits = excess(high) <= 0
  if not fits.any():
    return math.inf, math.nan
  low, high = np.where(fits, 0.0, np.inf), np.where(fits, high, np.inf)
  for _ in range(60):
    with np.errstate(invalid='ignore'):
      middle = 0.5 * (low + high)
    within = excess(middle) <= 0
    low, high = np.where(within, low, middle), np.where(within, middle, high)
  best = int(np.argmin(high))
  return float(high[best]), float(a[best])


def confirm_epsilons_at_orders(
  rdp: np.ndarray,
  orders: np.ndarray,
  delta: float,
  distance: np.ndarray,
  epsilons: np.ndarray,
  slack: np.ndarray,
) -> np.ndarray:
  """Whether each of many epsilons is what `epsilon_at_orders` gives, within `slack`.

  No order has an epsilon further below, and one has it no further above. What is not confirmed may
  be right all the same: where the distances take a part of delta that shows.

  Args:
    rdp: Renyi divergences, `[n, m]`.
    orders: Orders above 1, `[m]`.
    delta: Strictly between 0 and 1.
    distance: As for `epsilon_at_orders`, `[n]`.
    epsilons: `[n]`.
    slack: `[n]`, how far an epsilon may be off.
  """
  with np.errstate(all='ignore'):
    moved = distance * (1 + np.exp(epsilons + slack))
    # At each order, epsilon is at least that without a distance, and at most that which leaves the
    # distance its part of delta.
    rate = orders - 1
    bounds = rdp + np.log1p(-1 / orders) - np.log(orders) / rate
    least = np.min(bounds - math.log(delta) / rate, axis=1)
    most = np.min(bounds - np.log(delta * NEARLY - moved)[:, None] / rate, axis=1)
    near = (most <= epsilons + slack) & (np.maximum(least, 0.0) >= epsilons - slack)
    return near & (epsilons >= 0)


def at_distance(
  find: Callable[[float], tuple[float, float]], delta: float, distance: float
) -> tuple[float, float]:
  """Returns (epsilon, order) of noise that is only near the distribution of its bound.

  The probability of an event moves by `distance` on either neighbour, which takes
  distance * (1 + e^epsilon) of delta.

  Args:
    find: Gives (epsilon, order) of the distribution at a delta.
    delta: Strictly between 0 and 1.
    distance: Total variation distance, at least 0.

  Returns:
    As `epsilon`.
  """
  kept_back = 0.0
  for _ in range(_RESERVES):
    value, order = find(delta - kept_back)
    if math.isinf(value):
      break
    needed = distance * (1 + math.exp(min(value, 700.0)))
    if needed <= kept_back:
      return value, order
    kept_back = max(2 * kept_back, 1.01 * needed)
    if kept_back >= delta:
      break
  return math.inf, math.nan


@_validate.plain_numbers
def delta(curve: RdpCurve, epsilon: float, orders: ArrayLike | None = None) -> float:
  """Returns the smallest delta in [0, 1] that the curve proves at `epsilon`.

  Args:
    curve: The total over all rounds and channels.
    epsilon: In nats, finite, at least 0.
    orders: As for the function `epsilon`.

  Examples:
    >>> f'{tpa.accounting.delta(tpa.accounting.gaussian(1.0), epsilon=4.0):.1e}'
    '2.0e-04'
  """
  _validate.instance(RdpCurve, curve=curve)
  _validate.non_negative(epsilon=epsilon)

  def objective(a: np.ndarray) -> np.ndarray:
    return (a - 1) * (curve.rdp(a) + np.log1p(-1 / a) - epsilon) - np.log(a)

  value, _ = _minimise(objective, curve, orders)
  return math.exp(min(value, 0.0))


def _minimise(
  objective: Callable[[np.ndarray], np.ndarray], curve: RdpCurve, orders: ArrayLike | None
) -> tuple[float, float]:
  """Returns (minimum, order) of an objective of the order."""
  continuous = orders is None and not curve.integer_only
  if continuous:
    grid = 1.0 + np.exp(_LOG_EXCESS)
  else:
    grid = INTEGER_ORDERS if orders is None else np.asarray(orders, dtype=np.float64)
  grid = grid[grid <= curve.maximum_order]
  if not grid.size:
    raise ConfigurationError(
      f'`orders` must hold an order of at most {curve.maximum_order:g}, got {orders!r}.'
    )
  values = objective(grid)
  best = int(np.argmin(values))
  value, order = float(values[best]), float(grid[best])
  if math.isinf(value):
    return value, math.nan
  if continuous:
    ends = np.log(grid[[max(best - 1, 0), min(best + 1, len(grid) - 1)]] - 1.0)
    found = optimize.minimize_scalar(
      lambda t: float(objective(np.array(1.0 + math.exp(t)))),
      bounds=(ends[0], ends[1]),
      method='bounded',
      options={'xatol': 1e-10},
    )
    if found.fun < value:
      value, order = float(found.fun), 1.0 + math.exp(found.x)
  return value, order

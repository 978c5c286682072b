"""The least budget that admits planned rounds."""

import math

import numpy as np

from tff_privacy_agg.accounting.accounts import Account, RenyiAccount, as_numbers
from tff_privacy_agg.accounting.budget import (
  DISTANCE_SHARE,
  OTHER_DISTANCE,
  Budget,
  proportional_limits,
)
from tff_privacy_agg.accounting.composition import composed_epsilon
from tff_privacy_agg.accounting.orders import conversion_offsets
from tff_privacy_agg.accounting.price import UNIT


def stated(epsilon: float) -> float:
  """A planned epsilon as the epsilon of a budget: rounded up in its seventh digit."""
  return epsilon * (1 + 1e-7) + 1e-12


def budget_for(
  account: Account,
  rounds: int,
  *,
  cost: np.ndarray,
  worst: np.ndarray,
  best: np.ndarray,
  distance: float,
  delta: float,
) -> tuple[float, float | None]:
  """(epsilon, mu_squared) of the least budget that admits so many rounds, the last at its worst.

  Args:
    account: The account of the view.
    rounds: Planned rounds, at least 1.
    cost: Cost of a round as planned.
    worst: Cost of a round at its worst, which is what a charge counts until it settles.
    best: Cost of a round with the most unknown shares.
    distance: Total variation distance of the noise of a full round from its distribution.
    delta: Strictly between 0 and 1.

  Returns:
    Epsilon, infinite if there is no such budget; and the total of `mu^2`, or None where Renyi
    divergence is accounted.
  """
  total = (rounds - 1) * cost + worst
  if isinstance(account, RenyiAccount):
    bounds = total + conversion_offsets(account.orders, delta * (1 - DISTANCE_SHARE))
    epsilon = max(float(bounds.min()), 0.0)
    # A budget takes the order at which most rounds fit at their worst, which need not be the best
    # one for these: up to what its order needs. Each step is up to the bound of another order.
    while math.isfinite(epsilon):
      fixed = Budget(epsilon=stated(epsilon), delta=delta).fix(account, worst, best, distance)
      needed = float(bounds[fixed.parts[0]])
      if needed <= epsilon:
        break
      epsilon = needed
    return epsilon, None
  parts, moved = proportional_limits(worst, best, distance)(int(total[0]))
  mu, c1, c2 = as_numbers(np.array(parts, dtype=object))
  own_delta = delta * (1 - OTHER_DISTANCE)
  epsilon = composed_epsilon(mu, own_delta, c1=c1, c2=c2, distance=moved)
  return epsilon, math.nextafter(int(total[0]) / UNIT, math.inf)

"""A privacy budget, and the one account that keeps it, fixed before the first round."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.accounts import Account, GaussianAccount, RenyiAccount, as_numbers
from tff_privacy_agg.accounting.composition import composed_delta, least_delta_at
from tff_privacy_agg.accounting.orders import conversion_offsets
from tff_privacy_agg.accounting.price import INFINITE, UNIT

VIEWS = ('server', 'release')
# Of delta, for the distance of the noise from its distribution where Renyi divergence is accounted.
DISTANCE_SHARE = 0.01
# Sums of distances are floating-point numbers; they may exceed the exact ones by less.
_ROUNDING = 1 + 1e-9
# What is left for rounds of other kinds, whose slack and distance are larger next to their mu^2.
_OTHER_SLACK, OTHER_DISTANCE = 100_000, 1e-6


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
  """The most that the rounds of a ledger or a process may spend.

  Rounds whose parameters depend on earlier outputs (adaptive clipping, survivors, early stopping)
  are fully adaptive composition. A filter is sound there if it keeps ONE account that is fixed
  before the first round: the total of `mu^2` (arXiv:2210.17520), or the Renyi divergence at one
  order (arXiv:2008.11193, Theorem 4.3). Which one follows from the design of the rounds.

  Attributes:
    epsilon: In nats, positive.
    delta: Strictly between 0 and 1.
    view: 'server', or 'release' for those who see only models and metrics.
    mu_squared: A further limit on the total of `mu^2`, as `Plan.budget` states it: exactly
      the planned rounds fit, however epsilon was rounded. None for that of epsilon alone.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Examples:
    >>> tpa.Budget(epsilon=4.0, delta=1e-6).view
    'server'
  """

  epsilon: float
  delta: float
  view: str = 'server'
  mu_squared: float | None = None

  def __post_init__(self) -> None:
    _validate.positive(epsilon=self.epsilon)
    _validate.fraction(delta=self.delta)
    _validate.one_of(VIEWS, view=self.view)
    if self.mu_squared is not None:
      _validate.positive(mu_squared=self.mu_squared)

  def fix(self, account: Account, worst: np.ndarray, best: np.ndarray, distance: float) -> 'Filter':
    """Fixes the limits of an account, from what is known before the first round alone.

    A larger budget never admits fewer rounds of these facts at their worst.

    Args:
      account: The account of the budget's view.
      worst: Cost of a round at its worst in that account.
      best: Cost of a round with the most unknown shares.
      distance: Total variation distance of the noise of a full round from its distribution.
    """
    if isinstance(account, GaussianAccount):
      return self._fix_gaussian(account, worst, best, distance)
    return self._fix_renyi(account, worst, best, distance)

  def as_dict(self) -> dict[str, Any]:
    """The budget as JSON values."""
    return dataclasses.asdict(self)

  def _fix_gaussian(
    self, account: GaussianAccount, worst: np.ndarray, best: np.ndarray, distance: float
  ) -> 'Filter':
    """The largest total of mu^2; the other limits are what can come with it.

    Each is proportional to that of mu^2, at the largest ratio that a round of these facts can have,
    and at least what costs no digit of epsilon. So one number decides for these rounds, and larger
    budgets contain smaller ones.
    """
    own = proportional_limits(worst, best, distance)
    of_others = OTHER_DISTANCE * self.delta / (1 + math.exp(min(self.epsilon, 700.0)))

    def limits(mu_squared: int) -> tuple[tuple[int, int, int], float]:
      total, moved = own(mu_squared)
      return total, max(moved, of_others)

    def at(mu_squared: int) -> tuple[float, float]:
      total, moved = limits(mu_squared)
      mu, c1, c2 = as_numbers(np.array(total, dtype=object))
      delta = composed_delta(mu, self.epsilon, c1=c1, c2=c2, distance=moved)
      return delta, min(self.epsilon, max(least_delta_at(mu, c1, c2, moved), 0.0))

    low, high = 0, INFINITE
    while high - low > 1:
      middle = (low + high) // 2
      low, high = (middle, high) if at(middle)[0] <= self.delta else (low, middle)
    if self.mu_squared is not None:
      low = min(low, math.ceil(min(self.mu_squared * UNIT, INFINITE)))
    total, moved = limits(low)
    return Filter(
      budget=self,
      account=account,
      parts=(0, 1, 2),
      limit=total,
      most_distance=moved,
      epsilon=at(low)[1],
    )

  def _fix_renyi(
    self, account: RenyiAccount, worst: np.ndarray, best: np.ndarray, distance: float
  ) -> 'Filter':
    """The order, and the epsilon up to the budget's, that admit the most rounds at their worst."""
    offsets = conversion_offsets(account.orders, self.delta * (1 - DISTANCE_SHARE))
    share = DISTANCE_SHARE * self.delta

    def rounds_within(epsilon: float) -> np.ndarray:
      with np.errstate(divide='ignore', invalid='ignore'):
        limits = epsilon - offsets
        return np.where((limits > 0) & np.isfinite(worst), limits / worst, -1.0)

    def distance_allows(epsilon: float) -> float:
      return share / (1 + math.exp(min(epsilon, 700.0))) / distance if distance else math.inf

    # Rounds with more noise are longer in coming to the limit, and each moves delta the same.
    index = int(np.argmax(rounds_within(self.epsilon)))
    cheaper = float(worst[index] / best[index]) if best[index] > 0 else 1.0
    low, high = 0.0, self.epsilon
    if not account.by_reserve and distance_allows(high) < cheaper * rounds_within(high).max():
      for _ in range(100):
        middle = 0.5 * (low + high)
        fits = distance_allows(middle) >= cheaper * rounds_within(middle).max()
        low, high = (middle, high) if fits else (low, middle)
      high = low
    index = int(np.argmax(rounds_within(high)))
    return Filter(
      budget=self,
      account=account,
      parts=(index,),
      limit=(float(high - offsets[index]),),
      most_distance=share / (1 + math.exp(min(high, 700.0))),
      epsilon=high,
    )


def proportional_limits(
  worst: np.ndarray, best: np.ndarray, distance: float
) -> Callable[[int], tuple[tuple[int, int, int], float]]:
  """Maps a limit of mu^2 to all limits: those of C1, C2 and the distance that can come with it."""
  least = max(int(best[0]), 1)
  slacks = [max(int(worst[part]), int(best[part])) for part in (1, 2)]

  def limits(mu_squared: int) -> tuple[tuple[int, int, int], float]:
    of_others = mu_squared // _OTHER_SLACK + 1
    c1, c2 = (min(max(-(-slack * mu_squared // least), of_others), INFINITE) for slack in slacks)
    return (mu_squared, c1, c2), distance * mu_squared / least * _ROUNDING

  return limits


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
  """A budget with the limits that were fixed for it.

  Attributes:
    budget: The budget.
    account: The one account that it looks at.
    parts: Positions in a cost that have a limit.
    limit: Largest total of each of these; negative if not even nothing fits.
    most_distance: Largest total variation distance of all noise from its distribution.
    epsilon: What is proved at the budget's delta within these limits, at most its epsilon.
  """

  budget: Budget
  account: Account
  parts: tuple[int, ...]
  limit: tuple[float, ...]
  most_distance: float = 0.0
  epsilon: float = 0.0

  @property
  def order(self) -> float | None:
    """The Renyi order; None where mu is accounted."""
    if isinstance(self.account, RenyiAccount):
      return float(self.account.orders[self.parts[0]])
    return None

  def admits(self, total: np.ndarray, distance: float) -> bool:
    """Whether a total is within the budget.

    Args:
      total: Cost of all rounds in the account, the next one included.
      distance: Total variation distance of all their noise from its distribution.
    """
    within = all(total[i] <= limit for i, limit in zip(self.parts, self.limit, strict=True))
    return within and self.distance_fits(distance)

  def distance_fits(self, distance: float) -> bool:
    """Whether noise of a total variation distance fits into what delta leaves for it."""
    return distance <= self.most_distance

  def rounds(self, spent: np.ndarray, round_cost: np.ndarray) -> int:
    """Number of rounds of one cost that fit after what is spent, the noise's distance aside."""
    left = [
      (limit - spent[i], round_cost[i]) for i, limit in zip(self.parts, self.limit, strict=True)
    ]
    if any(room < 0 for room, _ in left):
      return 0
    return min((int(room // cost) for room, cost in left if cost), default=INFINITE)

  def as_dict(self) -> dict[str, Any]:
    """JSON values: what was fixed, for the header of a ledger."""
    return {
      'account': self.account.name,
      'order': self.order,
      'limit': list(self.limit),
      'most_distance': self.most_distance,
      'epsilon': self.epsilon,
    }

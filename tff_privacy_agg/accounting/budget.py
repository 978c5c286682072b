"""A privacy budget, kept by a filter at one Renyi order that is fixed beforehand."""

import dataclasses
import math
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.accountant import conversion_offsets

VIEWS = ('server', 'release')
# Kept back of delta for the distance of the noise samplers from their laws.
_SAMPLER_SHARE = 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Budget:
  """The most that the rounds of a ledger may spend.

  Rounds whose parameters depend on earlier outputs (adaptive clipping, survivors,
  early stopping) are fully adaptive composition. Stopping before the Renyi
  divergence at ONE order, fixed beforehand, passes a limit is a privacy filter
  (arXiv:2008.11193, Theorem 4.3, Feldman and Zrnic); choosing the best order
  afterwards is not. So the filter stops a little before the epsilon that the
  ledger states, which is an odometer, reaches the budget.

  Attributes:
    epsilon: In nats, positive.
    delta: Strictly between 0 and 1.
    view: 'server', or 'release' for those who see only models and metrics.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """

  epsilon: float
  delta: float
  view: str = 'server'

  def __post_init__(self):
    _validate.positive(epsilon=self.epsilon)
    _validate.fraction(delta=self.delta)
    _validate.one_of(VIEWS, view=self.view)

  def fix(self, orders: np.ndarray, worst_round: np.ndarray) -> 'Filter':
    """Fixes the order: the one that admits the most rounds at their worst.

    It follows from what is known before the first round, and from nothing else.

    Args:
      orders: Renyi orders, shape [m].
      worst_round: RDP of a round at its worst in the budget's view, shape [m].
    """
    limits = self.epsilon - conversion_offsets(orders, self.delta * (1 - _SAMPLER_SHARE))
    with np.errstate(divide='ignore', invalid='ignore'):
      admitted = np.where((limits > 0) & np.isfinite(worst_round), limits / worst_round, -1.0)
    best = int(np.argmax(admitted))
    return Filter(budget=self, index=best, order=float(orders[best]), limit=float(limits[best]))

  def as_dict(self) -> dict[str, Any]:
    """The budget as JSON values."""
    return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Filter:
  """A budget at its fixed order.

  Attributes:
    budget: The budget.
    index: Position of the order among the ledger's orders.
    order: The Renyi order.
    limit: Largest RDP at that order within the budget; negative if none is.
  """

  budget: Budget
  index: int
  order: float
  limit: float

  def admits(self, rdp: np.ndarray, sampler_distance: float) -> bool:
    """Whether a total is within the budget.

    Args:
      rdp: Total RDP of all rounds, the next one included, shape [m].
      sampler_distance: Total variation distance of all their noise from its law.
    """
    within = float(rdp[self.index]) <= self.limit
    return within and self.most_rounds(sampler_distance) >= 1

  def most_rounds(self, sampler_distance: float) -> int:
    """How often noise of a total variation distance fits into what is kept back of delta."""
    moved = sampler_distance * (1 + math.exp(min(self.budget.epsilon, 700.0)))
    most = 2**62
    return min(most, int(min(_SAMPLER_SHARE * self.budget.delta / moved, most))) if moved else most

"""The two views of a ledger: what each pays for a round, and for all of them."""

import collections
from typing import Protocol

import numpy as np

from tff_privacy_agg.ledger.round_costs import RoundCosts
from tff_privacy_agg.ledger.sampling_claims import Sampling


class Costs(Protocol):
  """What one round costs in a view.

  Attributes:
    orders: Renyi orders, shape [m].
    worst: RDP of a round of which only the facts are known, shape [m].
    hopeless: The same, where the threshold is not kept either, shape [m].
    distance: Total variation distance of one round from the law that the RDP is about.
  """

  orders: np.ndarray
  worst: np.ndarray
  hopeless: np.ndarray
  distance: float

  @property
  def adjacency(self) -> str:
    """The neighbouring relation."""

  def row(self, honest: int) -> np.ndarray:
    """RDP of one round with so many shares of noise that are not known, shape [m]."""


class ReleaseCosts:
  """What one round costs in the release view, where cohorts are secret or the noise topped up.

  A round that has not settled is not known to be drawn as claimed with nobody
  dropping out: it costs what it costs without the claim, unless drop-outs change nothing.

  Args:
    costs: What rounds cost without either, at the orders of this view.
    unclaimed: The same in the neighbouring relation of the claim: what rounds cost that have
      not settled.
    claim: How cohorts are drawn.
    fewest: Fewest unknown shares of a round whose noise is topped up; None if it is not.
    most: Shares of a round whose noise is topped up; None if it is not.
    dropouts: Whether the claim holds whoever drops out.
    maximum: Largest cohort.

  Attributes:
    dropouts: As given.
  """

  def __init__(
    self,
    costs: RoundCosts,
    unclaimed: RoundCosts,
    claim: Sampling,
    *,
    fewest: int | None,
    most: int | None,
    dropouts: bool,
    maximum: int,
  ):
    self._costs, self._claim = costs, claim
    self.dropouts = dropouts
    self._rows: dict[int, np.ndarray] = {}
    self.orders = costs.orders
    self.distance = costs.distance + claim.distance(maximum)
    self.worst, self.hopeless = unclaimed.worst, unclaimed.hopeless
    if fewest is not None and most is not None:
      # The server adds what the cohort lacks, however few survive.
      unknown = range(fewest, most + 1) if costs.grows else range(fewest, fewest + 1)
      row = self.row if dropouts else unclaimed.row
      self.worst = self.hopeless = np.max([row(shares) for shares in unknown], axis=0)
    elif dropouts:
      self.worst = self.hopeless = self.row(1)  # the server's own noise

  @property
  def adjacency(self) -> str:
    """The neighbouring relation."""
    return self._claim.adjacency(self._costs)

  def row(self, honest: int) -> np.ndarray:
    """RDP of a round that was drawn as claimed, shape [m]."""
    key = honest if self._costs.distributed else 1
    if key not in self._rows:
      self._rows[key] = self._claim.curve(self._costs, key).rdp(self.orders)
    return self._rows[key]

  @property
  def plain(self) -> RoundCosts:
    """What rounds cost after one was found not to be as claimed, at the same orders."""
    return self._costs


class View:
  """The rounds of a ledger as one view pays for them.

  Attributes:
    costs: What a round costs.
    private: Whether the view is promised anything.
  """

  def __init__(self, costs: Costs, *, private: bool):
    self.costs, self.private = costs, private
    self._settled = np.zeros_like(costs.orders)
    self._counts: collections.Counter[int] = collections.Counter()

  def settle(self, honest: int) -> None:
    """Adds a settled round with so many unknown shares."""
    self._settled = self._settled + self.costs.row(honest)
    self._counts[honest] += 1

  def recost(self, costs: Costs) -> None:
    """Costs all rounds anew, at the same orders."""
    self.costs = costs
    rows = [count * costs.row(honest) for honest, count in self._counts.items()]
    self._settled = np.sum(rows, axis=0) if rows else np.zeros_like(costs.orders)

  def worst(self, threshold_broken: bool) -> np.ndarray:
    """RDP of a round of which nothing is known, shape [m]."""
    if not self.private:
      return np.full_like(self.costs.orders, np.inf)
    return self.costs.hopeless if threshold_broken else self.costs.worst

  def total(self, *, exposures: int, waiting: int, threshold_broken: bool) -> np.ndarray:
    """RDP of one client's rounds, shape [m]; infinite where nothing is promised.

    Args:
      exposures: Most rounds that one client pays for.
      waiting: Rounds that cost their charge.
      threshold_broken: Whether a round had fewer survivors than the threshold.
    """
    worst = self.worst(threshold_broken)
    if not self.private:
      return worst
    if exposures < self._counts.total() + waiting:
      return self._dearest(exposures, waiting, worst)
    return self._settled + (waiting * worst if waiting else 0.0)

  def _dearest(self, exposures: int, waiting: int, worst: np.ndarray) -> np.ndarray:
    honest = sorted(self._counts)
    rows = [self.costs.row(h) for h in honest]
    counts = [self._counts[h] for h in honest]
    if waiting:
      rows.insert(0, worst)
      counts.insert(0, waiting)
    # An upper bound that falls from row to row, so that the dearest come first at every order.
    falling = np.maximum.accumulate(np.stack(rows)[::-1])[::-1]
    counted = np.minimum(np.cumsum(counts), exposures)
    weights = np.diff(counted, prepend=0)
    taken = weights > 0
    return weights[taken].astype(np.float64) @ falling[taken]

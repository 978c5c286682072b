"""The two views of a ledger: what each pays for a round, and for all of them."""

import collections
import functools
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import cast

import numpy as np

from tff_privacy_agg.accounting.accounts import RenyiAccount
from tff_privacy_agg.ledger.costs.rounds import Costs, PlainCosts
from tff_privacy_agg.ledger.sampling_claims import Sampling

# Distances are added as integers: exactly, whatever their order.
_UNITS = 400


class ReleaseCosts:
  """Cost of one round in the release view, where cohorts are secret or the noise topped up.

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
    costs: PlainCosts,
    unclaimed: PlainCosts,
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
    self.account = costs.account
    self._claim_distance = claim.distance(maximum)
    self.most_distance = costs.most_distance + self._claim_distance
    self.worst, self.hopeless = unclaimed.worst, unclaimed.hopeless
    if fewest is not None and most is not None:
      # The server adds what the cohort lacks, however few survive.
      self.worst = self.hopeless = costs.account.worst(unclaimed.price, fewest, most)
      self.most_distance += costs.distance(most) - costs.most_distance
      if dropouts:
        unknown = range(fewest, most + 1) if costs.price.grows else (fewest,)
        self.worst = self.hopeless = np.max([self.row(shares) for shares in unknown], axis=0)
    elif dropouts:
      self.worst = self.hopeless = self.row(1)  # the server's own noise
    self.best = self.row(most or maximum)

  @property
  def adjacency(self) -> str:
    """The neighbouring relation."""
    return self._claim.adjacency(self._costs.price)

  def row(self, honest: int) -> np.ndarray:
    """Cost of a round that was drawn as claimed."""
    if not self._claim.claims:
      return self._costs.row(honest)
    key = honest if self._costs.price.distributed else 1
    if key not in self._rows:
      account = cast(RenyiAccount, self.account)  # a claim is proved for Renyi divergences
      self._rows[key] = account.of_curve(self._claim.curve(self._costs.price, key))
    return self._rows[key]

  def distance(self, honest: int) -> float:
    """Total variation distance of a round from the distribution that its cost is about."""
    return self._costs.distance(honest) + self._claim_distance

  @property
  def plain(self) -> PlainCosts:
    """Cost of rounds after one broke the claim, in the same account."""
    return self._costs


class View:
  """The rounds of a ledger as one view pays for them.

  Attributes:
    costs: What a round costs.
    private: Whether the view is promised anything.
  """

  def __init__(self, costs: Costs, *, private: bool):
    self.costs, self.private = costs, private
    self._settled = costs.account.nothing
    self._counts: collections.Counter[int] = collections.Counter()
    self._rounds = 0
    self._moved = 0  # total variation distance of settled rounds, in units of 2^-_UNITS

  @property
  def counts(self) -> Mapping[int, int]:
    """Settled rounds by their unknown shares."""
    return self._counts

  def settle(self, honest: int) -> None:
    """Adds a settled round with so many unknown shares."""
    self._settled = self._settled + self.costs.row(honest)
    self._counts[honest] += 1
    self._rounds += 1
    self._moved += self._units(honest)

  def recost(self, costs: Costs) -> None:
    """Costs all rounds anew, in the same account."""
    self.costs = costs
    rows = [count * costs.row(honest) for honest, count in self._counts.items()]
    self._settled = np.sum(rows, axis=0) if rows else costs.account.nothing
    self._moved = sum(count * self._units(honest) for honest, count in self._counts.items())

  def worst(self, threshold_broken: bool) -> np.ndarray:
    """Cost of a round of which nothing is known."""
    if not self.private:
      return self.costs.account.infinite
    return self.costs.hopeless if threshold_broken else self.costs.worst

  def distance(self, *, waiting: int) -> float:
    """Total variation distance of all rounds from the distributions of their costs.

    Args:
      waiting: Rounds that are charged at their worst.
    """
    return (self._moved + waiting * _in_units(self.costs.most_distance)) / 2**_UNITS

  def total(self, *, exposures: int, waiting: int, threshold_broken: bool) -> np.ndarray:
    """Cost of one client's rounds; infinite where nothing is promised.

    Args:
      exposures: Most rounds that one client pays for.
      waiting: Rounds that cost their charge.
      threshold_broken: Whether a round had fewer survivors than the threshold.
    """
    worst = self.worst(threshold_broken)
    if not self.private:
      return worst
    if exposures < self._rounds + waiting:
      return self._dearest(exposures, waiting, worst)
    return self._settled + waiting * worst if waiting else self._settled

  def _units(self, honest: int) -> int:
    return _in_units(self.costs.distance(honest))

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
    return weights[taken].astype(falling.dtype) @ falling[taken]


@functools.lru_cache(maxsize=4096)
def _in_units(distance: float) -> int:
  """A distance in units of 2^-_UNITS, rounded up; no two distributions are further apart than 1."""
  return math.ceil(Fraction(min(distance, 1.0)) * 2**_UNITS)

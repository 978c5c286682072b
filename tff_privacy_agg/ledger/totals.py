"""Totals over the rounds of a ledger: cost, epsilon, distance, what a budget admits."""

import array
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_privacy_agg.accounting.budget import VIEWS, Budget, Filter
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_format
from tff_privacy_agg.ledger.costs.kinds import Kind, account_in, check_kind, joint_accounts
from tff_privacy_agg.ledger.costs.rounds import PlainCosts
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.round_lists import Chain, Digests, SettledRounds

# Ledgers before this schema price rounds by Renyi divergence alone.
_GAUSSIAN_SINCE = 3


class LedgerTotals:
  """All rounds so far, and what they cost.

  The cost of open (charged, not settled) rounds is that of the fewest honest
  survivors that the threshold allows. Under a participation cap a client pays for
  at most `most` rounds, so the dearest ones are counted; otherwise all are. The cost of a round of
  noise that is correlated over rounds is that of one participation, and `most` of them are counted.

  Attributes:
    earlier: Whether the ledger is of a schema that prices rounds by Renyi divergence alone.
    kinds: What the rounds rest on and cost, by the number of the line that states their facts:
      0 for the header.
    facts: The facts of the header.
    accounts: The account of each view. It follows from the facts of the header; rounds of facts
      that have no mu turn it, for all rounds, into Renyi divergences.
    views: The rounds of these facts as each view pays for them.
    filter: The budget at its fixed order, or None.
    open: Line numbers of charged rounds that are not settled, with their rounds.
    settled: The settled rounds, in order.
    unknown: Charges of which only a part is left, each by how many kinds were known then.
    undiscounted: How many of them cost what was charged, as clients counted the survivors.
    unopened: Charges that were taken back: semi-honest sessions that asked for no share.
    planned: Planned survivors of the charged rounds that said them.
    digests: Digest of the cohort of each charged round that recorded one.
    most: Most rounds that any client took part in, as far as was recorded.
    recovered: Lines that were cut off, by what they had begun to say.
    threshold_broken: Whether a round had fewer survivors than the threshold.
    claim_broken: Whether a round was not as the facts claim for the release view.
    drawn: Rounds whose sampler said what it did.
    chain: The rounds that share noise, where it is correlated over rounds; else None.
    unaccounted: What left the clients outside this sum.
    notes: Findings recorded for the report.
  """

  def __init__(self, header: Mapping[str, Any]):
    line_format.check_header(header)
    line_format.check_versions(header)
    self.earlier = header['schema'] < _GAUSSIAN_SINCE
    self.facts = LedgerFacts.from_dict(header.get('facts', {}), earlier=self.earlier)
    self.accounts = {view: account_in(self.facts, view, self.earlier) for view in VIEWS}
    first = Kind(self.facts, self.accounts)
    self.kinds: dict[int, Kind] = {0: first}
    self.views = first.views
    budget = header.get('budget')
    try:
      self.filter = None if budget is None else self.fix(Budget(**budget))
    except (TypeError, ValueError, OverflowError) as error:
      raise LedgerError(
        f'The header of a ledger states its budget; this one cannot be used: {error} Restore the '
        'file.'
      ) from error
    self.open: dict[int, int] = {}
    self.settled = SettledRounds()
    self.undiscounted = 0
    self.unopened = 0
    self.planned = array.array('q')
    self.digests = Digests()
    self.most = 0
    self.recovered: list[str] = []
    self.threshold_broken = False
    self.claim_broken = False
    self.drawn = 0
    separation = self.facts.separation
    self.chain = None if separation is None else Chain(separation)
    self.unaccounted: list[str] = list(self.facts.unaccounted)
    self.notes: dict[str, Any] = {}
    self.unknown: list[int] = []
    self._kind_of: dict[int, Kind] = {}  # of the open charges
    self._most_survivors: dict[int, int] = {}  # of the open charges that say it
    self._says_who_counted = header['schema'] >= 3

  @property
  def claims(self) -> bool:
    """Whether what the facts claim of the cohorts counts: no round was otherwise."""
    return self.facts.sampling.claims and not self.claim_broken

  @property
  def costs(self) -> PlainCosts:
    """Cost of a round of the header's facts in the server view's account."""
    return self.kinds[0].costs

  @property
  def rounds(self) -> int:
    """Charged rounds, whatever became of them, but for charges that were taken back."""
    return len(self.settled) + self.unsettled

  @property
  def unsettled(self) -> int:
    """Charged rounds that have not settled."""
    return len(self.open) + len(self.unknown)

  @property
  def exposures(self) -> int:
    """Most rounds that one client pays for."""
    if not self.facts.needs_cohorts:
      return self.rounds
    return min(self.rounds, self.most + len(self.unknown))

  def worst(self, view: str) -> np.ndarray:
    """Cost of a round of which nothing is known but the threshold, if that ever held."""
    return self.views[view].worst(self.threshold_broken)

  def cost(
    self, view: str, *, more: int = 0, most: int | None = None, kind: Kind | None = None
  ) -> np.ndarray:
    """Total cost of one client's rounds in a view's account; infinite where it has no privacy.

    Args:
      view: 'server' or 'release'.
      more: Further rounds at their worst to count in.
      most: `most` after them, under a cap.
      kind: What the further rounds rest on; the header's facts if None.
    """
    broken = self.threshold_broken
    if self.facts.needs_cohorts:  # then all rounds are of one kind
      taken = (self.most if most is None else most) + len(self.unknown)
      return self.views[view].total(
        exposures=min(self.rounds + more, taken),
        waiting=self.unsettled + self.undiscounted + more,
        threshold_broken=broken,
      )
    if len(self.kinds) == 1 and not more and not self.unknown:
      one = self.kinds[0]
      return one.views[view].total(exposures=one.rounds, waiting=one.open, threshold_broken=broken)
    total = self.accounts[view].nothing
    for one in self.kinds.values():
      total = total + one.views[view].total(
        exposures=one.rounds, waiting=one.open, threshold_broken=broken
      )
    rows = [one.views[view].worst(broken) for one in self.kinds.values()]
    for known in self.unknown:
      # A charge follows the line of its facts, so what was cut off was of a kind known then.
      total = total + np.max(rows[:known], axis=0)
    if more:
      total = total + more * (kind or self.kinds[0]).views[view].worst(broken)
    return total

  def epsilon(self, view: str, delta: float | None = None) -> tuple[float, float]:
    """Epsilon of all rounds at `delta`, and the order that gives it; NaN for that of mu.

    The distance of the noise samplers from their distributions takes its part of `delta`.
    """
    delta = self.facts.delta if delta is None else delta
    total = self.cost(view)
    if self.rounds == 0:
      return (0.0, math.nan) if self.views[view].private else (math.inf, math.nan)
    return self.accounts[view].epsilon(total, delta, self.distance(view))

  def distance(
    self, view: str, *, more: int = 0, most: int | None = None, kind: Kind | None = None
  ) -> float:
    """Total variation distance of one client's rounds from the distributions of their costs.

    The rounds of others are the same for both neighbours, whatever their noise is.

    Args:
      view: As for `cost`, like the others.
      more: Further rounds to count in.
      most: `most` after them, under a cap.
      kind: What the further rounds rest on.
    """
    kinds = list(self.kinds.values())
    capped = self.facts.needs_cohorts and not self.earlier
    if len(kinds) == 1 and not more and not self.unknown and not capped:
      return kinds[0].views[view].distance(waiting=kinds[0].open)
    distances = [one.views[view].costs.most_distance for one in kinds]
    if capped:
      taken = (self.most if most is None else most) + len(self.unknown)
      return min(self.rounds + more, taken) * distances[0]
    known = [one.views[view].distance(waiting=one.open) for one in kinds]
    cut_off = [max(distances[:count]) for count in self.unknown]
    further = more * (kind or kinds[0]).views[view].costs.most_distance
    return math.fsum([*known, *cut_off, further])

  def totals(self) -> dict[str, float | str]:
    """Epsilon by view as a line states it; an infinite one is the word 'inf'."""
    values = {view: self.epsilon(view)[0] for view in VIEWS}
    return {view: 'inf' if math.isinf(value) else value for view, value in values.items()}

  def fix(self, budget: Budget) -> Filter:
    """A budget with the limits that follow from the facts of the header alone."""
    view = self.views[budget.view]
    costs = view.costs
    return budget.fix(costs.account, view.worst(False), costs.best, costs.most_distance)

  def admits(self, fixed: Filter, *, most: int | None = None, kind: Kind | None = None) -> bool:
    """Whether one more round at its worst stays within a budget.

    Args:
      fixed: The budget at its order.
      most: Most rounds of one client after the next round; under a cap, one more if None.
      kind: What that round rests on; the header's facts if None.
    """
    if most is None:
      most = min(self.most + 1, self.facts.cap or self.rounds + 1)
    view = fixed.budget.view
    cost = self.cost(view, more=1, most=most, kind=kind)
    return fixed.admits(cost, self.distance(view, more=1, most=most, kind=kind))

  def new_kind(self, facts: LedgerFacts) -> Kind:
    """Rounds that would rest on other facts, in the accounts that all rounds then have.

    Raises:
      LedgerError: If they cannot stand in this ledger, or the budget is kept in an account that
        they do not have.
    """
    check_kind(self.facts, facts)
    joint = joint_accounts(self.accounts, facts, self.earlier)
    kept = None if self.filter is None else self.filter.budget.view
    if kept is not None and joint[kept] is not self.accounts[kept]:
      raise LedgerError(
        'The budget of this ledger limits the total of mu squared; a round of these facts has '
        'no mu, because its noise is too narrow. Keep a ledger of its own for it, or use more bits.'
      )
    return Kind(facts, joint)

  def find_kind(self, facts: LedgerFacts) -> int | None:
    """The line that states these facts, or a larger distance of samplers; None if none does."""
    return next(
      (line for line, one in self.kinds.items() if not facts.differences(one.facts)), None
    )

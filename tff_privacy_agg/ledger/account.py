"""The account of a ledger: its facts, its epsilons, what its budget leaves."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.budget import VIEWS, Budget, Filter
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.accounting.sampling.fixed_rounds import fixed_rounds_epsilon
from tff_privacy_agg.errors import BudgetExceededError, LedgerError
from tff_privacy_agg.ledger.costs.kinds import Kind
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.interchange import DpEvents, dp_events
from tff_privacy_agg.ledger.replay import LedgerState


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spent:
  """Most that one view may have learned so far.

  Attributes:
    view: 'server' or 'release'.
    adjacency: The neighbouring relation of this view.
    epsilon: In nats; infinite where the view has no privacy.
    delta: Of this epsilon.
    order: The Renyi order that gives it; NaN where none does, as in the account of mu.
    rounds: Charged rounds.
    unsettled: Of these, those charged at their worst.
    complete: Whether everything that leaves the clients is in the sum.
    unaccounted: What is not.
  """

  view: str
  adjacency: str
  epsilon: float
  delta: float
  order: float
  rounds: int
  unsettled: int
  complete: bool
  unaccounted: tuple[str, ...]


class LedgerAccount:
  """The account of a ledger; `LedgerRecord` is one that was read, `PrivacyLedger` one that grows.

  Attributes:
    header: The first line.
    state: The sum of the lines.
    hash: SHA-256 of the last line.
  """

  def __init__(self, header: Mapping[str, Any], state: LedgerState, digest: str):
    self.header, self.state, self.hash = header, state, digest

  @property
  def facts(self) -> LedgerFacts:
    """Facts that every number rests on."""
    return self.state.facts

  @property
  def budget(self) -> Budget | None:
    """The budget that the ledger was begun with."""
    return self.state.filter.budget if self.state.filter else None

  @property
  def complete(self) -> bool:
    """Whether everything that leaves the clients is in the sum."""
    return not self.state.unaccounted

  @property
  def unaccounted(self) -> tuple[str, ...]:
    """Values that leave the clients outside the sum."""
    return tuple(self.state.unaccounted)

  def epsilon(self, view: str, delta: float | None = None) -> float:
    """Epsilon of all rounds so far, in nats.

    Args:
      view: 'server': who runs the training and sees the sums. 'release': who sees the
        models and metrics only. They are different promises and are never added.
      delta: Strictly between 0 and 1; by default that of the facts.
    """
    return self.spent(view, delta).epsilon

  def spent(self, view: str, delta: float | None = None) -> Spent:
    """Epsilon of all rounds so far, with what it means; arguments as for `epsilon`."""
    _validate.one_of(VIEWS, view=view)
    delta = self.facts.delta if delta is None else delta
    _validate.fraction(delta=delta)
    self.facts.check_delta(delta, '`delta`')
    epsilon, order = self.state.epsilon(view, delta)
    return Spent(
      view=view,
      adjacency=self.state.views[view].costs.adjacency,
      epsilon=epsilon,
      delta=delta,
      order=order,
      rounds=self.state.rounds,
      unsettled=self.state.unsettled + self.state.undiscounted,
      complete=self.complete,
      unaccounted=self.unaccounted,
    )

  def fixed_rounds_epsilon(self, delta: float | None = None) -> float | None:
    """Epsilon in the release view if all rounds so far were fixed before the first one.

    Where cohorts are drawn by coins, the composed privacy loss proves a smaller one than `epsilon`
    does, but only if the number of rounds did not depend on what was released.

    Args:
      delta: As for `epsilon`.

    Returns:
      Epsilon in nats, at most that of `epsilon`; None where no coins are claimed, or a round was
      not drawn as claimed or has not settled.
    """
    delta = self.facts.delta if delta is None else delta
    state, claim = self.state, self.facts.sampling
    waiting = state.unsettled + state.undiscounted
    if claim.rate is None or not state.claims or state.earlier or waiting or not state.rounds:
      return None
    adaptive = self.spent('release', delta).epsilon
    counts, distance = state.views['release'].counts, state.distance('release')
    fixed = fixed_rounds_epsilon(self.facts.price, counts, claim.rate, delta, distance)
    return min(adaptive, fixed)

  def dp_events(self, view: str = 'server') -> DpEvents:
    """The rounds as events of dp_accounting, for other accountants.

    Args:
      view: 'server' or 'release'.

    Raises:
      ConfigurationError: If they are not Gaussian mechanisms, as with Skellam noise.
    """
    return dp_events(self.state, view)

  def would_exceed(self, budget: Budget | None = None) -> bool:
    """Whether one more round could pass a budget, by default the ledger's.

    A round that rests on the facts of the header, at its worst.
    """
    return not self.state.admits(self._filter(budget))

  def remaining(self, budget: Budget | None = None) -> int:
    """Rounds of the header's facts, at their worst, that a budget (the ledger's, if None) admits.

    Rounds that settle for less leave room for more.
    """
    fixed = self._filter(budget)
    if self.would_exceed(budget):
      return 0
    view = fixed.budget.view
    return max(1, fixed.rounds(self.state.cost(view), self.state.worst(view)))

  def check_budget(
    self, round_number: int, *, most: int | None = None, kind: Kind | None = None
  ) -> None:
    """Raises unless the ledger's budget, if it has one, admits one more round at its worst.

    Args:
      round_number: The round, for the message.
      most: Most rounds of one client after it; under a cap, one more than now if None.
      kind: What the round rests on; the header's facts if None.

    Raises:
      BudgetExceededError: If it does not.
    """
    fixed = self.state.filter
    if fixed is not None and not self.state.admits(fixed, most=most, kind=kind):
      raise self._exceeded(round_number, fixed, kind or self.state.kinds[0])

  def _exceeded(self, round_number: int, fixed: Filter, kind: Kind) -> BudgetExceededError:
    budget = fixed.budget
    spent = self.state.epsilon(budget.view, budget.delta)[0]
    fix = 'Stop here, or plan anew with more noise or fewer rounds.'
    if self.state.rounds == 0 and kind.facts.minimum_clients is None:
      fix = (
        'Without `minimum_clients` a round could have a single survivor: state the threshold that '
        'the runtime keeps.'
      )
    return BudgetExceededError(
      f'Cannot charge round {round_number}: at its worst, it would take the {budget.view} view '
      f'past the budget of epsilon {budget.epsilon:g} at delta {budget.delta:g} '
      f'({rounded_up(spent, 4)} is spent). {fix}'
    )

  def _filter(self, budget: Budget | None) -> Filter:
    if budget is not None:
      return self.state.fix(budget)
    if self.state.filter is None:
      raise LedgerError('This ledger has no budget. Pass a `Budget` when you begin one.')
    return self.state.filter

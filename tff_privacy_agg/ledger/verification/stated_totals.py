"""Epsilons that the lines of a ledger state, compared with those of their rounds in batches.

An epsilon is the root of a falling function, so a stated one needs no search: the function is above
zero just below it, and not above zero just above it. That is computed for many lines at once;
what it does not confirm is computed as the writer does.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_privacy_agg.accounting.accountant import confirm_epsilons_at_orders
from tff_privacy_agg.accounting.accounts import GaussianAccount, many_as_numbers
from tff_privacy_agg.accounting.budget import VIEWS
from tff_privacy_agg.accounting.composition import confirm_epsilons
from tff_privacy_agg.ledger.recomputed import SAME, same
from tff_privacy_agg.ledger.replay import LedgerState

_BATCH = 512


class StatedTotals:
  """Compares `total` of every line; holds no more than a batch of them.

  Args:
    state: The sum of the lines, to which each was applied before it is added here.
  """

  def __init__(self, state: LedgerState):
    self._state = state
    self._problems: list[str] = []
    facts = state.facts  # those of other rounds agree with the header's in what is asked here
    plain = not facts.sampling.claims and facts.top_up is None
    self._alike = plain and facts.price.holds_against_server == facts.price.private
    self._waiting: dict[str, list[tuple]] = {view: [] for view in VIEWS}

  def add(self, line: Mapping[str, Any]) -> None:
    """Takes the total that a line states after the state has taken the line."""
    total, state = line.get('total'), self._state
    if not isinstance(total, dict) or total.keys() != set(VIEWS):
      self._problems.append(
        f'Line {line["seq"] + 1} states no total of the server and of the release view.'
      )
      return
    views = VIEWS if total['server'] != total['release'] or not self._alike else ('server',)
    for view in views:
      stated, account = total[view], state.accounts[view]
      if not state.views[view].private:
        if stated != 'inf':
          self._name(line['seq'], view, stated, 'inf')
        continue
      if not state.rounds:  # all were taken back; a conversion of nothing is above 0 at every order
        if not same(0.0, stated):
          self._name(line['seq'], view, stated, 0.0)
        continue
      cost, distance = state.cost(view), state.distance(view)
      waiting = self._waiting[view]
      if waiting and waiting[-1][1] is not account:
        self._flush(view)
      waiting = self._waiting[view]
      waiting.append((line['seq'], account, cost, distance, stated))
      if len(waiting) >= _BATCH:
        self._flush(view)

  def finish(self) -> list[str]:
    """Statements that differ from what the rounds give, in sentences."""
    for view in VIEWS:
      self._flush(view)
    return self._problems

  def _flush(self, view: str) -> None:
    waiting, self._waiting[view] = self._waiting[view], []
    if not waiting:
      return
    account, delta = waiting[0][1], self._state.facts.delta
    stated = np.array([_number(one[4]) for one in waiting])
    distance = np.array([one[3] for one in waiting])
    slack = SAME * np.maximum(stated, 1.0)
    if isinstance(account, GaussianAccount):
      mu, c1, c2 = many_as_numbers(np.stack([one[2] for one in waiting]))
      good = confirm_epsilons(mu, c1, c2, distance, delta, stated, slack)
    elif account.by_reserve:
      good = np.zeros(len(waiting), dtype=bool)
    else:
      costs = np.stack([one[2] for one in waiting])
      good = confirm_epsilons_at_orders(costs, account.orders, delta, distance, stated, slack)
    for index in np.flatnonzero(~good):
      seq, _, cost, moved, claimed = waiting[index]
      computed = account.epsilon(cost, delta, moved)[0]
      found = 'inf' if math.isinf(computed) else computed
      if not same(found, claimed):
        self._name(seq, view, claimed, found)

  def _name(self, seq: int, view: str, stated: Any, computed: Any) -> None:
    self._problems.append(
      f'Line {seq + 1} states epsilon {stated} in the {view} view; its rounds give {computed}.'
    )


def _number(stated: Any) -> float:
  """An epsilon as it is stated; NaN for what is none."""
  if type(stated) is float:
    return stated
  return math.inf if stated == 'inf' else math.nan

"""Rounds of one ledger that are not all alike: what each kind rests on, and costs."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, cast

import numpy as np

from tff_privacy_agg.accounting.accounts import Account, RenyiAccount
from tff_privacy_agg.accounting.orders import table_orders
from tff_privacy_agg.accounting.sampling.moments import SAMPLED_ORDERS
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.costs.rounds import Costs, PlainCosts
from tff_privacy_agg.ledger.costs.views import ReleaseCosts, View
from tff_privacy_agg.ledger.facts import LedgerFacts, current_names
from tff_privacy_agg.ledger.sampling_claims import hides_count

# Orders at which every settled line states what its round cost.
STATED_ORDERS = (2, 4, 8, 16, 32, 64)
# What the facts of some rounds may state otherwise than the header.
_OWN = ('minimum_clients', 'task')
# What of their stack may not: who is protected from whom, the orders of the sum, and a top-up.
_SHARED = (
  'stack.mechanism',
  'stack.adjacency',
  'stack.holds_against_server',
  'stack.public',
  'stack.top_up',
)


class Kind:
  """The rounds of a ledger that rest on the same facts.

  Attributes:
    facts: These facts.
    views: The rounds as each view pays for them.
    open: How many cost what was charged: not settled, or settled by a count of clients.
    rounds: How many are charged, but for charges that were taken back.
    honest: Honest clients by the survivors of a round.
    noise_multiplier: That of a round, by its honest survivors.
  """

  def __init__(self, facts: LedgerFacts, accounts: Mapping[str, Account]):
    self.facts = facts
    self.open = 0
    self.rounds = 0
    self.honest = functools.lru_cache(maxsize=None)(facts.honest)
    self.noise_multiplier = functools.lru_cache(maxsize=None)(facts.price.noise_multiplier)
    self._divergences: dict[tuple, dict[str, Any] | None] = {}
    self.views: dict[str, View] = {}
    for view, costs in self._costs_in(accounts).items():
      private = facts.price.private if view == 'release' else facts.price.holds_against_server
      self.views[view] = View(costs, private=private)

  @property
  def costs(self) -> PlainCosts:
    """Cost of one round in the account of the server view."""
    return cast(PlainCosts, self.views['server'].costs)

  def divergences(self, honest: int, top_up: int, claims: bool) -> dict[str, Any] | None:
    """Renyi divergences of one round at `STATED_ORDERS` by view, as a line states them.

    Args:
      honest: Honest survivors.
      top_up: Shares of noise that the server added.
      claims: Whether what the facts claim of the cohorts counts.

    Returns:
      JSON values; None without noise.
    """
    key = (honest, top_up, claims)
    if key not in self._divergences:
      self._divergences[key] = self._divergences_of(*key)
    return self._divergences[key]

  def _divergences_of(self, honest: int, top_up: int, claims: bool) -> dict[str, Any] | None:
    price, sampling = self.facts.price, self.facts.sampling
    server = price.curve(honest).rdp(STATED_ORDERS)
    if not np.all(np.isfinite(server)):
      return None
    shares = honest + top_up
    release = sampling.curve(price, shares) if claims else price.curve(shares)
    return {
      'server': server.tolist() if price.holds_against_server else 'inf',
      'release': release.rdp(STATED_ORDERS).tolist(),
    }

  def move(self, accounts: Mapping[str, Account]) -> None:
    """Costs all rounds anew in other accounts."""
    for view, costs in self._costs_in(accounts).items():
      self.views[view].recost(costs)

  def _costs_in(self, accounts: Mapping[str, Account]) -> dict[str, Costs]:
    return {
      'server': self.facts.costs(accounts['server']),
      'release': _release_costs(self.facts, accounts['release']),
    }


def _release_costs(facts: LedgerFacts, account: Account) -> PlainCosts | ReleaseCosts:
  """Cost of one round of these facts in the release view."""
  claim, total, costs = facts.sampling, facts.top_up, facts.costs(account)
  if total is None and not claim.claims:
    return costs
  unclaimed = costs
  if claim.claims:
    # Neighbours that replace a client move the sum twice as far, sampled or not.
    price = dataclasses.replace(facts.price, adjacency=claim.adjacency(facts.price))
    worst = facts.honest(facts.worst_survivors)
    unclaimed = PlainCosts(price, account, worst_honest=worst)
  fixed = total is not None or not facts.price.distributed
  return ReleaseCosts(
    costs,
    unclaimed,
    claim,
    fewest=None if total is None else total - facts.maximum + facts.honest(facts.maximum),
    most=total,
    dropouts=claim.claims and fixed and hides_count(facts.stack),
    maximum=facts.maximum,
  )


def account_in(facts: LedgerFacts, view: str, earlier: bool) -> Account:
  """The account that rounds of these facts take in a view.

  Args:
    facts: The facts.
    view: 'server' or 'release'.
    earlier: Whether the ledger is of a schema that prices rounds by Renyi divergence alone.
  """
  account = facts.account(view)
  if not earlier:
    return account
  orders = account.orders if isinstance(account, RenyiAccount) else table_orders(False)
  if view == 'release' and facts.sampling.claims:
    orders = SAMPLED_ORDERS
  return RenyiAccount(orders, by_reserve=True)


def joint_accounts(
  accounts: Mapping[str, Account], facts: LedgerFacts, earlier: bool
) -> dict[str, Account]:
  """The accounts if rounds of these facts are added; those of mu give way to Renyi's."""
  joint = dict(accounts)
  for view, kept in accounts.items():
    own = account_in(facts, view, earlier)
    if isinstance(own, RenyiAccount) and not isinstance(kept, RenyiAccount):
      joint[view] = own
  return joint


def own_facts(facts: LedgerFacts) -> dict[str, Any]:
  """Facts in a line that are not those of the header, as JSON values."""
  return {'stack': facts.as_dict()['stack'], **{name: getattr(facts, name) for name in _OWN}}


def with_own(header: LedgerFacts, own: Mapping[str, Any], *, earlier: bool = False) -> LedgerFacts:
  """The facts of the rounds that a line is about; the header's but for what it states.

  Args:
    header: The facts of the ledger.
    own: What `own_facts` gave.
    earlier: As for `LedgerFacts.from_dict`.

  Raises:
    LedgerError: If they cannot stand in the same ledger.
  """
  if not isinstance(own, Mapping):
    raise LedgerError(
      f'Rounds have facts of their own in an object; this is a {type(own).__name__}.'
    )
  own = current_names(own)
  values = {**header.as_dict(), 'stack': own['stack'], **{name: own[name] for name in _OWN}}
  facts = LedgerFacts.from_dict(values, earlier=earlier)
  check_kind(header, facts)
  return facts


def check_kind(header: LedgerFacts, facts: LedgerFacts) -> None:
  """Raises unless rounds with these facts may stand in a ledger with that header.

  Each round's Renyi divergence is added, so noise, sensitivity, dimension, bits and cohort may
  be its own. A participation cap, a claimed sampling and a top-up are about all rounds alike.

  Raises:
    LedgerError: If they may not.
  """
  changed = [
    name
    for name in header.differences(facts)
    if name not in _OWN and (name in _SHARED or not name.startswith('stack.'))
  ]
  if facts.colluding_fraction != header.colluding_fraction:
    changed.append('stack.cohort.colluding_fraction')
  if changed:
    raise LedgerError(
      'Rounds of one ledger protect the same clients from the same parties; of these rounds and '
      f'the ledger these differ: {", ".join(changed)}. Keep a ledger of their own for them.'
    )
  if header.needs_cohorts or header.sampling.claims or header.top_up is not None:
    raise LedgerError(
      'A round cannot have facts of its own in a ledger with a participation cap, a separation, a '
      'sampling claim or a top-up, which assume that all rounds are alike. Keep a ledger without them.'
    )

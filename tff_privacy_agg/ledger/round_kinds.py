"""Rounds of one ledger that are not all alike: what each kind rests on, and costs."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.view_costs import View

# What the facts of some rounds may state otherwise than the header.
_OWN = ('secagg_threshold', 'task')
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
    costs: What one of the rounds costs, whatever is claimed of its cohort.
    views: The rounds as each view pays for them.
    open: How many cost what was charged: not settled, or settled by a count of clients.
    rounds: How many are charged, whatever became of them.
  """

  def __init__(self, facts: LedgerFacts):
    self.facts = facts
    self.costs = facts.costs()
    release = facts.release_costs(self.costs)
    self.views = {
      'server': View(self.costs, private=self.costs.holds_against_server),
      'release': View(release, private=self.costs.private),
    }
    self.open = 0
    self.rounds = 0


def own_facts(facts: LedgerFacts) -> dict[str, Any]:
  """What a line states of facts that are not those of the header, as JSON values."""
  return {'stack': dict(facts.stack), **{name: getattr(facts, name) for name in _OWN}}


def with_own(header: LedgerFacts, own: Mapping[str, Any]) -> LedgerFacts:
  """The facts of the rounds that a line is about; the header's but for what it states.

  Raises:
    LedgerError: If they cannot stand in the same ledger.
  """
  facts = dataclasses.replace(header, stack=own['stack'], **{name: own[name] for name in _OWN})
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
  if header.participation_cap is not None or header.sampling.claims or header.top_up is not None:
    raise LedgerError(
      'A round with facts of its own was to be charged; the ledger counts on a participation cap, '
      'a sampling or a top-up, which are about rounds that are all alike. Keep a ledger without '
      'these.'
    )

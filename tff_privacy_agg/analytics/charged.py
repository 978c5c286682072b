"""A question to clients in a ledger: charged before one of them is asked, settled after."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.preparation.session_limits import check_limits, running_limits
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger


def facts_in(
  ledger: PrivacyLedger,
  facts: LedgerFacts | None,
  stack: Mapping[str, Any],
  randomness: str,
  task: str,
) -> LedgerFacts:
  """What a question rests on in `ledger`: the given facts, which must be its own, or the ledger's.

  Args:
    ledger: Of all questions about the same clients.
    facts: Those that the caller states; None for the ledger's own, of this question.
    stack: Facts of the question's stack.
    randomness: Its source of noise.
    task: The question in words, where the caller states none.

  Raises:
    ConfigurationError: If `facts` are those of another question.
  """
  if facts is None:
    return dataclasses.replace(ledger.facts, stack=stack, randomness=randomness, task=task)
  own = dataclasses.replace(facts, stack=stack, randomness=randomness)
  changed = facts.differences(own)
  if changed:
    raise ConfigurationError(
      f'These facts belong to another question; they differ in: {", ".join(changed)}. Take them '
      'from `facts` of this statistic, or leave them out.'
    )
  return own


def charged(
  ledger: PrivacyLedger, facts: LedgerFacts, clients: int, ask: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any]:
  """The answer to a question that so many clients are asked.

  Raises:
    BudgetExceededError: If the ledger's budget does not admit it; nothing is charged then.
    ConfigurationError: If the secure sums do not keep what the ledger counts on.
    LedgerError: If the question cannot stand in the ledger.
  """
  check_limits(facts, running_limits(clients))
  charge = ledger.charge(ledger.state.rounds + 1, planned_survivors=clients, facts=facts)
  found = ask()
  # A client that sends the sum more than one for itself does not make them more.
  counted = compat.protocol_survivors()
  survivors = min(int(found['survivors']), clients if counted is None else counted)
  if survivors > 0:
    ledger.settle(
      charge,
      survivors=survivors,
      counted_by='runtime',
      honest=int(found['honest']),
      accepted=bool(found['accepted']),
    )
  return found

"""The ledger of all questions that `tff-privacy-agg analytics` puts to the same clients."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tff_privacy_agg._wording import counted

if TYPE_CHECKING:
  from tff_privacy_agg.accounting import Budget
  from tff_privacy_agg.analytics import Statistic
  from tff_privacy_agg.ledger import LedgerFacts, LedgerRecord, PrivacyLedger


def check(args: argparse.Namespace) -> None:
  """Refuses a budget that nothing would keep.

  Raises:
    ConfigurationError: If there is one without a ledger, or it is no positive number.
  """
  from tff_privacy_agg import _validate
  from tff_privacy_agg.errors import ConfigurationError

  if args.target_epsilon is None:
    return
  _validate.positive(target_epsilon=args.target_epsilon)
  if args.ledger is None:
    raise ConfigurationError(
      '--target-epsilon is the budget of all questions to the same clients; no ledger was named '
      'that adds them up. Name one with --ledger, or leave it out.'
    )


def read(args: argparse.Namespace) -> 'LedgerRecord | None':
  """The ledger as it stands; None if there is none yet.

  Raises:
    LedgerError: If it cannot be believed.
  """
  from tff_privacy_agg.ledger import LedgerRecord

  if args.ledger is None or not args.ledger.exists():
    return None
  return LedgerRecord.read(args.ledger)


def delta_of(args: argparse.Namespace, known: 'LedgerRecord | None', clients: int) -> float:
  """The delta that is stated: what was asked for, or that of the ledger, or a tenth of 1/clients.

  Raises:
    ConfigurationError: If it is no delta of so many clients.
  """
  from tff_privacy_agg import _validate

  if args.delta is None and known is not None:
    return known.facts.delta
  if args.delta is None:
    return _validate.default_delta(clients)
  _validate.delta_of(clients, args.delta, name='clients')
  return args.delta


def opened(
  args: argparse.Namespace,
  known: 'LedgerRecord | None',
  statistic: 'Statistic',
  clients: int,
  delta: float,
) -> tuple['PrivacyLedger', 'LedgerFacts']:
  """The ledger, begun or continued, and what this question rests on in it.

  Args:
    args: With `ledger`.
    known: From `read`.
    statistic: The question.
    clients: How many are asked; nobody drops out of a simulation, so all are in the sum.
    delta: From `delta_of`.

  Raises:
    BudgetExceededError: If the first question could pass the budget; no ledger is begun then.
    ConfigurationError: If the ledger is about other clients, or was begun otherwise.
    LedgerError: If it cannot be believed, or somebody else writes it.
  """
  from tff_privacy_agg.accounting import Budget
  from tff_privacy_agg.ledger import PrivacyLedger

  facts = statistic.facts(
    population=clients if known is None else known.facts.population,
    delta=delta,
    minimum_clients=clients,
    task=f'{args.statistic} of column {args.column}: {statistic.query!r}',
    unit=f'client (column {args.client})' if args.client else 'row',
  )
  if known is None:
    epsilon = args.target_epsilon
    budget = None if epsilon is None else Budget(epsilon=epsilon, delta=delta)
    if budget is not None:
      _check_first(facts, budget)
    return PrivacyLedger(args.ledger, facts, budget=budget), facts
  _check_same(args, known, facts, clients)
  return PrivacyLedger(args.ledger), facts


def told(args: argparse.Namespace, ledger: 'PrivacyLedger') -> Mapping[str, Any]:
  """Cost of all questions of the ledger, as JSON values."""
  spent, budget = ledger.spent('server'), ledger.budget
  return {
    'file': str(args.ledger),
    'questions': spent.rounds,
    'unsettled': spent.unsettled,
    'epsilon': spent.epsilon,
    'delta': spent.delta,
    'target_epsilon': None if budget is None else budget.epsilon,
  }


def sentence(spent: Mapping[str, Any]) -> str:
  """Formats `told` as a sentence."""
  from tff_privacy_agg.accounting.printing import rounded_up

  text = f'all {spent["questions"]} questions' if spent['questions'] > 1 else 'the only question'
  text += f' in {spent["file"]}: epsilon {rounded_up(spent["epsilon"], 4)}'
  if spent['target_epsilon'] is not None:
    text += f' of {spent["target_epsilon"]:g}'
  if spent['unsettled']:
    text += f'; {spent["unsettled"]} charged without an answer'
  return text


def _check_first(facts: 'LedgerFacts', budget: 'Budget') -> None:
  from tff_privacy_agg.errors import BudgetExceededError

  costs = facts.costs(facts.account(budget.view))
  fixed = budget.fix(costs.account, costs.worst, costs.best, costs.most_distance)
  if not fixed.admits(costs.worst, costs.most_distance):
    raise BudgetExceededError(
      'The first question of this ledger alone could exceed the budget of epsilon '
      f'{budget.epsilon:g} at delta {budget.delta:g}. Ask with more noise, or raise the budget.'
    )


def _check_same(args: argparse.Namespace, known: Any, facts: Any, clients: int) -> None:
  from tff_privacy_agg.errors import ConfigurationError

  budget = None if known.budget is None else known.budget.epsilon
  asked = args.target_epsilon
  for wrong, what, found, fix in (
    (known.facts.unit != facts.unit, f'one {facts.unit}', f'one {known.facts.unit}', '--client'),
    (
      known.facts.delta != facts.delta,
      f'delta {facts.delta:g}',
      f'{known.facts.delta:g}',
      '--delta',
    ),
    (asked not in (None, budget), f'a budget of {asked}', f'{budget}', '--target-epsilon'),
  ):
    if wrong:
      raise ConfigurationError(
        f'All questions of a ledger protect the same clients alike; this one counts {what}, but '
        f'{args.ledger} was begun with {found}. Give {fix} as before, or begin another ledger.'
      )
  if clients > known.facts.population:
    raise ConfigurationError(
      f'The file has {counted(clients, "client")}; {args.ledger} was begun for '
      f'{known.facts.population}, and its delta rests on that. Begin another ledger for these.'
    )

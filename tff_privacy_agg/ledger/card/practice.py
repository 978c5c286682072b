"""The privacy card's middle part: what was done in the rounds, and what is not covered."""

import statistics
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.field import (
  ACCOUNTING,
  DEFINITION,
  HEADER,
  SETTING,
  Field,
  field,
  range_text,
  rows_of,
  spread,
  spread_text,
)

# What an audit tells of the clients of the training beyond the rounds of the ledger.
_AUDITED_AGAIN = {
  'canaries': 'what the audit says of the training that it ran once more on the same clients',
  'membership': "the rates of the audit's membership attack, from the clients' examples without noise",
}


def practised(record: LedgerAccount) -> list[Field]:
  """The fields from the rounds to the tuning runs, in order."""
  facts, state = record.facts, record.state
  survivors = spread([one.survivors for one in state.settled])
  planned = statistics.median(state.planned) if state.planned else None
  updated = sum(one.updated for one in state.settled)
  as_charged = ''
  if state.undiscounted:
    as_charged = f'{state.undiscounted} at the cost charged, as clients counted their survivors; '
  if state.unopened:
    as_charged += (
      f'{counted(state.unopened, "session")} failed before they showed anything, and cost nothing; '
    )
  rows = rows_of(record)
  thresholds = [one.facts.minimum_clients for one in state.kinds.values()]
  threshold = 'none: an unsettled round counts one honest survivor'
  if all(thresholds):
    threshold = f'{range_text(thresholds)} survivors'
    threshold += '; BROKEN by a round' if state.threshold_broken else ''
  tuning = state.notes.get('tuning_runs', facts.tuning_runs)
  drawn = _sampling(record)
  return [
    field(
      'rounds',
      'Rounds and survivors',
      {
        'charged': state.rounds,
        'settled': len(state.settled),
        'accepted': updated,
        'survivors': survivors,
        'planned_survivors': planned,
      },
      rows,
      ACCOUNTING,
      'Algorithm correctness',
      f'{state.rounds} charged, {len(state.settled)} settled, {updated} accepted by the model; '
      f'{as_charged}survivors {spread_text(survivors)}; planned {"not stated" if planned is None else planned}',
    ),
    *_kinds(record),
    field(
      'colluding_fraction',
      'Colluding fraction',
      facts.colluding_fraction,
      f'{HEADER}; honest = k - floor(fraction k)',
      SETTING,
      'Trust model',
    ),
    field('minimum_clients', 'Fewest clients in a sum', threshold, HEADER, SETTING, 'Trust model'),
    field(
      'sampling',
      'Sampling, claimed and actual',
      drawn,
      f'{HEADER}, and "sampling" of the lines with the event "charge"; {_bound(record)}',
      ACCOUNTING,
      'Algorithm correctness',
      '; '.join(f'{name}: {text}' for name, text in drawn.items()),
    ),
    field(
      'releases',
      'Releases covered, and not covered',
      {'covered': _covered(record), 'not_covered': _not_covered(record)},
      f'{HEADER}, and lines with the event "unaccounted"',
      DEFINITION,
      'Privacy hazards',
      f'covered: {", ".join(_covered(record)) or "nothing"}; NOT covered: '
      f'{", ".join(_not_covered(record)) or "nothing that the ledger was told of"}',
    ),
    field(
      'tuning_runs',
      'Tuning runs',
      tuning,
      HEADER,
      DEFINITION,
      'Privacy hazards',
      'not stated; NOT covered' if tuning is None else f'{tuning}, NOT covered by these epsilons',
    ),
  ]


def _kinds(record: LedgerAccount) -> list[Field]:
  """Facts of the rounds, if they are not the same for all of them."""
  kinds = record.state.kinds
  if len(kinds) == 1:
    return []
  found = [
    {
      'line': line + 1,
      'task': one.facts.task or 'not stated',
      'rounds': one.rounds,
      'noise_multiplier': one.facts.stack['noise_multiplier'],
      'cohort': one.facts.maximum,
      'minimum_clients': one.facts.minimum_clients,
    }
    for line, one in kinds.items()
  ]
  told = '; '.join(
    f'{one["rounds"]} as line {one["line"]} states: {one["task"]}, noise multiplier '
    f'{one["noise_multiplier"]:.6g} at {counted(one["cohort"], "client")}'
    for one in found
  )
  return [
    field(
      'kinds',
      'Kinds of rounds',
      {'kinds': found},
      f'{HEADER}, which the fields of this card are about, and lines with the event "facts"; each '
      'round costs what its own kind does',
      ACCOUNTING,
      'Algorithm correctness',
      told,
    )
  ]


def _sampling(record: LedgerAccount) -> dict[str, str]:
  state, claim = record.state, record.facts.sampling
  if not claim.claims:
    return {'claimed': 'none', 'actual': claim.sentence}
  met = (
    f'so in all {counted(state.rounds, "charged round")}, as their samplers say; clients, and '
    'couples of them, came again as often as independent draws give (docs/ledger.md: what that '
    'check can notice, and when)'
  )
  broken = 'BROKEN by a round, so nothing is claimed now'
  return {
    'claimed': f'{claim.sentence}; in the release view alone',
    'actual': broken if state.claim_broken else met,
  }


def _bound(record: LedgerAccount) -> str:
  exact = record.facts.price.has_mu
  return {
    'none': 'no bound is used',
    'poisson': 'arXiv:1908.10530, Theorem 5' if exact else 'Zhu and Wang (ICML 2019), Theorem 5',
    'without_replacement': 'arXiv:1808.00087, Theorem 9',
  }[record.facts.sampling.kind]


def _covered(record: LedgerAccount) -> list[str]:
  if not record.facts.price.private:
    return []
  stack = record.facts.stack
  channels = [f'{channel["layer"]}/{channel["name"]}' for channel in stack['channels']]
  return [
    "sum of the clients' vectors",
    *channels,
    *(what for other in stack.get('beside', ()) for what in _covered_next_to(other)),
    *(f'{what} (public)' for what in stack['public']),
  ]


def _covered_next_to(stack: Mapping[str, Any]) -> list[str]:
  """Releases of other stacks in the same rounds, such as private metrics or gradients."""
  design = stack['integer_design']
  numbers = (
    ''
    if design is None
    else f' of {counted(design["dimension"], "number")}, {counted(design["bits"], "bit")} each'
  )
  channels = [f'{channel["layer"]}/{channel["name"]} next to it' for channel in stack['channels']]
  return [f'sum next to it{numbers}', *channels]


def _not_covered(record: LedgerAccount) -> list[str]:
  everything = [] if record.facts.price.private else ['every sum of this training: it has no noise']
  note = record.state.notes.get('empirical_audit')
  audits = note.get('audits', ()) if isinstance(note, dict) else ()
  again = [what for audit, what in _AUDITED_AGAIN.items() if audit in audits]
  return everything + list(record.unaccounted) + again

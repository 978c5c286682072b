"""The privacy card's second half: what was done, what is not covered, what can be checked."""

import math
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.designs.scales import noise_multiplier_supremum
from tff_privacy_agg.accounting.exact_gaussian import repeated_gaussian_epsilon
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.field import (
  ACCOUNTING,
  DEFINITION,
  HEADER,
  SETTING,
  TRANSPARENCY,
  Field,
  field,
  rows_of,
  spread,
  spread_text,
)

# What an audit tells of the clients of the training beyond the rounds of the ledger.
_AUDITED_AGAIN = {
  'canaries': 'what the audit says of the training that it ran once more on the same clients',
  'membership': "the rates of the audit's membership attack, from the clients' examples without noise",
}


def assumptions(record: LedgerAccount) -> list[str]:
  """Conditions of the epsilons, in plain sentences."""
  facts, price = record.facts, record.facts.price
  sentences = []
  if price.distributed:
    sentences += [
      'The server learns the sum of the messages and nothing else about them.',
      f'At most {facts.colluding_fraction:.0%} of the survivors of a round tell the server their '
      'noise; the noise of everyone else stays unknown to it.',
      'Every client draws its noise as this package does, with a key that nobody else knows.',
    ]
    thresholds = [one.facts.minimum_clients for one in record.state.kinds.values()]
    if all(thresholds):
      sentences.append(
        f'The runtime shows the server no sum of fewer than {_range(thresholds)} survivors'
        + ('.' if len({*thresholds}) == 1 else ', as the line with the facts of the round says.')
      )
  elif price.private:
    sentences.append('The server adds the noise as agreed, and forgets what it saw before.')
    if record.state.chain is not None:
      sentences.append(
        'The noise of the last rounds, which the state and its checkpoints keep for the next ones, is '
        'a secret of the server: a release less its noise is the sum without noise.'
      )
  sentences += [
    'Which clients take part, and which drop out, does not depend on their data.',
    'The number of survivors of each round is public.',
  ]
  if facts.sampling.claims and not record.state.claim_broken:
    sentences += [
      'For the release view: who takes part in a round is drawn anew and independently each time, '
      'from chance that nobody else knows, and stays unknown to those who see the release.',
      'For the release view: with the number of survivors goes what the proof rests on; metrics '
      'that tell it, this card and the ledger do not go to those who see the release.'
      if facts.sampling.kind == 'poisson'
      else 'For the release view: nobody who was drawn drops out, or the noise does not depend on it '
      'and neither does anything else that is released.',
    ]
  if facts.top_up is not None:
    sentences.append(
      f'For the release view: the server adds the shares of noise that a cohort lacks of '
      f'{facts.top_up}, before it decodes a sum, and forgets them.'
    )
  if price.private:
    budget = record.budget
    proved = 'this ledger has no budget.'
    if budget is not None:
      proved = f'epsilon {budget.epsilon:g} at delta {rounded_up(budget.delta, 6)} in the {budget.view} view.'
    sentences.append(
      'Which rounds there are, and with what noise, was chosen before the first answer. If answers '
      f'chose it, no more than the budget is proved: {proved}'
      if len(record.state.kinds) > 1
      else 'How many rounds there are does not depend on what was released. If results decided when '
      f'to stop, epsilon is an odometer and no more than the budget is proved: {proved}'
    )
  if facts.needs_cohorts:
    sentences.append('One person is one client: an identity cannot be used up and replaced.')
  return sentences


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
    threshold = f'{_range(thresholds)} survivors'
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


def verifiable(record: LedgerAccount) -> list[Field]:
  """The fields from the rounding to the ledger's hash, in order."""
  facts, state = record.facts, record.state
  design = facts.stack['integer_design']
  rounding: dict[str, Any] | None = None
  if design is not None:
    found = re.search(r'modclip_prob=([0-9.e-]+)', ' '.join(facts.stack['layers']))
    keys = ('bits', 'beta', 'scaled_norm', 'l2_bound', 'l1_bound', 'local_variance', 'dimension')
    rounding = {key: design[key] for key in keys}
    if facts.price.distributed:
      rounding['largest_noise_multiplier'] = noise_multiplier_supremum(
        clients=facts.maximum,
        bits=design['bits'],
        dimension=design['dimension'],
        modclip_prob=float(found.group(1)) if found else 1e-4,
        beta=design['beta'],
      )
    others = [other['integer_design'] for other in facts.stack.get('beside', ())]
    if any(others):
      rounding['next_to_it'] = [{key: other[key] for key in keys} for other in others if other]
  grade = 'a cipher' if facts.randomness == 'chacha20' else 'simulation grade, not for deployment'
  distance = max(one.costs.most_distance for one in state.kinds.values())
  epsilon = record.epsilon('release')
  moved = 0.0
  if distance and state.rounds:
    moved = min(1.0, state.distance('release') * (1 + math.exp(min(epsilon, 700.0))))
  audit = state.notes.get('empirical_audit')
  return [
    field(
      'rounding',
      'Rounding and bits',
      rounding,
      f'{HEADER}; bound of the noise multiplier: sqrt(4^bits - n k^2)/(2 k B0)',
      TRANSPARENCY,
      'Algorithm correctness',
      None if rounding else 'none: sums of floats; attacks on floating-point noise are not covered',
    ),
    field(
      'randomness',
      'Random numbers',
      {'kind': facts.randomness, 'entropy_bits': facts.entropy_bits},
      HEADER,
      TRANSPARENCY,
      'Side channels',
      f'{facts.randomness} ({grade}), {facts.entropy_bits} bits of entropy a client and round',
    ),
    field(
      'sampler_exactness',
      'Exactness of the noise',
      {'distance_per_round': distance, 'delta_sampler': moved},
      f'{HEADER}; distance x (1 + e^epsilon), within delta',
      TRANSPARENCY,
      'Side channels',
    ),
    field(
      'empirical_audit',
      'Empirical audit',
      audit,
      'lines with the event "note"',
      TRANSPARENCY,
      'Algorithm correctness',
      'none was recorded' if audit is None else None,
    ),
    *_example_level(record),
    field(
      'threats_not_covered',
      'Threats not covered',
      'malicious servers, malicious clients, poisoned models, timing of the clients',
      'design of the package',
      SETTING,
      'Privacy hazards',
    ),
    field(
      'versions',
      'Versions',
      dict(sorted(record.header.get('versions', {}).items())) or None,  # as the file has them
      HEADER,
      TRANSPARENCY,
      'Algorithm correctness',
    ),
    field(
      'ledger_hash',
      'Ledger',
      record.hash,
      'SHA-256 of the last line; `tff-privacy-agg verify` checks the chain',
      TRANSPARENCY,
      'Algorithm correctness',
    ),
  ]


def _range(numbers: Sequence[int | None]) -> str:
  least, most = min(filter(None, numbers)), max(filter(None, numbers))
  return f'{least}' if least == most else f'{least} to {most}'


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


def _example_level(record: LedgerAccount) -> list[Field]:
  """DP-SGD on the clients, if there was any: another unit, so another epsilon."""
  setting = record.state.notes.get('example_level')
  if setting is None:
    return []
  # Copies of an example may share a batch, whose sum they then move together.
  steps = record.state.exposures * int(setting['local_epochs']) ** 2
  spent = repeated_gaussian_epsilon(float(setting['noise_multiplier']), steps, record.facts.delta)
  return [
    field(
      'example_level',
      'Example level, on the clients',
      {**setting, 'unit': 'example', 'epsilon': spent, 'delta': record.facts.delta},
      'lines with the event "note"; Gaussian mechanism; k copies of an example in a round count as k^2',
      ACCOUNTING,
      'Unit',
      f'one example, zero-out: epsilon {rounded_up(spent, 4)} at delta {rounded_up(record.facts.delta, 6)} against all who '
      f"see a client's update; noise from a generator for simulations",
    )
  ]

"""The privacy card's last part: how the numbers were made, and what can be checked."""

import math
import re
from typing import Any

from tff_privacy_agg.accounting.designs.scales import noise_multiplier_supremum
from tff_privacy_agg.accounting.exact_gaussian import repeated_gaussian_epsilon
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.field import (
  ACCOUNTING,
  HEADER,
  SETTING,
  TRANSPARENCY,
  Field,
  field,
)


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
      "see a client's update, and not its metrics; noise from a generator for simulations",
    )
  ]

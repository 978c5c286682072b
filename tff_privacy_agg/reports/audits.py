"""What audits measured, beside what the ledger promises."""

import math
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.reports.markup import (
  Html,
  element,
  epsilon_of,
  joined,
  listed,
  section,
  short,
  table,
)
from tff_privacy_agg.reports.run_files import RunFiles


def audits(run: RunFiles) -> Html:
  """The audits of this run; says so where there are none."""
  if run.audit is None:
    return section(
      'audits',
      'Audits',
      element('p', 'This run was not audited.'),
      element('p', 'An audit can show that a promise is false; it cannot show that it is true.'),
    )
  found = run.audit
  parts = [_verdict(run, found)]
  for name, draw in (
    ('canaries', _canaries),
    ('membership', _membership),
    ('memorization', _memorization),
    ('gallery', _gallery),
  ):
    if name in found:
      parts.append(draw(found[name]))
  return section('audits', 'Audits', *parts)


def _verdict(run: RunFiles, found: Mapping[str, Any]) -> Html:
  warnings = []
  if found.get('exceeded'):
    warnings.append('An audit found MORE leakage than the ledger says. The promise is false.')
  if not run.audit_is_noted:
    warnings.append('The ledger does not note these results: audit.json may have been changed.')
  claim = _of(found, 'claim')
  if run.ledger is not None and claim.get('rounds') != run.ledger.state.rounds:
    warnings.append(
      f'Audited after {short(claim.get("rounds"))} rounds; the ledger has '
      f'{run.ledger.state.rounds} now.'
    )
  sentences = element(
    'p',
    f'Promised when it was audited: epsilon {short(_number(claim.get("epsilon")))} at delta '
    f'{short(claim.get("delta"))}. Bounds and intervals at {short(found.get("confidence"))} '
    'confidence. A low result says that these attacks failed, no more.',
  )
  return joined([*(element('p', one, class_='warning') for one in warnings), sentences])


def _canaries(found: Any) -> Html:
  rows = [
    ('Lower bound, all models', epsilon_of('audit-lower', _number(_get(found, 'lower')))),
    ('Estimate from all models', short(_number(_get(found, 'all_iterates', 'epsilon')))),
    ('Estimate from the last model', short(_number(_get(found, 'final_model', 'epsilon')))),
    ('Lower bound by guessing, in one run', short(_number(_get(found, 'one_run', 'lower')))),
    ('Canaries drawn', short(_get(found, 'one_run', 'canaries'))),
    ('Rounds with them at full length', short(_get(found, 'rounds_at_full_length'))),
  ]
  return joined([element('h3', 'Canaries'), table(['Measured', 'epsilon, or number'], rows)])


def _membership(found: Any) -> Html:
  rows = []
  for name, attack in _items(found):
    if isinstance(attack, Mapping):
      rates = _items(attack.get('tpr_at'))
      at = '; '.join(f'{_interval(value)} at {float(rate):.1%} false' for rate, value in rates)
      rows.append((name.replace('_', ' '), _interval(attack.get('auc')), at))
  head = ['Membership attack', 'area under the curve', 'true positives']
  return joined([element('h3', 'Membership'), table(head, rows)])


def _memorization(found: Any) -> Html:
  rows = [
    (
      str(_get(row, 'model')),
      *(short(_get(row, kind, 'mean_bits')) for kind in ('clear', 'private')),
      short(_get(row, 'private', 'largest_bits')),
    )
    for row in (found if isinstance(found, list) else [])
  ]
  head = ['Exposure of a planted secret, in bits (1.44 is none)', 'in the clear', 'private', 'most']
  return joined([element('h3', 'Memorization'), table(head, rows)])


def _gallery(found: Any) -> Html:
  sentences = []
  for attack in found if isinstance(found, list) else []:
    mark = 'defended' if _get(attack, 'defended') is True else 'NOT DEFENDED'
    sentences.append(
      joined(
        [
          element('b', f'{_get(attack, "name")} ({mark}): '),
          f'{_get(attack, "attempt")}. Unprotected: {_get(attack, "unprotected")}. '
          f'Ours: {_get(attack, "ours")}.',
        ]
      )
    )
  return joined([element('h3', 'Attacks'), listed(sentences)])


def _of(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
  value = found.get(key)
  return value if isinstance(value, Mapping) else {}


def _items(found: Any) -> list[tuple[str, Any]]:
  return list(found.items()) if isinstance(found, Mapping) else []


def _get(found: Any, *keys: str) -> Any:
  for key in keys:
    found = found.get(key) if isinstance(found, Mapping) else None
  return found


def _number(value: Any) -> float:
  """An infinite number is the word inf in the file; NaN is what is missing."""
  try:
    return math.nan if value is None else float(value)
  except (TypeError, ValueError):
    return math.nan


def _interval(value: Any) -> str:
  if not isinstance(value, Mapping):
    return 'too few examples'
  low, high = short(value.get('low'), 3), short(value.get('high'), 3)
  return f'{short(value.get("value"), 3)} [{low}, {high}]'

"""Measurements of audits next to what the ledger promises."""

import math
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.accounting.budget import VIEWS
from tff_privacy_agg.ledger.card import risk
from tff_privacy_agg.reports.intervals import Measured, intervals
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
from tff_privacy_agg.reports.png_pictures import embedded
from tff_privacy_agg.reports.run_files import RunFiles

_CAPTIONS = {
  'inversion': 'What the attack reads off updates of clients that hold one picture each. From top to '
  'bottom: the truth; an update in the clear, clipped, with noise; sums of 2, 10 and 100 without '
  "noise; this package's noised sum of 100.",
  'malicious_server': "A server that singles one client out. From left to right: the client's "
  'picture; what an unprotected sum gives; what this package gives.',
}


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
  parts = [_verdict(run, found), _beside_the_promise(found)]
  for name, draw in (
    ('canaries', _canaries),
    ('membership', _membership),
    ('memorization', _memorization),
    ('gallery', _gallery),
  ):
    if name in found:
      parts.append(draw(found[name]))
  for name, content in run.pictures.items():
    caption = _CAPTIONS.get(name, f'Picture of the attack {name}.')
    parts.append(embedded(f'picture-{name}', content, caption))
  if run.pictures:
    remark = 'The pictures are files of the run directory. The ledger notes audit.json, not them.'
    parts.append(element('p', remark, class_='soft'))
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
  view, promise = claim.get('view'), ''
  if run.ledger is not None and view in VIEWS:
    promise = f' {risk.sentence(risk.attack_bounds(run.ledger, view))}.'
  sentences = element(
    'p',
    f'Promised when it was audited: epsilon {short(_number(claim.get("epsilon")))} at delta '
    f'{short(claim.get("delta"))}. Bounds and intervals at {short(found.get("confidence"))} '
    f'confidence. A low result says that these attacks failed, no more.{promise}',
  )
  return joined([*(element('p', one, class_='warning') for one in warnings), sentences])


def _beside_the_promise(found: Mapping[str, Any]) -> Html:
  """Epsilons that canaries showed, and areas of membership attacks, each with its interval."""
  figures = []
  canaries = found.get('canaries')
  if canaries is not None:
    rows = [
      _measured('all-models', 'all models', canaries, 'all_iterates', 'epsilon', 'lower', 'upper'),
      _measured('last-model', 'last model', canaries, 'final_model', 'epsilon', 'lower', 'upper'),
      _measured('one-run', 'guesses, one run', canaries, 'one_run', '', 'lower', ''),
    ]
    figures.append(
      intervals(
        'chart-measured',
        'Epsilon that canaries showed, with its interval, and the promise',
        rows,
        level=_number(_get(found, 'claim', 'epsilon')),
        level_name='promised',
        least=0.0,
      )
    )
  attacks = [(name, one) for name, one in _items(found.get('membership')) if _get(one, 'auc')]
  if attacks:
    rows = [
      _measured(f'auc-{name}', name.replace('_', ' '), one, 'auc', 'value', 'low', 'high')
      for name, one in attacks
    ]
    figures.append(
      intervals(
        'chart-membership',
        'Membership attacks: area under the curve, with its interval; 0.5 is guessing',
        rows,
        level=0.5,
        level_name='guessing',
        least=0.4,
      )
    )
  return element('div', *figures, class_='figures pair')


def _measured(
  key: str, name: str, found: Any, part: str, value: str, low: str, high: str
) -> Measured:
  numbers = (_number(_get(found, part, one)) for one in (value, low, high))
  return Measured(
    key=f'measured-{key}', name=name, **dict(zip(('value', 'low', 'high'), numbers, strict=True))
  )


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
      at = '; '.join(f'{_interval(value)} at {_number(rate):.1%} false' for rate, value in rates)
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

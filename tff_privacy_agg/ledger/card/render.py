"""The privacy card: what a ledger promises, on what it rests, and what it does not cover.

The fields and their order are those of "How to DP-fy ML" (arXiv:2303.00654, section
5.3) with this package's own facts; every field also names its heading in NIST SP
800-226. Every number names its origin: a formula and lines of the ledger.
"""

import dataclasses
import html
import json
import math
import textwrap
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card import field as statement_field, risk
from tff_privacy_agg.ledger.card.assumptions import assumptions
from tff_privacy_agg.ledger.card.field import Field
from tff_privacy_agg.ledger.card.practice import practised
from tff_privacy_agg.ledger.card.promise import promised
from tff_privacy_agg.ledger.card.summary import summary
from tff_privacy_agg.ledger.card.verifiability import verifiable

FORMATS = ('text', 'json', 'html')
_WIDTH = 96
_DP_FY = (
  statement_field.SETTING,
  statement_field.DEFINITION,
  statement_field.ACCOUNTING,
  statement_field.TRANSPARENCY,
)
# Headings of NIST SP 800-226 that a ledger cannot answer alone, and why.
_NIST = {
  'Epsilon': '',
  'Unit of privacy': '',
  'Trust model': '',
  'Algorithm correctness': '',
  'Side channels': '',
  'Utility and bias': 'Not in the ledger: accuracy, and its difference between groups, are in the '
  'metrics of the training.',
  'Security': 'Not in the ledger: who may read the clients, the server and this file.',
  'Data collection': 'Not in the ledger: how the clients came by their data, and their consent.',
  'Privacy hazards': '',
}
_STYLE = (
  'body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}'
  # Fixed columns: by their contents the one with the most text leaves the others a few letters.
  'table{border-collapse:collapse;width:100%;table-layout:fixed}th:first-child{width:20%}'
  'th:last-child{width:24%}td,th{border-top:1px solid #bbb;padding:.4em;text-align:left;'
  'vertical-align:top;overflow-wrap:break-word}small{color:#555}'
  '@media(max-width:40em){table,tbody,tr,th,td{display:block}thead{display:none}'
  'th:first-child{width:auto}td{border-top:0}}'
)


def render(record: LedgerAccount, format: str) -> str:
  """The card as 'text', 'json' or 'html'; see `LedgerRecord.statement`.

  Raises:
    ConfigurationError: If the format is none of them.
  """
  _validate.one_of(FORMATS, format=format)
  fields = [*promised(record), *practised(record), *verifiable(record)]
  if format == 'json':
    return json.dumps(_card(record, fields), indent=2, allow_nan=False) + '\n'
  return _text(record, fields) if format == 'text' else _html(record, fields)


def promises(record: LedgerAccount) -> list[str]:
  """One sentence for each view; no epsilon without its delta, unit and adjacency."""
  sentences = []
  for view, who in (
    ('server', 'Whoever runs the server as the protocol says and looks at all it receives'),
    ('release', 'Whoever sees the released models and metrics only'),
  ):
    spent = record.spent(view)
    terms = f'delta {rounded_up(spent.delta, 6)}; unit: one {record.facts.unit}; adjacency: {spent.adjacency}'
    if math.isinf(spent.epsilon):
      sentences.append(f'{who} ({view} view): epsilon is infinite, nothing is promised ({terms}).')
    else:
      sentences.append(f'{who} ({view} view): epsilon {rounded_up(spent.epsilon, 4)} ({terms}).')
      sentences.append(f'{risk.sentence(risk.attack_bounds(record, view))} ({view} view).')
  if record.budget is not None and record.state.threshold_broken:
    sentences.append(
      'A sum of fewer survivors than the threshold was opened: the budget no longer bounds what was '
      'spent, and the epsilons above count what happened.'
    )
  if not record.complete:
    sentences.append(
      'NOT COMPLETE: these numbers leave out what is listed under "releases", so they do not bound '
      'what the clients revealed.'
    )
  return sentences


def _card(record: LedgerAccount, fields: list[Field]) -> dict[str, Any]:
  return {
    'privacy_card': 1,
    'summary': summary(record),
    'promises': promises(record),
    'complete': record.complete,
    'unaccounted': list(record.unaccounted),
    'fields': [{**dataclasses.asdict(field), 'value': _finite(field.value)} for field in fields],
    'assumptions': assumptions(record),
    'how_to_dp_fy_ml': {
      heading: [field.name for field in fields if field.how_to == heading] for heading in _DP_FY
    },
    'nist_sp_800_226': {heading: _nist(heading, fields) for heading in _NIST},
  }


def _nist(heading: str, fields: list[Field]) -> list[str] | str:
  return [field.name for field in fields if field.nist == heading] or _NIST[heading]


def _finite(value: Any) -> Any:
  if isinstance(value, dict):
    return {str(key): _finite(inner) for key, inner in value.items()}
  if isinstance(value, float) and not math.isfinite(value):
    return 'inf' if value > 0 else None
  return value


def _text(record: LedgerAccount, fields: list[Field]) -> str:
  lines = ['PRIVACY CARD', '']
  if record.facts.task:  # it says how sums are made, which the promises rest on
    lines += [*_wrapped(record.facts.task, ''), '']
  lines += [*_wrapped(summary(record), ''), '']
  for sentence in promises(record):
    lines += _wrapped(sentence, '* ')
  for field in fields:
    lines += ['', f'{field.label}  [DP-fy {field.how_to}; NIST: {field.nist}]']
    lines += _wrapped(field.text, '  ')
    lines += _wrapped(f'origin: {field.origin}', '  ')
  lines += ['', 'Assumptions']
  for sentence in assumptions(record):
    lines += _wrapped(sentence, '* ')
  lines += ['', 'NIST SP 800-226']
  for heading in _NIST:
    found = _nist(heading, fields)
    answer = found if isinstance(found, str) else 'see ' + ', '.join(_labels(found, fields))
    lines += _wrapped(f'{heading}: {answer}', '* ')
  return '\n'.join(lines) + '\n'


def _labels(names: list[str], fields: list[Field]) -> list[str]:
  return [field.label for field in fields if field.name in names]


def _wrapped(text: str, first: str) -> list[str]:
  rest = ' ' * len(first)
  return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest)


def _html(record: LedgerAccount, fields: list[Field]) -> str:
  def items(sentences: list[str]) -> str:
    return '<ul>' + ''.join(f'<li>{html.escape(text)}</li>' for text in sentences) + '</ul>'

  rows = ''.join(
    f'<tr id="{field.name}"><th scope="row">{html.escape(field.label)}</th>'
    f'<td>{html.escape(field.text)}<br><small>{html.escape(field.origin)}</small></td>'
    f'<td><small>{html.escape(field.how_to)}<br>{html.escape(field.nist)}</small></td></tr>\n'
    for field in fields
  )
  nist = []
  for heading in _NIST:
    found = _nist(heading, fields)
    answer = found if isinstance(found, str) else 'see ' + ', '.join(_labels(found, fields))
    nist.append(f'{heading}: {answer}')
  return (
    '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Privacy card</title>'
    f'<style>{_STYLE}</style></head><body>\n<h1>Privacy card</h1>\n<p>{html.escape(record.facts.task)}</p>\n'
    f'<p id="summary">{html.escape(summary(record))}</p>\n{items(promises(record))}\n'
    '<table><thead><tr><th scope="col">Field</th><th scope="col">Finding and its origin</th>'
    f'<th scope="col">How to DP-fy ML; NIST SP 800-226</th></tr></thead>\n<tbody>{rows}</tbody>'
    f'</table>\n<h2>Assumptions</h2>\n{items(assumptions(record))}\n'
    f'<h2>NIST SP 800-226</h2>\n{items(nist)}\n</body></html>\n'
  )

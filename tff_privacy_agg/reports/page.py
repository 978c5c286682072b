"""The whole page: one HTML file that needs no script, no network and no other file."""

import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import tff_privacy_agg
from tff_privacy_agg._files import write_bytes
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.ledger.card import risk
from tff_privacy_agg.reports import audits, parties, rounds, traffic
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
from tff_privacy_agg.reports.style import STYLE

_IN_THE_CLEAR = (
  'The sums of this run were simulated in the clear, on one machine: what is said of the server view '
  'holds once a runtime makes them secure.'
)
# Nothing may be loaded, run or sent, whatever a file of the run holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def render_report(
  path: str | os.PathLike[str], *, beside: str | os.PathLike[str] | None = None
) -> str:
  """The report of a run directory as one HTML document.

  Args:
    path: The run directory; its ledger is verified first.
    beside: Another run to compare its utility with, such as one without privacy.

  Raises:
    ConfigurationError: If a directory holds no training.
    LedgerError: If a ledger does not verify.
  """
  run = RunFiles.read(path)
  other = None if beside is None else RunFiles.read(beside)
  parts = [
    _top(run),
    rounds.spending(run),
    rounds.utility(run, other),
    parties.parties(run),
    _assumed(run.card),
    rounds.layers(run),
    traffic.traffic(run),
    audits.audits(run),
    _card(run.card),
    _origin(run),
  ]
  head = (
    '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
  )
  title = element('title', f'Privacy report: {run.path.resolve().name}')
  return (
    f'<!DOCTYPE html>\n<html lang="en"><head>{head}{title}<style>{STYLE}</style></head>\n'
    f'<body>{element("main", joined(parts))}</body></html>\n'
  )


def write_report(
  path: str | os.PathLike[str],
  to: str | os.PathLike[str] | None = None,
  *,
  beside: str | os.PathLike[str] | None = None,
) -> pathlib.Path:
  """Writes the report; arguments as for `render_report`.

  Args:
    path: The run directory.
    to: The file; `report.html` in the run directory by default.
    beside: Another run.

  Returns:
    Where it was written.

  Raises:
    ConfigurationError: As `render_report`; or if the folder of the file is missing.
    LedgerError: As `render_report`.
  """
  file = pathlib.Path(path) / 'report.html' if to is None else pathlib.Path(to)
  if to is not None and not file.parent.is_dir():
    raise ConfigurationError(
      f'Cannot write the report {file}: there is no folder {file.parent}. Make it, or name another '
      'file.'
    )
  write_bytes(file, render_report(path, beside=beside).encode('utf-8'))
  return file


def _top(run: RunFiles) -> Html:
  heading = element('h1', 'Privacy report')
  if run.ledger is None or run.card is None:
    text = 'This training has no privacy: epsilon is infinite. It is of use for comparison only.'
    return element('header', heading, element('p', text, class_='warning', id='promises'))
  facts, state = run.ledger.facts, run.ledger.state
  clear = run.config.get('secure_sum') == 'simulated'
  server_view = 'Epsilon, server view' + (', once sums are secure' if clear else '')
  cards = [
    _epsilon(run.ledger, 'server', server_view),
    _epsilon(run.ledger, 'release', 'Epsilon, release view'),
    _figure(
      'Delta', element('data', rounded_up(facts.delta, 6), id='delta', value=repr(facts.delta))
    ),
    _figure('Rounds charged', element('data', state.rounds, id='rounds', value=state.rounds)),
    *_quality(run),
  ]
  parts = [
    heading,
    element('p', f'{facts.task or "A training"}; {counted(facts.population, "client", spec=",")}.'),
  ]
  if clear:
    parts.append(element('p', _IN_THE_CLEAR, class_='warning', id='in-the-clear'))
  parts += [
    element('div', *cards, class_='cards'),
    element('p', run.card['summary'], id='summary'),
    element('div', listed(run.card['promises']), id='promises'),
  ]
  if not run.ledger.complete:
    what = ', '.join(run.ledger.unaccounted)
    parts.append(element('p', f'NOT COMPLETE: these epsilons leave out: {what}.', class_='warning'))
  return element('header', *parts)


def _epsilon(ledger: LedgerRecord, view: str, name: str) -> Html:
  """An epsilon, and what it means: how many an attacker recognises at most."""
  value = epsilon_of(f'epsilon-{view}', ledger.epsilon(view))
  bound = risk.attack_bounds(ledger, view)[0.01]
  line = f'attacker: at most {risk.percent(bound)} recognised at 1% wrongly accused'
  return element(
    'div', element('b', value), element('span', name), element('small', line), class_='card'
  )


def _quality(run: RunFiles) -> list[Html]:
  cards = []
  for name in run.measured():
    if name != 'loss':
      _, value = run.column(name)[-1]
      text = f'{100 * value:.1f} %' if name == 'accuracy' else short(value)
      cards.append(_figure(f'{name[:1].upper()}{name[1:]}, held-out', text))
  return cards


def _figure(name: str, value: object) -> Html:
  return element('div', element('b', value), element('span', name), class_='card')


def _assumed(card: Mapping[str, Any] | None) -> Html:
  if card is None:
    return section('assumptions', 'Assumptions', element('p', 'None: nothing is promised.'))
  return section(
    'assumptions',
    'What must hold for the epsilons to hold',
    listed(card['assumptions']),
  )


def _card(card: Mapping[str, Any] | None) -> Html:
  if card is None:
    return section('card', 'Privacy card', element('p', 'A training without noise has none.'))
  rows = [
    (field['label'], joined([element('div', field['text']), element('small', field['origin'])]))
    for field in card['fields']
  ]
  nist = [
    (heading, found if isinstance(found, str) else _labels(found, card['fields']))
    for heading, found in card['nist_sp_800_226'].items()
  ]
  return section(
    'card',
    'Privacy card',
    table(['Field', 'finding and its origin'], rows),
    element('h3', 'Where NIST SP 800-226 asks'),
    table(['Heading', 'answer'], nist),
  )


def _labels(names: list[str], fields: list[dict]) -> str:
  return 'see ' + ', '.join(field['label'] for field in fields if field['name'] in names)


def _origin(run: RunFiles) -> Html:
  rows: list[tuple[object, object]] = []
  if run.ledger is not None:
    rows = [(name, version) for name, version in run.ledger.header['versions'].items()]
    rows.append(
      ('Hash of the ledger', element('span', run.ledger.hash, id='ledger-hash', class_='hash'))
    )
    rows.append(('Ledger', 'verified line by line when this report was written'))
  asked = [(key, 'not set' if one is None else short(one, 12)) for key, one in _flat(run.config)]
  rows.append(('Report', f'tff_privacy_agg {tff_privacy_agg.__version__}'))
  return section(
    'origin',
    'Where this comes from',
    table(['Software and evidence', ''], rows),
    element('h3', 'Options of the run'),
    table(['Option', 'value'], asked),
    *_every_round(run),
  )


def _flat(config: Mapping[str, object]) -> list[tuple[str, object]]:
  return [(key, one) for key, one in sorted(config.items()) if not isinstance(one, dict)]


def _every_round(run: RunFiles) -> list[Html]:
  if run.ledger is None:
    return []
  rows = [
    (
      one.round_number,
      *(
        'infinite' if math.isinf(one.epsilon[view]) else rounded_up(one.epsilon[view], 6)
        for view in ('server', 'release')
      ),
      'charged at the worst' if one.survivors is None else one.survivors,
      short(one.noise_multiplier),
      'yes' if one.accepted else 'no',
    )
    for one in run.totals
  ]
  head = ['Round', 'epsilon, server', 'release', 'survivors', 'noise multiplier', 'accepted']
  summary = element('summary', 'Every charged round as a table')
  return [element('details', summary, table(head, rows), id='every-round')]

"""The rounds one by one: epsilon, survivors, utility, what the layers did."""

import math
import re

from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.reports import noise
from tff_privacy_agg.reports.charts import Line, chart
from tff_privacy_agg.reports.markup import Html, element, joined, section, short, table
from tff_privacy_agg.reports.run_files import RunFiles, Total

_NOISE_OPTIONS = {
  'noise_multiplier',
  'mechanism',
  'bits',
  'target_epsilon',
  'planned_rounds',
  'participation_cap',
  'metrics',
  'randomness',
}


_SPENDING = 'Epsilon and clients over the rounds'


def spending(run: RunFiles) -> Html:
  """Epsilon over the charged rounds, by view, with the budget; who took part to the end."""
  if run.ledger is None:
    return section('spending', _SPENDING, element('p', 'No ledger: neither is recorded.'))
  lines, remarks = [], []
  for style, view in enumerate(('server', 'release')):
    points = [(float(one.number), one.epsilon[view]) for one in run.totals]
    finite = [point for point in points if math.isfinite(point[1])]
    lines.append(Line(name=f'{view} view', points=finite, style=style))
    if len(finite) < len(points):
      remarks.append(f'In the {view} view epsilon is infinite: nothing is promised.')
  budget = run.ledger.budget
  if budget is not None:
    remarks.append(
      f'Budget: epsilon {budget.epsilon:g} at delta {rounded_up(budget.delta, 6)}, {budget.view} view.'
    )
    if budget.delta != run.ledger.facts.delta:
      remarks.append(
        f'The curves are at delta {rounded_up(run.ledger.facts.delta, 6)}, not at that of the budget.'
      )
  else:
    remarks.append('No budget was set.')
  epsilons = chart(
    'chart-epsilon',
    f'Epsilon of one {run.ledger.facts.unit} at delta {rounded_up(run.ledger.facts.delta, 6)}',
    lines,
    x='charged rounds',
    limit=None if budget is None else budget.epsilon,
  )
  return section(
    'spending',
    _SPENDING,
    element('div', epsilons, _clients(run.totals), class_='figures'),
    element('p', ' '.join([*remarks, _counts(run.totals, run.ledger.state.unsettled)])),
  )


def _clients(totals: tuple[Total, ...]) -> Html:
  """Who took part to the end."""
  planned = [(float(one.number), float(one.planned)) for one in totals if one.planned]
  counts = [
    (float(one.number), float(one.survivors)) for one in totals if one.survivors is not None
  ]
  lines = [Line(name='survivors', points=counts), Line(name='planned', points=planned, style=1)]
  return chart('chart-survivors', 'Clients in the sum of a round', lines, x='charged rounds')


def _counts(totals: tuple[Total, ...], unsettled: int) -> str:
  """How the rounds ended, in a sentence."""
  settled = [one for one in totals if one.survivors is not None]
  dropped = sum(max(one.planned - (one.survivors or 0), 0) for one in settled if one.planned)
  refused = sum(not one.accepted for one in settled)
  return (
    f'Rounds: {len(totals)} charged, {len(settled)} settled, {unsettled} charged at the worst and never '
    f'settled, {refused} seen by the server and not taken by the model. Planned clients that dropped '
    f'out, all rounds: {dropped}.'
  )


def utility(run: RunFiles, beside: RunFiles | None) -> Html:
  """Utility of the model, compared with another run."""
  figures = []
  own = 'this run' if run.ledger else 'this run, no privacy'
  for name in run.measured():
    lines = [Line(name=own, points=_points(run, name))]
    if beside is not None:
      other = 'the other run' if beside.ledger else 'without privacy'
      lines.append(Line(name=other, points=_points(beside, name), style=1))
    key = re.sub(r'\W', '-', name)
    figures.append(chart(f'chart-{key}', _title(name), lines, x='round'))
  content: list[Html] = [element('div', *figures, class_='figures')]
  if not figures:
    content = [element('p', 'The metrics of this run hold nothing that was measured of the model.')]
  if beside is not None:
    content.append(_compared(run, beside))
  return section('utility', 'Utility', *content)


def _title(name: str) -> str:
  """Title of a metric of the model, with its unit."""
  unit = ', %' if name == 'accuracy' else ''
  return f'{name[:1].upper()}{name[1:]} on held-out examples{unit}'


def _points(run: RunFiles, name: str) -> list[tuple[float, float]]:
  """A metric of the model by round, in the unit of its title."""
  scale = 100 if name == 'accuracy' else 1
  return [(x, scale * y) for x, y in run.column(name)]


def _compared(run: RunFiles, beside: RunFiles) -> Html:
  rows = []
  for name in run.measured():
    ends = [_points(one, name)[-1:] for one in (run, beside)]
    if all(ends):
      here, there = ends[0][0][1], ends[1][0][1]
      rows.append((_title(name), short(here), short(there), short(here - there)))
  other = {
    key
    for key in {*run.config, *beside.config} - _NOISE_OPTIONS
    if run.config.get(key) != beside.config.get(key)
  }
  remark = (
    f'Not a like for like comparison: the two runs differ in {", ".join(sorted(other))}, too.'
    if other
    else 'The two runs differ in their privacy only. One run each: the noise of a single run can '
    'be as large as the difference.'
  )
  made = table(['After the last round', 'this run', 'the other', 'difference'], rows)
  return joined([made, element('p', remark, id='comparison', class_='soft')])


def layers(run: RunFiles) -> Html:
  """Clip norm, large updates, noise and wrap-around, as far as the files tell."""
  figures = [
    chart(
      'chart-clip',
      'Clip norm: length to which an update is cut',
      [Line(name='clip norm', points=run.column('clipping/norm'))],
      x='round',
    ),
    chart(
      'chart-large',
      'Fraction of clients (noised) whose update is above a limit',
      [
        Line(name='the clip norm', points=_above(run.column('clipping/below'))),
        Line(name='the outlier quantile', points=run.column('zeroing/above'), style=1),
      ],
      x='round',
    ),
  ]
  remarks = [
    'Of the updates above the outlier quantile, those above the zeroing threshold were replaced by '
    'zeros. Both fractions carry noise of their own, as the account counts them.'
  ]
  if run.ledger is not None and run.ledger.facts.stack['integer_design'] is not None:
    of_noise, said = noise.charts(run, run.ledger)
    figures += of_noise
    remarks += said
  return section(
    'layers',
    'What the layers did',
    element('div', *figures, class_='figures'),
    element('p', ' '.join(remarks)),
  )


def _above(below: list[tuple[float, float]]) -> list[tuple[float, float]]:
  return [(x, 1 - y) for x, y in below]

"""Measured values with their intervals next to what was promised, as inline SVG."""

import dataclasses
import math
from collections.abc import Callable, Sequence

from tff_privacy_agg.reports import drawing
from tff_privacy_agg.reports.charts import ticks
from tff_privacy_agg.reports.markup import Html, element, short

_WIDTH, _NAMES, _VALUES, _ROW, _TOP, _BOTTOM = 620, 150, 160, 30, 30, 26


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
  """One row of the picture.

  Attributes:
    key: Identity of its number.
    name: In words.
    value: The estimate, drawn as a point; NaN for none, infinite as an arrow.
    low: Lower end of its interval; NaN for none.
    high: Upper end; as above.
  """

  key: str
  name: str
  value: float = math.nan
  low: float = math.nan
  high: float = math.nan


def intervals(
  key: str, title: str, rows: Sequence[Measured], *, level: float, level_name: str, least: float
) -> Html:
  """Points and intervals on one axis, and a level across all of them.

  Args:
    key: Identity of the figure.
    title: Caption.
    rows: Those without any number are left out.
    level: What the rows are compared with; infinite draws none.
    level_name: Its name.
    least: Where the axis begins, or lower if a number is.
  """
  rows = [row for row in rows if not all(map(math.isnan, (row.value, row.low, row.high)))]
  if not rows:
    return element('p', f'{title}: not in the files of this run.', class_='missing')
  numbers = [one for row in rows for one in (row.value, row.low, row.high, level)]
  finite = [one for one in numbers if math.isfinite(one)]
  marks = ticks(min([least, *finite]), max([least, *finite]))
  end, height = _WIDTH - _VALUES, _TOP + _ROW * len(rows) + _BOTTOM

  def across(number: float) -> float:
    share = (min(number, marks[-1]) - marks[0]) / (marks[-1] - marks[0])
    return _NAMES + share * (end - _NAMES)

  parts: list[Html] = []
  for mark in marks:
    parts.append(drawing.line('grid', across(mark), _TOP, across(mark), height - _BOTTOM))
    parts.append(drawing.text(across(mark), height - 8, f'{mark:.5g}', 'middle'))
  for number, row in enumerate(rows):
    parts += _row(row, _TOP + _ROW * (number + 0.5), across)
  if math.isfinite(level):
    parts.append(drawing.line('limit', across(level), _TOP - 8, across(level), height - _BOTTOM))
    side = 'end' if across(level) > (_NAMES + end) / 2 else 'start'
    parts.append(drawing.text(across(level), _TOP - 12, f'{level_name} {short(level)}', side))
  said = '; '.join(f'{row.name} {_said(row)}' for row in rows)
  told = f'{title}: {said}. {level_name} {short(level)}.'
  return drawing.figure(key, title, drawing.svg(told, parts, _WIDTH, height))


def _row(row: Measured, y: float, across: Callable[[float], float]) -> list[Html]:
  parts = [drawing.text(_NAMES - 8, y + 4, row.name, 'end')]
  ends = [one for one in (row.low, row.high) if not math.isnan(one)]
  if len(ends) == 2:
    parts.append(drawing.line('line style0', across(ends[0]), y, across(ends[1]), y))
  for one, mouth in ((row.low, 5), (row.high, -5)):
    if not math.isnan(one):  # a bracket that opens to the side where the value may be
      x = across(one)
      path = f'M{x + mouth:.1f},{y - 7:.1f}H{x:.1f}V{y + 7:.1f}H{x + mouth:.1f}'
      parts.append(element('path', d=path, class_='line style0'))
  if not math.isnan(row.value):
    x = across(row.value)
    parts.append(element('circle', cx=f'{x:.1f}', cy=f'{y:.1f}', r=5, class_='mark style1'))
  parts.append(
    element(
      'text',
      _said(row),
      id=row.key,
      class_='measured',
      x=_WIDTH - _VALUES + 10,
      y=f'{y + 4:.1f}',
      data_value=repr(row.value),
      data_low=repr(row.low),
      data_high=repr(row.high),
    )
  )
  return parts


def _said(row: Measured) -> str:
  if math.isnan(row.value):
    return f'at least {short(row.low, 3)}'
  if math.isnan(row.low) or math.isnan(row.high):
    return short(row.value, 3)
  return f'{short(row.value, 3)} [{short(row.low, 3)}, {short(row.high, 3)}]'

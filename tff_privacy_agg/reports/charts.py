"""Line charts as inline SVG: told apart by dashes and markers, not by colour alone."""

import dataclasses
import itertools
import math
from collections.abc import Sequence

from tff_privacy_agg.reports import drawing
from tff_privacy_agg.reports.markup import Html, element

_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 36
_MOST_MARKERS = 12
Points = Sequence[tuple[float, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
  """One line of a chart.

  Attributes:
    name: In the legend.
    points: x and y, finite.
    style: 0 to 2: its colour, dashes and marker.
  """

  name: str
  points: Points
  style: int = 0


def chart(
  key: str, title: str, lines: Sequence[Line], *, x: str, limit: float | None = None
) -> Html:
  """A chart with its axes from the data; y begins at zero or below.

  Args:
    key: Identity of the figure.
    title: Caption, with the unit of y.
    lines: At most 3; those without points are left out.
    x: Name of the x axis.
    limit: A level to draw across, named 'budget'.
  """
  lines = [line for line in lines if line.points]
  if not lines:
    return element('p', f'{title}: not in the files of this run.', class_='missing')
  xs = [point[0] for line in lines for point in line.points]
  ys = [point[1] for line in lines for point in line.points] + ([] if limit is None else [limit])
  low_x, high_x = min(xs), max(xs)
  y_ticks = ticks(min(0.0, *ys), max(ys))
  span_x, span_y = (high_x - low_x) or 1.0, y_ticks[-1] - y_ticks[0]

  def across(value: float) -> float:
    return _LEFT + (value - low_x) / span_x * (_WIDTH - _LEFT - _RIGHT)

  def down(value: float) -> float:
    return _HEIGHT - _BOTTOM - (value - y_ticks[0]) / span_y * (_HEIGHT - _TOP - _BOTTOM)

  parts: list[Html] = []
  for tick in y_ticks:
    parts.append(drawing.line('grid', _LEFT, down(tick), _WIDTH - _RIGHT, down(tick)))
    parts.append(drawing.text(_LEFT - 6, down(tick) + 4, f'{tick:.5g}', anchor='end'))
  whole = [tick for tick in ticks(low_x, high_x) if low_x <= tick <= high_x and tick % 1 == 0]
  for tick in whole or [low_x]:
    parts.append(drawing.text(across(tick), _HEIGHT - _BOTTOM + 16, f'{tick:.5g}', anchor='middle'))
  parts.append(drawing.text((_LEFT + _WIDTH) / 2, _HEIGHT - 4, x, anchor='middle'))
  if limit is not None:
    parts.append(drawing.line('limit', _LEFT, down(limit), _WIDTH - _RIGHT, down(limit)))
    parts.append(
      drawing.text(_WIDTH - _RIGHT, down(limit) - 5, f'budget {limit:.4g}', anchor='end')
    )
  for line in lines:
    places = _thinned([(across(a), down(b)) for a, b in line.points])
    path = 'M' + 'L'.join(f'{a:.1f},{b:.1f}' for a, b in places)
    parts.append(element('path', d=path, class_=f'line style{line.style}'))
    every = math.ceil(len(places) / _MOST_MARKERS)
    parts += [_marker(line.style, *place) for place in places[::every]]
  start = _LEFT
  for line in lines:
    parts.append(drawing.line(f'line style{line.style}', start, 14, start + 30, 14))
    parts.append(_marker(line.style, start + 15, 14))
    parts.append(drawing.text(start + 36, 18, line.name))
    start += 52 + 7 * len(line.name)
  last = '; '.join(f'{line.name} ends at {line.points[-1][1]:.4g}' for line in lines)
  picture = drawing.svg(f'{title}: {last}', parts, _WIDTH, _HEIGHT)
  return drawing.figure(key, title, picture)


def ticks(low: float, high: float) -> list[float]:
  """Round numbers from at most `low` to at least `high`."""
  if high <= low:
    high = low + (abs(low) or 1.0)
  rough = (high - low) / 4
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
  first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
  return [number * step for number in range(first, last + 1)]


def _thinned(places: Points) -> Points:
  """Of the places in one pixel's width the first, the highest, the lowest and the last."""
  kept: list[tuple[float, float]] = []
  for _, group in itertools.groupby(enumerate(places), lambda one: round(one[1][0])):
    column = list(group)
    by_height = sorted(column, key=lambda one: one[1][1])
    chosen = dict([column[0], by_height[0], by_height[-1], column[-1]])
    kept += [chosen[number] for number in sorted(chosen)]
  return kept


def _marker(style: int, x: float, y: float) -> Html:
  if style == 0:
    return element('circle', cx=f'{x:.1f}', cy=f'{y:.1f}', r=3.5, class_='mark style0')
  if style == 1:
    return element(
      'rect', x=f'{x - 3:.1f}', y=f'{y - 3:.1f}', width=6, height=6, class_='mark style1'
    )
  corners = f'{x:.1f},{y - 4.5:.1f} {x + 4:.1f},{y + 3:.1f} {x - 4:.1f},{y + 3:.1f}'
  return element('polygon', points=corners, class_='mark style2')

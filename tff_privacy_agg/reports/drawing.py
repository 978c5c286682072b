"""Pieces of inline SVG that the pictures of a report share."""

from collections.abc import Iterable

from tff_privacy_agg.reports.markup import Html, element, joined


def svg(said: str, parts: Iterable[object], width: int, height: int, **attributes: object) -> Html:
  """An SVG of its own; what it shows is also said in words, for those who do not see it."""
  return element(
    'svg',
    element('title', said),
    joined(parts),
    viewBox=f'0 0 {width} {height}',
    role='img',
    **attributes,
    xmlns='http://www.w3.org/2000/svg',
  )


def figure(key: str, caption: str, picture: Html, **attributes: object) -> Html:
  """A picture under its title."""
  return element('figure', element('figcaption', caption), picture, id=key, **attributes)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Html:
  """A straight line of a class of the style sheet."""
  return element(
    'line', class_=kind, x1=f'{x1:.1f}', y1=f'{y1:.1f}', x2=f'{x2:.1f}', y2=f'{y2:.1f}'
  )


def text(x: float, y: float, content: str, anchor: str = 'start') -> Html:
  """A line of text that begins, ends or has its middle at a place."""
  return element('text', content, x=f'{x:.1f}', y=f'{y:.1f}', text_anchor=anchor)

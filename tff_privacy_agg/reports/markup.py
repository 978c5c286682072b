"""Pieces of HTML; every text that comes from a file is escaped here."""

import html
import math
from collections.abc import Iterable, Sequence

from tff_privacy_agg.ledger.card.field import rounded_up

_VOID = ('img',)  # elements without content and end


class Html(str):
  """Text that is markup already; everything else is escaped."""

  __slots__ = ()


def escaped(content: object) -> Html:
  """Content as markup."""
  return content if isinstance(content, Html) else Html(html.escape(str(content)))


def joined(parts: Iterable[object]) -> Html:
  """Contents one after the other."""
  return Html('\n'.join(escaped(part) for part in parts))


def element(name: str, *content: object, **attributes: object) -> Html:
  """An element; an underscore at the end of an attribute's name is dropped."""
  written = ''.join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
  )
  if name in _VOID:
    return Html(f'<{name}{written}>')
  return Html(f'<{name}{written}>{"".join(escaped(part) for part in content)}</{name}>')


def section(key: str, title: str, *content: object) -> Html:
  """A part of the page with its heading."""
  return element('section', element('h2', title), joined(content), id=key)


def listed(sentences: Iterable[object]) -> Html:
  """A list of sentences."""
  return element('ul', *(element('li', sentence) for sentence in sentences))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Html:
  """A table whose first column names the rows. Wide ones scroll on their own."""
  body = [
    element('tr', element('th', row[0], scope='row'), *(element('td', cell) for cell in row[1:]))
    for row in rows
  ]
  columns = element('tr', *(element('th', name, scope='col') for name in head))
  made = element('table', element('thead', columns), element('tbody', joined(body)))
  return element('div', made, class_='scrolls', tabindex=0, role='region', aria_label=head[0])


def epsilon_of(key: str, value: float) -> Html:
  """An epsilon for readers, rounded up, and in full for machines."""
  shown = 'infinite' if math.isinf(value) else rounded_up(value, 4)
  return element('data', shown, id=key, value=repr(value))


def short(value: object, digits: int = 4) -> str:
  """A number in a few digits; a word for what is none."""
  if isinstance(value, bool) or not isinstance(value, int | float):
    return 'not stated' if value is None else str(value)
  if math.isnan(value):
    return 'not stated'
  return f'{value:,}' if isinstance(value, int) else f'{value:.{digits}g}'

"""Fields of the privacy card, and the formatting of their numbers."""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.ledger.account import LedgerAccount

# Headings of "How to DP-fy ML" (arXiv:2303.00654), section 5.3.
SETTING, DEFINITION = '1 DP setting', '2 DP definition'
ACCOUNTING, TRANSPARENCY = '3 Privacy accounting', '4 Transparency and verifiability'
HEADER = 'ledger line 1'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
  """One field of the card.

  Attributes:
    name: Key.
    label: What a reader sees.
    value: JSON values, and floats that may be infinite.
    text: The value in a sentence.
    origin: Formula and ledger lines that it comes from.
    how_to: Heading of "How to DP-fy ML".
    nist: Heading of NIST SP 800-226.
  """

  name: str
  label: str
  value: Any
  text: str
  origin: str
  how_to: str
  nist: str


def field(
  name: str, label: str, value: Any, origin: str, how_to: str, nist: str, text: str | None = None
) -> Field:
  """A field; its text is the value itself if none is given."""
  if text is None:
    shown = value if isinstance(value, dict) else {'': value}
    text = ', '.join(f'{key} {inner}'.strip() for key, inner in shown.items())
  return Field(
    name=name, label=label, value=value, text=text, origin=origin, how_to=how_to, nist=nist
  )


def spread(values: Sequence[float]) -> dict[str, float | None]:
  """Minimum, median and maximum; None if there are no values."""
  if not values:
    return {'minimum': None, 'median': None, 'maximum': None}
  return {
    'minimum': min(values),
    'median': statistics.median(values),
    'maximum': max(values),
  }


def spread_text(found: dict[str, float | None]) -> str:
  """The same in words."""
  parts = [f'{key} {value:.6g}' for key, value in found.items() if value is not None]
  return ', '.join(parts) or 'no round has settled'


def range_text(numbers: Sequence[int | None]) -> str:
  """The least and the largest of the numbers that are there, in words."""
  least, most = min(filter(None, numbers)), max(filter(None, numbers))
  return f'{least}' if least == most else f'{least} to {most}'


def rows_of(record: LedgerAccount) -> str:
  """Positions of the rounds in the file, as ranges of lines."""
  settled = [one.seq + 1 for one in record.state.settled]
  waiting = [seq + 1 for seq in record.state.open]
  parts = []
  if settled:
    parts.append(f'settled in ledger lines {_ranges(settled)}')
  if waiting:
    parts.append(f'charged at the worst in ledger lines {_ranges(waiting)}')
  if record.state.recovered:
    parts.append(f'{counted(len(record.state.recovered), "line")} cut off')
  return ', '.join(parts) or 'no round'


def _ranges(lines: list[int]) -> str:
  first, last = min(lines), max(lines)
  if len(lines) <= 8:
    return ', '.join(map(str, sorted(lines)))
  return f'{first} to {last} ({len(lines)} of them)'

"""A CSV file read strictly: its whole structure is checked before a cell is used.

What a lenient reader would drop, double or cut decides who a client is, and so what epsilon protects.
"""

import csv
import io
import pathlib
from collections import Counter
from collections.abc import Mapping

from tff_privacy_agg._files import read_bounded
from tff_privacy_agg.errors import ConfigurationError

_LARGEST = 2**30

_OTHER_SEPARATORS = {';': 'semicolons', '\t': 'tabs', '|': 'vertical bars'}
_BYTE_ORDER_MARKS = {b'\xff\xfe': 'UTF-16', b'\xfe\xff': 'UTF-16'}


def rows(path: pathlib.Path) -> list[tuple[str, Mapping[str, str]]]:
  """The rows of a file by the names of its header, each with its place.

  Args:
    path: Of a CSV file in UTF-8, with commas and one header line.

  Raises:
    ConfigurationError: If it cannot be read, or a line does not fit its header.
  """
  lines = _lines(path)
  if not lines:
    raise _refused(path, 'it is empty', 'Name a file with a header and rows below it')
  (place, header), *body = lines
  _check_header(path, header)
  for place, cells in body:
    if len(cells) != len(header):
      raise _refused(
        path,
        f'{place} has {len(cells)} fields, the header {len(header)}',
        'Quote fields that hold a comma, such as "3,5", and write numbers with a point',
      )
  return [(place, dict(zip(header, cells, strict=True))) for place, cells in body]


def _lines(path: pathlib.Path) -> list[tuple[str, list[str]]]:
  try:
    content = read_bounded(path, _LARGEST)
    mark = _BYTE_ORDER_MARKS.get(content[:2])
    if mark is not None:
      raise _refused(path, f'it is in {mark}', 'Save it in UTF-8')
    text = content.decode('utf-8-sig')
  except OSError as error:
    raise _refused(path, error.strerror, 'Name a file with a header, or `digits`') from error
  except UnicodeDecodeError as error:
    raise _refused(path, f'it is not in UTF-8: {error}', 'Save it in UTF-8') from error
  if '\0' in text:
    raise _refused(path, 'it holds zero bytes, as no text does', 'Save it as CSV in UTF-8')
  reader = csv.reader(io.StringIO(text, newline=''), strict=True)
  found = []
  try:
    for cells in reader:
      if cells:
        found.append((f'line {reader.line_num} of {path}', cells))
  except csv.Error as error:
    raise _refused(
      path, f'line {reader.line_num}: {error}', 'Close each quote, and double quotes inside of one'
    ) from error
  return found


def _check_header(path: pathlib.Path, header: list[str]) -> None:
  if len(header) == 1:
    for separator, named in _OTHER_SEPARATORS.items():
      if separator in header[0]:
        raise _refused(path, f'its fields are separated by {named}', 'Separate them by commas')
  blank = [number for number, name in enumerate(header, start=1) if not name.strip()]
  if blank:
    raise _refused(path, f'column {blank[0]} has no name', 'Name each column in the first line')
  padded = [name for name in header if name != name.strip()]
  if padded:
    raise _refused(path, f'column {padded[0]!r} has blanks around its name', 'Remove them')
  twice = [name for name, times in Counter(header).items() if times > 1]
  if twice:
    raise _refused(path, f'column {twice[0]!r} is there twice', 'Rename or remove one of them')


def _refused(path: pathlib.Path, found: str, fix: str) -> Exception:
  return ConfigurationError(f'The CSV file {path} cannot be used: {found}. {fix}.')

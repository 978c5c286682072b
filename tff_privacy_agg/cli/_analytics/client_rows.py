"""The rows of a CSV file, by client, and how one client's rows become its one value."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

# What Python takes for a number, less what people do not mean by it: 1_000, other digits, nan.
_NUMBER = re.compile(r'[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?', re.ASCII)
# Clients that the embedded digits are split among: seven images each.
_DIGITS_CLIENTS = 200
COMBINATIONS = ('mean', 'sum', 'last')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """A cell of the column that is asked for.

  Attributes:
    text: What it holds.
    place: Where it stands, for messages.
  """

  text: str
  place: str


def by_client(source: str, column: str, client: str | None) -> list[list[Cell]]:
  """Cells of a column, one list for each client, clients and cells in the order of the file.

  Args:
    source: Path of a CSV file with a header, or 'digits': the embedded digits, with columns
      `client`, `digit` and `ink` (mean of the pixels, 0 to 1).
    column: Name of the column.
    client: Name of the column that tells the client; None makes a client of each row.

  Raises:
    ConfigurationError: If the file cannot be read, or lacks a column or a cell.
  """
  from tff_privacy_agg.analytics import csv_file
  from tff_privacy_agg.errors import ConfigurationError

  found: dict[str, list[Cell]] = {}
  for place, row in _digits() if source == 'digits' else csv_file.rows(pathlib.Path(source)):
    for name in filter(None, (column, client)):
      if name not in row:
        raise ConfigurationError(
          f'There is no column {name!r}; {source} has {", ".join(map(repr, row))}. Name a column '
          'of the file.'
        )
      if not row[name]:
        raise ConfigurationError(
          f'Column {name!r} is empty in {place}. Leave the row out, or fill it.'
        )
    key = place if client is None else row[client]
    if client is not None and key != key.strip():
      raise ConfigurationError(
        f'{place} names the client {key!r}, with blanks around it: one client could count as two. Remove '
        'the blanks.'
      )
    found.setdefault(key, []).append(Cell(text=row[column], place=place))
  if not found:
    raise ConfigurationError(
      f'{source} has no rows, so column {column!r} is empty. Name a file that has some below its '
      'header.'
    )
  return list(found.values())


def numbers(clients: list[list[Cell]], statistic: str, rule: str) -> list[float]:
  """One number for each client.

  Args:
    clients: From `by_client`.
    statistic: For messages.
    rule: One of `COMBINATIONS`.

  Raises:
    ConfigurationError: If a cell holds no finite number.
  """
  combine = {'mean': lambda held: math.fsum(held) / len(held), 'sum': math.fsum}
  choose = combine.get(rule, lambda held: held[-1])
  return [choose([_number(cell, statistic) for cell in cells]) for cells in clients]


def _number(cell: Cell, statistic: str) -> float:
  from tff_privacy_agg.errors import ConfigurationError

  text = cell.text.strip()
  found = float(text) if _NUMBER.fullmatch(text) else math.nan
  # So that no sum of a client's rows overflows; bounds are far below.
  if not abs(found) <= 1e300:
    hint = 'Choose another column, leave the row out, or ask for `histogram`.'
    if _NUMBER.fullmatch(re.sub(r"[,_' ]", '', text)):
      hint = 'Write numbers with a decimal point and nothing between thousands.'
    raise ConfigurationError(f'`{statistic}` needs numbers; {cell.place} has {cell.text!r}. {hint}')
  return found


def _digits() -> Iterator[tuple[str, Mapping[str, Any]]]:
  from tff_privacy_agg.learning import data

  train = data.load_digits(_DIGITS_CLIENTS).train
  for client in train.client_ids:
    for number, example in enumerate(train.create_tf_dataset_for_client(client)):
      ink = f'{float(example["x"].numpy().mean()):.4f}'
      row = {'client': client, 'digit': str(int(example['y'])), 'ink': ink}
      yield f'image {number} of {client}', row

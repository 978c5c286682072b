"""An append-only file of JSON lines, each bound to the one before it.

A line is canonical JSON (sorted keys, no spaces, ASCII). It carries its number
(`seq`), the SHA-256 of the whole line before it (`previous`), and last the
SHA-256 of everything in it before that (`sha256`). `event` is the first key of
every line but the header, so even the beginning of a line that was cut off says what it was.

Beside the file, `NAME.head` holds number and hash of the last line. It may lag
behind by what a crash cut off, never run ahead: a file that ends before its head
has lost lines. All this finds accidents and careless edits. Someone who may
rewrite both files can forge them: keep the hash of the last line elsewhere too.
"""

import dataclasses
import datetime
import hashlib
import importlib.resources
import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.errors import LedgerError

SCHEMA = 3
EVENTS = ('charge', 'settle', 'unopened', 'facts', 'recovered', 'unaccounted', 'note')
# Who says how many clients are in a sum: only the runtime's word lowers a charge.
COUNTED_BY = ('runtime', 'clients')
GENESIS = '0' * 64
_SEAL = b',"sha256":"'
_SEAL_SIZE = len(_SEAL) + 64 + len(b'"}')
_RECOVERED = b'{"event":"recovered"'
_HEADER = re.compile(rb'"event"\s*:\s*"header"')


def canonical(record: Mapping[str, Any]) -> bytes:
  """The one way to write a record as JSON; refuses NaN and infinities."""
  text = json.dumps(record, sort_keys=True, separators=(',', ':'), allow_nan=False)
  return text.encode('ascii')


def seal(record: Mapping[str, Any]) -> bytes:
  """A record as the bytes of its line, its own hash last, without a newline."""
  body = canonical(record)
  return body[:-1] + _SEAL + sha256(body).encode('ascii') + b'"}'


def sha256(data: bytes) -> str:
  """SHA-256 in hexadecimal."""
  return hashlib.sha256(data).hexdigest()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scan:
  """What a file holds.

  Attributes:
    records: The lines that could be read, in order.
    hashes: SHA-256 of each of these lines; the last one is the ledger's hash.
    problems: What contradicts the chain, in sentences; empty if nothing does.
    truncated: Bytes of a last line that was cut off; empty if there is none.
    terminated: False if the last line is whole but for its newline.
    size: Bytes of the file.
  """

  records: tuple[dict[str, Any], ...]
  hashes: tuple[str, ...]
  problems: tuple[str, ...]
  truncated: bytes
  terminated: bool
  size: int


def schema() -> dict[str, Any]:
  """The JSON schema of one line of a ledger."""
  source = importlib.resources.files('tff_privacy_agg.ledger') / 'schema.json'
  return json.loads(source.read_text(encoding='utf-8'))


def head_path(path: pathlib.Path) -> pathlib.Path:
  """Where number and hash of the last line are kept: beside the file, not beside a link to it."""
  file = pathlib.Path(os.path.realpath(path))
  return file.with_name(f'{file.name}.head')


def scan(path: pathlib.Path) -> Scan:
  """Reads a file and checks its chain; raises only if it cannot be read, or never was a ledger.

  Raises:
    LedgerError: If the file is missing or unreadable, or no ledger: no line of it is one of a
      ledger, the first resembles no header, and no head is beside it.
  """
  try:
    data = path.read_bytes()
  except OSError as error:
    raise unreadable(path, error) from error
  *lines, tail = data.split(b'\n')
  terminated = not tail or _unseal(tail) is None
  if not terminated:  # a whole line; only its newline was cut off
    lines, tail = [*lines, tail], b''
  records: list[dict[str, Any]] = []
  hashes: list[str] = []
  problems: list[str] = []
  unread: list[bytes] = []  # lines since the last one that could be read
  first_unread = 0
  for number, line in enumerate(lines, start=1):
    record = _unseal(line)
    if record is None:
      first_unread = first_unread if unread else number
      unread.append(line)
      continue
    last = hashes[-1] if hashes else GENESIS
    if unread and record.get('event') != 'recovered':
      problems.append(_changed(first_unread))
    else:
      seq = records[-1]['seq'] + 1 if records else 0
      follows = record['follows'] if unread and 'follows' in record else record.get('previous')
      previous = sha256(b'\n'.join(unread)) if unread else last
      if (record.get('seq'), record.get('previous'), follows) != (seq, previous, last):
        problems.append(
          f'Line {number} does not follow the line before it: a line was changed, removed, added '
          'or moved.'
        )
    unread = []
    records.append(record)
    hashes.append(sha256(line))
  if not records and not _HEADER.search(data.split(b'\n', 1)[0]) and not head_path(path).exists():
    raise _not_a_ledger(path, 'its first line is no header of one' if data else 'it is empty')
  truncated = b''
  rest = [*unread, tail] if unread or tail else []
  if rest and _is_cut_off(rest):
    truncated = b'\n'.join(rest)
  elif rest:
    problems.append(_changed(first_unread if unread else len(lines) + 1))
  problems.extend([] if problems else _against_head(path, hashes, bool(truncated)))
  return Scan(
    records=tuple(records),
    hashes=tuple(hashes),
    problems=tuple(problems),
    truncated=truncated,
    terminated=terminated,
    size=len(data),
  )


def unreadable(path: pathlib.Path, error: OSError) -> LedgerError:
  """The error for a path that cannot be read as a file."""
  if path.is_dir():
    return _not_a_ledger(path, 'it is a directory')
  return LedgerError(
    f'A ledger was to be read from {path}; {error.strerror}. Pass the path of a ledger.'
  )


def _not_a_ledger(path: pathlib.Path, found: str) -> LedgerError:
  inside = path / 'ledger.jsonl'
  mend = f'Pass {inside}.' if inside.exists() else 'Pass the ledger.jsonl of a run directory.'
  return LedgerError(
    f'A ledger was to be read from {path}; that is not a ledger: {found}. A ledger has a JSON '
    f'object on each line, on the first one with "event":"header". {mend}'
  )


def _is_cut_off(rest: list[bytes]) -> bool:
  """Whether the end of a file is a line that was cut off, and recoveries that were, too."""
  first, *recoveries = rest
  sealed = bool(recoveries) and first[-_SEAL_SIZE:].startswith(_SEAL)  # whole, but wrong
  return not sealed and all(_RECOVERED.startswith(line[: len(_RECOVERED)]) for line in recoveries)


def _changed(number: int) -> str:
  return f'Line {number} was changed: it does not match its own hash.'


def _unseal(line: bytes) -> dict[str, Any] | None:
  """The record of a line; None if the line does not match its own hash."""
  seal_at = len(line) - _SEAL_SIZE
  body = line[:seal_at] + b'}'
  if seal_at < 0 or line[seal_at:] != _SEAL + sha256(body).encode('ascii') + b'"}':
    return None
  try:
    record = json.loads(body)
  except ValueError:
    return None
  return record if isinstance(record, dict) and isinstance(record.get('seq'), int) else None


def _against_head(path: pathlib.Path, hashes: list[str], truncated: bool) -> list[str]:
  try:
    text = head_path(path).read_text(encoding='ascii')
    if not text:  # a crash stopped it from being written for the first time
      return []
    number, digest = text.split()
    last = int(number)
  except FileNotFoundError:
    return []
  except (OSError, ValueError):
    return [f'{head_path(path).name} cannot be read; it says which line is the last one.']
  if last == len(hashes) and truncated:
    return []
  if last >= len(hashes):
    return [
      f'The file ends at line {len(hashes)}; {head_path(path).name} knows of line {last + 1}. '
      'Lines were removed, or an older copy was restored.'
    ]
  if hashes[last] != digest:
    return [f'Line {last + 1} is not the line that {head_path(path).name} knows.']
  return []


def check_header(header: Mapping[str, Any]) -> None:
  """Raises unless a line is a header that this version reads."""
  if header.get('event') != 'header':
    raise LedgerError(
      f'The first line of a ledger is its header; this one is {header.get("event")!r}. Restore '
      'the file.'
    )
  schema = header.get('schema')
  if not isinstance(schema, int) or schema < 1 or schema > SCHEMA:
    raise LedgerError(
      f'This version reads ledgers of schema 1 to {SCHEMA}; this one has schema {schema!r}, '
      f'written by tff_privacy_agg {header.get("version", "?")}. Install that version or a '
      'later one.'
    )


def begun(partial: bytes) -> str:
  """The event of a line that was cut off; 'unknown' if too little of it is left."""
  for event in EVENTS:
    if partial.startswith(f'{{"event":"{event}"'.encode('ascii')):
      return event
  return 'unknown'


def now() -> str:
  """The time of a line, UTC, to the millisecond."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')

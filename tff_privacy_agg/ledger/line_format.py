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
EVENTS = (
  'charge',
  'settle',
  'unopened',
  'restarted',
  'facts',
  'recovered',
  'unaccounted',
  'note',
)
# Who says how many clients are in a sum: only the runtime's word lowers a charge.
COUNTED_BY = ('runtime', 'clients')
GENESIS = '0' * 64
SEAL = b',"sha256":"'
SEAL_SIZE = len(SEAL) + 64 + len(b'"}')
# Without its newline; writer and reader keep to it. The longest lines repeat a stack's layers, of
# which one may name a bound for each of a million coordinates: 20 MB.
LONGEST_LINE = 2**26
# What a writer adds to a record: its links, hash and totals.
_ADDED = 2**12
HEADER = re.compile(rb'"event"\s*:\s*"header"')


def canonical(record: Mapping[str, Any]) -> bytes:
  """The one way to write a record as JSON; refuses NaN and infinities."""
  text = json.dumps(record, sort_keys=True, separators=(',', ':'), allow_nan=False)
  return text.encode('ascii')


def seal(record: Mapping[str, Any]) -> bytes:
  """A record as the bytes of its line, its own hash last, without a newline."""
  body = canonical(record)
  return body[:-1] + SEAL + sha256(body).encode('ascii') + b'"}'


def check_length(record: Mapping[str, Any]) -> None:
  """Raises if no line could take a record, before anything is counted or written."""
  size = len(canonical(record))
  if size > LONGEST_LINE - _ADDED:
    raise LedgerError(
      f'A line of a ledger has at most {LONGEST_LINE - _ADDED} bytes; the '
      f'{record.get("event")!r} to write has {size}. Shorten its words, or the names and bounds of its layers.'
    )


def sha256(data: bytes) -> str:
  """SHA-256 in hexadecimal."""
  return hashlib.sha256(data).hexdigest()


def schema() -> dict[str, Any]:
  """The JSON schema of one line of a ledger.

  Examples:
    >>> tpa.ledger.schema()['$schema']
    'https://json-schema.org/draft/2020-12/schema'
  """
  source = importlib.resources.files('tff_privacy_agg.ledger') / 'schema.json'
  return json.loads(source.read_text(encoding='utf-8'))


def head_path(path: pathlib.Path) -> pathlib.Path:
  """Path of the file with number and hash of the last line."""
  return companion(path, 'head')


def companion(path: pathlib.Path, kind: str) -> pathlib.Path:
  """A file that belongs to a ledger: in the folder of the ledger, not of a link to it."""
  file = pathlib.Path(os.path.realpath(path))
  return file.with_name(f'{file.name}.{kind}')


def unreadable(path: pathlib.Path, error: OSError) -> LedgerError:
  """The error for a path that cannot be read as a file."""
  if path.is_dir():
    return not_a_ledger(path, 'it is a directory')
  return LedgerError(f'Cannot read the ledger {path}: {error.strerror}. Pass the path of a ledger.')


def not_a_ledger(path: pathlib.Path, found: str) -> LedgerError:
  """The error for a file that never was a ledger; `found` says what it is."""
  inside = path / 'ledger.jsonl'
  fix = f'Pass {inside}.' if inside.exists() else 'Pass the ledger.jsonl of a run directory.'
  return LedgerError(
    f'{path} is not a ledger: {found}. A ledger has a JSON object on each line, on the first one '
    f'with "event":"header". {fix}'
  )


def check_header(header: Mapping[str, Any]) -> None:
  """Raises unless a line is a header that this version reads."""
  if header.get('event') != 'header':
    raise LedgerError(
      f'The first line of a ledger is its header; this one is {header.get("event")!r}. Restore '
      'the file.'
    )
  schema = header.get('schema')
  if type(schema) is not int or not 1 <= schema <= SCHEMA:
    raise LedgerError(
      f'This version reads ledgers of schema 1 to {SCHEMA}; this one has schema {schema!r}, '
      f'written by tff_privacy_agg {header.get("version", "?")}. Install that version or a '
      'later one.'
    )


def check_versions(header: Mapping[str, Any]) -> None:
  """Raises unless the versions that a header states, if it does, are words by words."""
  versions = header.get('versions', {})
  words = [*versions, *versions.values()] if isinstance(versions, dict) else [None]
  if not all(isinstance(word, str) and word.isascii() for word in words):
    raise LedgerError(
      f'The header of a ledger states versions by name; this one has {versions!r}. Restore the file.'
    )


def later_version(header: Mapping[str, Any]) -> bool:
  """Whether a header says that a later version wrote it."""
  schema = header.get('schema')
  return type(schema) is int and schema > SCHEMA


def begun(partial: bytes) -> str:
  """The event of a line that was cut off; 'unknown' if too little of it is left."""
  for event in EVENTS:
    if partial.startswith(f'{{"event":"{event}"'.encode('ascii')):
      return event
  return 'unknown'


def now() -> str:
  """The time of a line, UTC, to the millisecond."""
  return datetime.datetime.now(datetime.UTC).isoformat(timespec='milliseconds')

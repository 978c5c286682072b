"""Reading a ledger's file one line at a time, its chain checked on the way."""

import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from tff_privacy_agg._files import bounded_lines, read_bounded
from tff_privacy_agg.ledger.line_format import (
  GENESIS,
  HEADER,
  LONGEST_LINE,
  SEAL,
  SEAL_SIZE,
  head_path,
  not_a_ledger,
  sha256,
  unreadable,
)

_LARGEST_HEAD = 2**12
_RECOVERED = b'{"event":"recovered"'


class LineReader:
  """The lines of a file, in order; iterate it once, to its end.

  It holds no more than one line, and what a crash may have cut off. A line that contradicts the
  chain is handed out all the same, after its problem was added to `problems`.

  Attributes:
    problems: What contradicts the chain so far, in sentences; complete after the last line.
    lines: Lines that could be read so far.
    hash: SHA-256 of the last of these lines.
    published: Whether a line has the hash that was looked for.
    truncated: Bytes of a last line that was cut off; empty if there is none.
    terminated: False if the last line is whole but for its newline.
    size: Bytes of the file.

  Args:
    path: The file.
    published_hash: Hash of a line to look for.
  """

  def __init__(self, path: pathlib.Path, published_hash: str | None = None):
    self._path, self._published_hash = path, published_hash
    self.problems: list[str] = []
    self.lines = 0
    self.hash = GENESIS
    self.published = False
    self.truncated = b''
    self.terminated = True
    self.size = 0
    self._seq = -1
    self._number = 0
    self._unread: list[bytes] = []  # lines since the last one that could be read
    self._first_unread = 0
    self._known, self._known_hash, self._head_problem = _head(path)
    self._hash_of_known = ''

  def __iter__(self) -> Iterator[dict[str, Any]]:
    """The records of the lines that could be read.

    Raises:
      LedgerError: If the file is missing or unreadable, or no ledger: no line of it is one of a
        ledger, the first resembles no header, and no head is next to it.
    """
    first, tail, unread = b'', b'', 0
    try:
      with self._path.open('rb') as file:
        for raw in bounded_lines(file, LONGEST_LINE):
          first = first or raw
          self.size += len(raw)
          line = raw[:-1] if raw.endswith(b'\n') else raw
          # What was cut off is one line, and beginnings of recoveries.
          if len(line) > LONGEST_LINE or unread > 2 * LONGEST_LINE:
            since = self._first_unread if self._unread else self._number + 1
            self.problems.append(f'From line {since} on, it has too many bytes that are no line.')
            self._unread = []
            break
          record = unseal(line)
          if record is None and line is raw:
            tail = line
          elif record is None:
            self._number += 1
            self._first_unread = self._first_unread if self._unread else self._number
            self._unread.append(line)
            unread += len(raw)
          else:
            unread = 0
            self.terminated = line is not raw  # only its newline was cut off
            self._number += 1
            self._link(record, line)
            yield record
    except OSError as error:
      raise unreadable(self._path, error) from error
    if not self.lines and not HEADER.search(first) and not head_path(self._path).exists():
      raise not_a_ledger(
        self._path, 'its first line is no header of one' if self.size else 'it is empty'
      )
    self._end(tail)

  def _link(self, record: dict[str, Any], line: bytes) -> None:
    """Compares a line with the one before it, then counts it."""
    unread, self._unread = self._unread, []
    if unread and record.get('event') != 'recovered':
      self.problems.append(_changed(self._first_unread))
    else:
      previous = follows = record.get('previous')
      expected = self.hash
      if unread:
        expected, follows = sha256(b'\n'.join(unread)), record.get('follows', previous)
      if (record['seq'], previous, follows) != (self._seq + 1, expected, self.hash):
        self.problems.append(
          f'Line {self._number} does not follow the line before it: a line was changed, removed, '
          'added or moved.'
        )
    self._seq = record['seq']
    self.hash = hashlib.sha256(line).hexdigest()
    if self.lines == self._known:
      self._hash_of_known = self.hash
    self.published = self.published or self.hash == self._published_hash
    self.lines += 1

  def _end(self, tail: bytes) -> None:
    rest = [*self._unread, tail] if self._unread or tail else []
    if rest and _is_cut_off(rest):
      self.truncated = b'\n'.join(rest)
    elif rest:
      self.problems.append(_changed(self._first_unread if self._unread else self._number + 1))
    if not self.problems:
      self._compare_with_head()

  def _compare_with_head(self) -> None:
    name = head_path(self._path).name
    if self._head_problem:
      self.problems.append(self._head_problem)
    elif self._known < 0 or (self._known == self.lines and self.truncated):
      return
    elif self._known >= self.lines:
      self.problems.append(
        f'The file ends at line {self.lines}; {name} knows of line {self._known + 1}. Lines were '
        'removed, or an older copy was restored.'
      )
    elif self._hash_of_known != self._known_hash:
      self.problems.append(f'Line {self._known + 1} is not the line that {name} knows.')


def unseal(line: bytes) -> dict[str, Any] | None:
  """The record of a line; None if it does not match its own hash, or is no JSON object of text."""
  seal_at = len(line) - SEAL_SIZE
  if seal_at < 0:
    return None
  body = line[:seal_at] + b'}'
  seal = SEAL + hashlib.sha256(body).hexdigest().encode('ascii') + b'"}'
  if not line.endswith(seal):
    return None
  try:
    text = body.decode('ascii')
    record, end = _DECODER.raw_decode(text)
    if b'\\ud' in body or b'\\uD' in body:  # half of a pair is no text: nothing could print it
      json.dumps(record, ensure_ascii=False).encode('utf-8')
  except (ValueError, RecursionError):
    return None
  if end != len(text):
    return None
  return record if type(record) is dict and type(record.get('seq')) is int else None


def _refuse(constant: str) -> None:
  raise ValueError(f'{constant} is no JSON')


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _is_cut_off(rest: list[bytes]) -> bool:
  """Whether the end of a file is a line that was cut off, and recoveries that were, too."""
  first, *recoveries = rest
  sealed = bool(recoveries) and first[-SEAL_SIZE:].startswith(SEAL)  # whole, but wrong
  return not sealed and all(_RECOVERED.startswith(line[: len(_RECOVERED)]) for line in recoveries)


def _changed(number: int) -> str:
  return f'Line {number} was changed: it does not match its own hash.'


def _head(path: pathlib.Path) -> tuple[int, str, str]:
  """Number and hash of the last line as the head knows it, and what is wrong with the head."""
  head = head_path(path)
  try:
    text = read_bounded(head, _LARGEST_HEAD).decode('ascii')
    if not text:  # a crash stopped it from being written for the first time
      return -1, '', ''
    number, digest = text.split()
    return max(int(number), 0), digest, ''
  except FileNotFoundError:
    return -1, '', ''
  except (OSError, ValueError):
    return -1, '', f'{head.name} cannot be read; it says which line is the last one.'

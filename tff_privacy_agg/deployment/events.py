"""What a server or client process tells while it runs: lines for people, JSON for machines."""

import contextlib
import json
import sys
import threading
import time
from typing import IO, Any


def one_line(text: str) -> str:
  """One line of text, in which a `?` stands for what could deceive the reader of a terminal or log.

  Examples:
    >>> one_line('north\\n12:00:00 server  result')
    'north?12:00:00 server  result'
  """
  return ''.join(one if one.isprintable() else '?' for one in text)


class Events:
  """Writes one line an event. Fields hold names, counts and reasons; never a value or a key.

  Args:
    file: Where the lines go; None drops them.
    as_json: Whether each line is a JSON object.
    who: The process, at the front of each line.
  """

  def __init__(self, file: IO[str] | None = None, *, as_json: bool = False, who: str = ''):
    self._file, self.as_json, self._who = file, as_json, who
    self._lock = threading.Lock()

  @classmethod
  def silent(cls) -> 'Events':
    """Events that nobody reads."""
    return cls()

  @classmethod
  def to_terminal(cls, who: str, *, as_json: bool) -> 'Events':
    """Lines on standard output."""
    return cls(sys.stdout, as_json=as_json, who=who)

  def __call__(self, event: str, **fields: Any) -> None:
    """Writes an event."""
    if self._file is None:
      return
    if self.as_json:
      line = json.dumps({'time': round(time.time(), 3), 'who': self._who, 'event': event, **fields})
    else:
      told = '  '.join(f'{name} {value}' for name, value in fields.items() if value not in ('', {}))
      # Other parties give some of the values.
      line = one_line(f'{time.strftime("%H:%M:%S")} {self._who:<10} {event}  {told}'.rstrip())
    # One call: lines of processes that share a terminal do not mix. A full disk, or a terminal that
    # was closed, ends no training.
    with self._lock, contextlib.suppress(OSError):
      self._file.write(f'{line}\n')
      self._file.flush()

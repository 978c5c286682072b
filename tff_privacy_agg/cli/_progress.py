"""Progress of long work on stderr: redrawn on a terminal, plain lines elsewhere."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from tff_privacy_agg._telling import telling

_PATIENCE_SECONDS = 0.5
_WIDTH, _BAR = 42, 30


@contextlib.contextmanager
def waiting(what: str) -> Iterator[Callable[[int, int], None]]:
  """Says what is being done once it has taken half a second, and on a terminal for how long.

  The line on a terminal is gone after the block. Where the number of steps is known, the block
  tells what it is given how many are done, and how many there are: then the line says the time
  left, on a terminal and elsewhere.

  Args:
    what: What is being done.
  """
  terminal = sys.stderr.isatty()
  widest, steps = 0, (0, 0)

  def at(number: int, total: int) -> None:
    nonlocal steps
    steps = (number, total)

  def tell(spent: float) -> float | None:
    nonlocal widest
    left = _left(spent, *steps)
    if not terminal:
      print(f'{what} ...{left.removeprefix(",")}', file=sys.stderr, flush=True)
      return None
    line = f'{what}: {spent:.0f} s so far{left}'
    print(f'\r{line:<{widest}}', end='', file=sys.stderr, flush=True)
    widest = max(widest, len(line))
    return 1.0

  try:
    with telling(tell, _PATIENCE_SECONDS):
      yield at
  finally:
    if widest:
      print('\r' + ' ' * widest + '\r', end='', file=sys.stderr, flush=True)


def _left(spent: float, done: int, total: int) -> str:
  return f', {spent / done * (total - done):.0f} s left' if 0 < done < total else ''


class Bars:
  """A bar for each part of long work, with the time that the part will still take."""

  def __init__(self) -> None:
    self._what = ''
    self._began = 0.0

  def __call__(self, what: str, done: int, total: int) -> None:
    """Shows how far a part is: on a terminal always anew, elsewhere once it is done.

    Args:
      what: The part.
      done: How much of it is done.
      total: How much there is.
    """
    if what != self._what:
      self._what, self._began = what, time.monotonic()
    spent = time.monotonic() - self._began
    filled = _BAR * done // max(total, 1)
    line = f'{what:<{_WIDTH}} [{"#" * filled:<{_BAR}}] {done}/{total}'
    left = _left(spent, done, total)
    if sys.stderr.isatty():
      print(f'\r{line}{left:<14}', end='\n' * (done == total), file=sys.stderr, flush=True)
    elif done == total:
      print(f'{line}, {spent:.0f} s', file=sys.stderr, flush=True)

"""Array work on several cores, by threads that end with the call.

OpenSSL and numpy let go of the interpreter's lock in a large operation, so threads are enough.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar('Item')
# More threads than this wait for memory. Each may hold a segment of keystream.
_MOST_THREADS = 8
# Bytes that a thread should have to process: below, starting it takes longer than its work.
_LEAST_BYTES = 2**20


def cores() -> int:
  """Cores that this process may run on."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def threads(size: int) -> int:
  """How many threads so many bytes are worth."""
  return max(1, min(cores(), _MOST_THREADS, size // _LEAST_BYTES))


class _Items:
  """Hands each item to one thread, in order, until one thread has failed."""

  def __init__(self, items: Sequence[object]):
    self._items = items
    self._next = 0
    self._lock = threading.Lock()
    self.errors: dict[int, BaseException] = {}

  def take(self) -> int | None:
    """The number of the next item, or None."""
    with self._lock:
      number = self._next
      if self.errors or number == len(self._items):
        return None
      self._next += 1
      return number

  def run(self, work: Callable[[Iterator], None]) -> None:
    """Works on items in this thread; keeps an error with the number of the item that raised it."""
    current = 0

    def taken() -> Iterator:
      nonlocal current
      while (number := self.take()) is not None:
        current = number
        yield self._items[number]

    try:
      work(taken())
    except BaseException as error:
      with self._lock:
        self.errors[current] = error


def share(work: Callable[[Iterator[Item]], None], items: Sequence[Item], size: int) -> None:
  """Calls `work` on this thread and on others, each with an iterator over a part of the items.

  An item goes to exactly one call. Which, and when, is not fixed: calls must write to parts of
  memory that do not overlap. No thread is left when this returns or raises.

  Args:
    work: Called once for each thread, with its items as they become due.
    items: All of them.
    size: Bytes to process in all.

  Raises:
    BaseException: What `work` raised, for the first of the items if for several: the same as one
      thread alone would have raised.
  """
  queue = _Items(items)
  helpers: list[threading.Thread] = []
  # Without further threads this one does all of the work.
  with contextlib.suppress(RuntimeError):
    for _ in range(min(threads(size), len(items)) - 1):
      helper = threading.Thread(target=queue.run, args=(work,))
      helper.start()
      helpers.append(helper)
  queue.run(work)
  for helper in helpers:
    helper.join()
  if queue.errors:
    raise queue.errors[min(queue.errors)]

"""Telling people about long work while it runs."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def telling(tell: Callable[[float], float | None], patience: float) -> Iterator[None]:
  """Calls `tell` from another thread while a block runs.

  Args:
    tell: Takes the seconds since the block began; returns after how many more it is to be
      called again, or None for never.
    patience: Seconds to the first call.
  """
  began, done = time.monotonic(), threading.Event()

  def run() -> None:
    pause: float | None = patience
    while pause is not None and not done.wait(pause):
      pause = tell(time.monotonic() - began)

  teller = threading.Thread(target=run, daemon=True)
  teller.start()
  try:
    yield
  finally:
    done.set()
    teller.join()


@contextlib.contextmanager
def announced(
  report: Callable[[str], None], what: str, *, every: float = 10.0, closing: bool = True
) -> Iterator[None]:
  """Reports how long the work of a block takes, while it runs.

  TFF compiles a computation at its first call, and makes its executors at the first round of each
  number of clients: some seconds in which nothing else is to be seen.

      with announced(print, 'first round'):
        output = process.next(state, cohort)

  Args:
    report: Takes the lines; called from another thread while the block runs.
    what: What is being done.
    every: Seconds between two lines, positive.
    closing: Whether a last line says how long it took.
  """

  def tell(spent: float) -> float:
    report(f'{what}: {spent:.0f} s so far')
    return every

  began = time.monotonic()
  with telling(tell, every):
    yield
  if closing:
    report(f'{what}: done in {time.monotonic() - began:.1f} s')

"""The event loop of this process's coordinators, in a thread of its own.

One for all: gRPC's event loops of several threads wake each other for nothing.
"""

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar('Result')


def call(coroutine: Coroutine[Any, Any, Result]) -> Result:
  """Runs a coroutine on the loop, and waits for it; an interrupt cancels it."""
  future = asyncio.run_coroutine_threadsafe(coroutine, _loop_of(os.getpid()))
  try:
    return future.result()
  finally:
    future.cancel()


async def until(
  holds: Callable[[], bool], changed: Callable[[], asyncio.Event], seconds: float
) -> None:
  """Waits until a condition holds, or the time is up; looks whenever the event is set."""
  with contextlib.suppress(TimeoutError):
    async with asyncio.timeout(seconds):
      while True:
        event = changed()
        event.clear()
        if holds():
          return
        await event.wait()


@functools.cache
def _loop_of(process: int) -> asyncio.AbstractEventLoop:
  # By process: a fork has the loop, and not its thread.
  loop = asyncio.new_event_loop()
  threading.Thread(target=loop.run_forever, name='coordinator', daemon=True).start()
  return loop

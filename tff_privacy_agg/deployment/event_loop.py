"""The event loop of this process's coordinators, in a thread of its own.

One for all: gRPC's event loops of several threads wake each other for nothing.
"""

import asyncio
import concurrent.futures
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


class OneThread:
  """A thread next to the loop, for what would hold it up.

  Args:
    name: Of the thread.
  """

  def __init__(self, name: str):
    self._executor = concurrent.futures.ThreadPoolExecutor(1, name)

  async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
    """Runs a function in the one thread that computes, after those before it.

    Ends when the function has, even if the client has gone: until then what it computes with
    counts as the client's, and whoever waits for what it changes must be woken after it.
    """
    loop = asyncio.get_running_loop()
    future = loop.run_in_executor(self._executor, function, *arguments)
    try:
      return await asyncio.shield(future)
    except asyncio.CancelledError:
      await asyncio.wait({future})
      raise

  def stop(self) -> None:
    """Lets the thread end, once it has done what it was given."""
    self._executor.shutdown(wait=False)

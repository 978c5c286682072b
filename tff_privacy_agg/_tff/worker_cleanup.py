"""Ends TFF's own worker processes at exit; importing it is enough.

TFF's contexts end their worker in a finalizer that comes too late, after the
modules it uses are torn down, so the worker outlives the program. Dropping the
last references while modules are alive makes the finalizer run in time. The
finalizer interrupts the worker and waits for its end without limit; where
interrupts are ignored (a shell's background jobs) that would be for ever, so the
worker is killed before.
"""

import atexit
import gc
import os
import signal
from collections.abc import Iterator
from typing import Any

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import RuntimeUnavailableError


class _ExitedContext(compat.SyncContext):
  """The context that computations meet while the interpreter exits."""

  def invoke(self, comp: Any, arg: Any) -> None:
    raise RuntimeUnavailableError(
      'A computation was called while the interpreter exits, when TFF workers have ended. '
      'Call it before the program ends.'
    )


def _service_managers() -> Iterator[Any]:
  """The holders of TFF's workers, in all of TFF's contexts that are alive."""
  for item in gc.get_objects():
    kind = type(item)
    if kind.__name__ == 'ServiceManager' and kind.__module__.startswith('tensorflow_federated.'):
      yield item


def kill_tff_workers() -> None:
  """Kills the workers of TFF's own contexts; a context that is used again starts another."""
  for manager in _service_managers():
    process = manager._process
    if process is not None and process.returncode is None:
      # Not `process.kill`, which could collect it: the finalizer would not find it.
      os.kill(process.pid, signal.SIGKILL)


def _end_tff_workers(owner: int = os.getpid()) -> None:
  """Ends this process's TFF workers. A forked child leaves its parent's alone."""
  if os.getpid() != owner:
    return
  kill_tff_workers()
  compat.set_default_context(_ExitedContext())
  gc.collect()
  # What is left is referenced from elsewhere, a notebook's namespace say. Its
  # finalizer is run here, and taken away: it would fail at its proper time.
  for manager in _service_managers():
    manager.__del__()
    del type(manager).__del__


atexit.register(_end_tff_workers)

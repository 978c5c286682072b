"""Ends TFF's own worker processes at exit; importing it is enough.

TFF's contexts end their worker in a finalizer that comes too late, after the
modules it uses are torn down, so the worker outlives the program. Dropping the
last references while modules are alive makes the finalizer run in time.
"""

import atexit
import gc
import os

from tff_privacy_agg import _compat
from tff_privacy_agg.errors import RuntimeUnavailableError


class _ExitedContext(_compat.SyncContext):
  """What computations meet while the interpreter exits."""

  def invoke(self, comp, arg):
    raise RuntimeUnavailableError(
      'A computation was called while the interpreter exits, when TFF workers have ended. '
      'Call it before the program ends.'
    )


def _end_tff_workers(owner: int = os.getpid()) -> None:
  """Ends this process's TFF workers. A forked child leaves its parent's alone."""
  if os.getpid() != owner:
    return
  _compat.set_default_context(_ExitedContext())
  gc.collect()
  # What is left is referenced from elsewhere, a notebook's namespace say. Its
  # finalizer is run here, and taken away: it would fail at its proper time.
  for item in gc.get_objects():
    kind = type(item)
    if kind.__name__ == 'ServiceManager' and kind.__module__.startswith('tensorflow_federated.'):
      item.__del__()
      del kind.__del__


atexit.register(_end_tff_workers)

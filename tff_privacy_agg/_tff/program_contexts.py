"""Contexts of this package as those that TFF's program logic runs in."""

import asyncio
from typing import Any

from tff_privacy_agg._tff import compat


class _Awaitable:
  """A context whose calls are awaited, in the place of TFF's `AsyncExecutionContext`."""

  def __init__(self, context: Any):
    self._context = context

  async def invoke(self, comp: Any, arg: Any) -> Any:
    """Runs `comp` on `arg` without blocking the event loop."""
    return await asyncio.to_thread(self._context.invoke, comp, arg)


class _ProgramContext(compat.NativeFederatedContext):
  """A context of TFF programs that says which context of this package is behind it."""

  def __init__(self, context: Any):
    super().__init__(_Awaitable(context))
    self.behind = context


def as_awaitable(context: Any) -> Any:
  """A `tff.program.NativeFederatedContext` that runs on the given context of this package."""
  return _ProgramContext(context)

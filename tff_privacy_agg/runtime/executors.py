"""Executors of the clients' work."""

import abc
import collections
import concurrent.futures
import itertools
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from tff_privacy_agg._tff import compat
from tff_privacy_agg.runtime.round_form import RoundForm

# What one part of a round brings back at most, so that memory does not grow with the number of
# clients.
_CALL_BYTES = 2**28
_CALL_CLIENTS = 256
# What may be computed ahead of its use in this process: large values come one at a time.
_AHEAD_BYTES = 2**26


class Executor(abc.ABC):
  """Runs the clients' work of a round."""

  @abc.abstractmethod
  def run(
    self, form: RoundForm, data: Mapping[int, Any], broadcast: Any
  ) -> Generator[tuple[int, Any], None, None]:
    """Yields (client, result of `form.work`) in any order, as results come.

    Args:
      form: The round.
      data: {client: its argument}.
      broadcast: What `form.prepare` gave.
    """

  @abc.abstractmethod
  def close(self) -> None:
    """Ends what the executor started."""


def clients_per_call(form: RoundForm) -> int:
  """Number of clients whose results one call may return."""
  return max(1, min(_CALL_CLIENTS, _CALL_BYTES // _value_bytes(form)))


def _value_bytes(form: RoundForm) -> int:
  """Bytes of what one client puts into the secure sums, at least 1."""
  return max(1, sum(one.size * np.dtype(one.dtype).itemsize for one in form.aggregands))


def _awaited(client: int, result: concurrent.futures.Future) -> tuple[int, Any]:
  return client, result.result()


class LocalExecutor(Executor):
  """Runs the work in one TFF context, some clients at once.

  Args:
    context: A `tff.framework.SyncContext`; who made it closes it.
    concurrency: How many clients' work runs at once.
  """

  def __init__(self, context: Any, concurrency: int = 1):
    self._context = context
    self._concurrency = concurrency

  def run(
    self, form: RoundForm, data: Mapping[int, Any], broadcast: Any
  ) -> Generator[tuple[int, Any], None, None]:
    """Yields results in the order of `data`, computed no further ahead than `concurrency`.

    It keeps no result that it has yielded, and computes large ones no further ahead than 64 MB.
    """
    at_once = max(1, min(self._concurrency, _AHEAD_BYTES // _value_bytes(form)))

    def work(client: int) -> Any:
      with compat.get_context_stack().install(self._context):  # TFF keeps them per thread
        return form.work(data[client], broadcast)

    clients = iter(data)
    running: collections.deque[tuple[int, concurrent.futures.Future]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(at_once, 'work') as pool:
      try:
        while True:
          for client in itertools.islice(clients, at_once - len(running)):
            running.append((client, pool.submit(work, client)))
          if not running:
            return
          yield _awaited(*running.popleft())
      finally:
        pool.shutdown(wait=True, cancel_futures=True)

  def close(self) -> None:
    """Nothing to do: the context belongs to its maker."""

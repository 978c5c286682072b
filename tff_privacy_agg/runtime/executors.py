"""Executors of the clients' work."""

import abc
import collections
import concurrent.futures
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tff_privacy_agg._tff import compat
from tff_privacy_agg.runtime.round_form import RoundForm

# What one part of a round brings back at most, so that memory does not grow with the number of
# clients.
_CALL_BYTES = 2**28
_CALL_CLIENTS = 256


class Executor(abc.ABC):
  """Runs the clients' work of a round."""

  @abc.abstractmethod
  def run(
    self, form: RoundForm, data: Mapping[int, Any], broadcast: Any
  ) -> Iterator[tuple[int, Any]]:
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
  size = sum(one.size * np.dtype(one.dtype).itemsize for one in form.aggregands)
  return max(1, min(_CALL_CLIENTS, _CALL_BYTES // max(1, size)))


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
  ) -> Iterator[tuple[int, Any]]:
    """Yields results in the order of `data`, computed no further ahead than `concurrency`."""

    def work(client: int) -> Any:
      with compat.get_context_stack().install(self._context):  # TFF keeps them per thread
        return form.work(data[client], broadcast)

    clients = iter(data)
    running: collections.deque[tuple[int, concurrent.futures.Future]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(self._concurrency, 'work') as pool:
      try:
        while True:
          for client in itertools.islice(clients, self._concurrency - len(running)):
            running.append((client, pool.submit(work, client)))
          if not running:
            return
          client, result = running.popleft()
          yield client, result.result()
      finally:
        pool.shutdown(wait=True, cancel_futures=True)

  def close(self) -> None:
    """Nothing to do: the context belongs to its maker."""

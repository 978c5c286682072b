"""Where the clients' work runs."""

import abc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tff_privacy_agg._tff import compat
from tff_privacy_agg.runtime.round_form import RoundForm

# What one call of the TFF worker brings back at most, so that memory does not grow with the
# number of clients; and far from the 2 GiB of one message.
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
  """How many clients' results one call may bring back."""
  size = sum(one.size * np.dtype(one.dtype).itemsize for one in form.aggregands)
  return max(1, min(_CALL_CLIENTS, _CALL_BYTES // max(1, size)))


class LocalExecutor(Executor):
  """Runs the work on one TFF context.

  Args:
    context: A `tff.framework.SyncContext`; who made it closes it.
  """

  def __init__(self, context: Any):
    self._context = context

  def run(
    self, form: RoundForm, data: Mapping[int, Any], broadcast: Any
  ) -> Iterator[tuple[int, Any]]:
    """Yields results in the order of `data`, some clients a call."""
    clients, step = list(data), clients_per_call(form)
    for first in range(0, len(clients), step):
      part = clients[first : first + step]
      with compat.get_context_stack().install(self._context):
        results = form.work([data[client] for client in part], broadcast)
      yield from zip(part, results, strict=True)

  def close(self) -> None:
    """Nothing to do: the context belongs to its maker."""

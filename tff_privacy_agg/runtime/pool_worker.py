"""Worker process of a pool or cluster: runs some clients' work."""

import functools
import hashlib
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2

from tff_privacy_agg._tff import compat, structures
from tff_privacy_agg.runtime.in_process import InProcessContext

_WATCH_SECONDS = 1.0


def begin(parent: int) -> None:
  """Prepares a worker process: it ends with its parent, which alone hears a ctrl-C."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)

  def watch() -> None:
    while os.getppid() == parent:
      time.sleep(_WATCH_SECONDS)
    os._exit(1)

  threading.Thread(target=watch, name='watch-parent', daemon=True).start()


def pack_value(value: Any, tff_type: Any = None) -> bytes:
  """A value, or a TFF computation, as bytes; datasets travel with their elements."""
  if tff_type is not None:
    value = tff.tensorflow.transform_args(value)
  return tff.framework.serialize_value(value, tff_type)[0].SerializeToString()


def unpack_value(data: bytes) -> Any:
  """The value of `pack_value`."""
  return tff.framework.deserialize_value(executor_pb2.Value.FromString(data))[0]


@functools.cache
def _context() -> InProcessContext:
  return InProcessContext()


class _Works:
  """The computations that this process has been sent, by digest."""

  def __init__(self) -> None:
    self._known: dict[bytes, Any] = {}

  def get(self, data: bytes) -> Any:
    digest = hashlib.sha256(data).digest()
    if digest not in self._known:
      self._known = {digest: compat.deserialize_computation(unpack_value(data))}
    return self._known[digest]


_works = _Works()


def run_part(work: bytes, broadcast: bytes, data: Sequence[bytes]) -> list[list[Any]]:
  """Runs the work of some clients.

  Args:
    work: `RoundForm.work`, packed.
    broadcast: What the server broadcasts, packed.
    data: Each client's argument, packed.

  Returns:
    The leaves of each client's result.
  """
  computation = _works.get(work)
  with compat.get_context_stack().install(_context()):
    params = unpack_value(broadcast)
    results = [computation(unpack_value(one), params) for one in data]
  result_type = computation.type_signature.result
  return [structures.flatten(result, result_type) for result in results]

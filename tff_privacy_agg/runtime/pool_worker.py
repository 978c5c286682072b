"""Worker process of a pool or cluster: runs some clients' work."""

import functools
import hashlib
import os
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow_federated as tff
from tensorflow_federated.proto.v0 import executor_pb2

from tff_privacy_agg._tff import compat, structures
from tff_privacy_agg.runtime.in_process import InProcessContext
from tff_privacy_agg.runtime.program_values import SerializedDataset

_WATCH_SECONDS = 1.0
# Two trainings may share a cluster. More would keep models that nobody asks for again.
_KEPT_ROUNDS = 2


def begin(parent: int) -> None:
  """Prepares a worker process: it ends with its parent."""

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


def digest_of(work: bytes, broadcast: bytes) -> bytes:
  """Names what the parts of a round have in common."""
  return hashlib.sha256(hashlib.sha256(work).digest() + broadcast).digest()


@functools.cache
def _context() -> InProcessContext:
  return InProcessContext()


class _Round(NamedTuple):
  """A round's computation, and what the server broadcasts in it."""

  work: Any
  broadcast: Any


class _Rounds:
  """The rounds that this process has been sent, by digest; the last of them."""

  def __init__(self) -> None:
    self._works: dict[bytes, Any] = {}
    self._rounds: dict[bytes, _Round] = {}

  def get(self, digest: bytes) -> _Round | None:
    return self._rounds.get(digest)

  def add(self, digest: bytes, work: bytes, broadcast: bytes) -> _Round:
    known = _Round(self._work(work), unpack_value(broadcast))
    self._rounds = _with_newest(self._rounds, digest, known)
    return self._rounds[digest]

  def _work(self, data: bytes) -> Any:
    digest = hashlib.sha256(data).digest()
    if digest not in self._works:
      work = compat.deserialize_computation(unpack_value(data))
      self._works = _with_newest(self._works, digest, work)
    return self._works[digest]


def _with_newest(known: dict[bytes, Any], digest: bytes, value: Any) -> dict[bytes, Any]:
  """What is known and one more, without the oldest beyond those that are kept."""
  return {**dict(list(known.items())[1 - _KEPT_ROUNDS :]), digest: value}


_rounds = _Rounds()


def run_part(
  digest: bytes, common: tuple[bytes, bytes] | None, data: Sequence[bytes]
) -> list[list[Any]] | None:
  """Runs the work of some clients.

  Args:
    digest: `digest_of` what the parts of this round have in common.
    common: `RoundForm.work` and what the server broadcasts, packed; None if this process should
      have them.
    data: Each client's argument, packed.

  Returns:
    The leaves of each client's result; None if `common` is missing here.
  """
  known = _rounds.get(digest)
  if known is None:
    if common is None:
      return None
    known = _rounds.add(digest, *common)
  work, context = known.work, _context()
  # TFF traces a function for each dataset that it unpacks, which takes longer than small work.
  unpack = _unpack_serialized if context.runs(work) else unpack_value
  with compat.get_context_stack().install(context):
    results = [context.invoke(work, (unpack(one), known.broadcast)) for one in data]
  result_type = work.type_signature.result
  return [structures.flatten(result, result_type) for result in results]


def _unpack_serialized(data: bytes) -> Any:
  """The value of `pack_value` with its datasets as they travel, for `InProcessContext`."""
  return _serialized(executor_pb2.Value.FromString(data))


def _serialized(value: executor_pb2.Value) -> Any:
  kind = value.WhichOneof('value')
  if kind == 'sequence':
    return SerializedDataset(value.sequence.serialized_graph_def)
  if kind == 'struct':
    return [_serialized(element.value) for element in value.struct.element]
  return tff.framework.deserialize_value(value)[0]

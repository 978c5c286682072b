"""What a training computes, in a few words and digests that a resumed one must repeat."""

import collections
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg._tff import compat
from tff_privacy_agg.learning.flat_metrics import flatten


def identity_of(process: Any, initial: Any) -> dict[str, Any]:
  """What a process computes.

  Args:
    process: A process with `initialize` and `next`.
    initial: Its initial state.

  Returns:
    `state`, a digest of the state's type; `hyperparameters`, such as the learning rates that the
    state holds, flat; `computation`, a digest of the operations and float constants of `next`.
  """
  return {
    'state': _digest(str(process.next.type_signature.parameter[0])),
    'hyperparameters': _hyperparameters(process, initial),
    'computation': _computation_digest(process.next),
  }


def _hyperparameters(process: Any, state: Any) -> dict[str, float]:
  if not hasattr(process, 'get_hparams'):
    return {}
  found = process.get_hparams(state)
  numbers = flatten(found) if isinstance(found, Mapping) else {}
  return {
    name: float(np.asarray(value)) for name, value in numbers.items() if np.shape(value) == ()
  }


def _computation_digest(computation: Any) -> str:
  """The same in every process that builds the computation from the same code.

  Names, and integers such as the seeds of initializers, differ between two builds; operations
  and float constants do not.
  """
  counted: collections.Counter[str] = collections.Counter()
  for graph in _graphs(compat.serialize_computation(computation)):
    functions = (function.node_def for function in graph.library.function)
    for nodes in (graph.node, *functions):
      for node in nodes:
        constant = node.attr['value'].tensor if node.op == 'Const' else None
        if constant is not None and tf.dtypes.as_dtype(constant.dtype).is_floating:
          counted[f'{tf.make_ndarray(constant).tolist()}'] += 1
        else:
          counted[node.op] += 1
  return _digest(str(sorted(counted.items())))


def _graphs(message: Any) -> list[Any]:
  """All TensorFlow graphs in a message of protobuf."""
  found = []
  for field, value in message.ListFields():
    if field.name == 'graph_def':
      graph = tf.compat.v1.GraphDef()
      value.Unpack(graph)
      found.append(graph)
    elif field.message_type is not None:
      parts = value if field.label == field.LABEL_REPEATED else [value]
      found += [graph for part in parts for graph in _graphs(part)]
  return found


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Words and digests of what a training computes, which a resumed one must repeat."""

import collections
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg._tff import compat, graphs
from tff_privacy_agg.learning.flat_metrics import flatten


def identity_of(process: Any, initial: Any) -> dict[str, Any]:
  """Words and digests of what a process computes.

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
  for node in graphs.nodes(compat.serialize_computation(computation)):
    constant = node.attr['value'].tensor if node.op == 'Const' else None
    if constant is not None and tf.dtypes.as_dtype(constant.dtype).is_floating:
      counted[f'{tf.make_ndarray(constant).tolist()}'] += 1
    else:
      counted[node.op] += 1
  return _digest(str(sorted(counted.items())))


def _digest(text: str) -> str:
  return hashlib.sha256(text.encode()).hexdigest()[:16]

"""A stack's description inside its process: what a training checks before its first charge.

TFF's builders hand a factory's process on as part of a larger computation, and nothing tells
which factory it came from. A constant in the graph of the server says it, wherever that ends up.
"""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from tff_privacy_agg._tff import compat, graphs
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import Layer, Mean, WeightedMean

_NAME = 'tff_privacy_agg_stack'


@dataclasses.dataclass(frozen=True, kw_only=True)
class StackMark:
  """The description of a stack that TFF's factories carry along.

  Attributes:
    averages: Whether the sum is divided by the number, or the weights, of the clients.
    cohort: The cohort that it is built for.
  """

  averages: bool
  cohort: Cohort


def write(layers: Sequence[Layer], cohort: Cohort) -> None:
  """Adds a stack's description to the graph that is being built."""
  text = json.dumps(
    {
      'averages': any(isinstance(layer, Mean | WeightedMean) for layer in layers),
      'cohort': dataclasses.asdict(cohort),
    }
  )
  tf.constant(text, name=_NAME)


def read(computation: Any) -> list[StackMark]:
  """The descriptions of all stacks in a TFF computation; empty if it has none."""
  found = []
  for node in graphs.nodes(compat.serialize_computation(computation)):
    if node.op == 'Const' and node.name.rpartition('/')[2].startswith(_NAME):
      text = node.attr['value'].tensor.string_val[0]
      said = json.loads(text)
      found.append(StackMark(**{**said, 'cohort': Cohort(**said['cohort'])}))
  return found

"""TFF's compilation for its native runtime, which passes over graphs that have no need of it.

TFF runs TensorFlow's graph optimizer over every graph, with functions inlined whether they may be
or not: half a second for a stack's graphs, of which a round gains nothing, and branches that are
hardly ever taken become operations of every session. What this package wrote to be run as it is
says so; all other graphs are optimized as TFF does it.
"""

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat

_AS_WRITTEN = 'tff_privacy_agg_as_written'
# TFF's own glue, which selects or adds, has up to ten operations.
_FEW = 16


def mark_as_written() -> None:
  """Says in the graph that is being built that it is to run as it is written."""
  tf.constant(True, name=_AS_WRITTEN)


def compile_native(computation: Any) -> Any:
  """`computation` as TFF's runtime runs it, secure sums replaced by their plain simulation."""
  simulated = tff.backends.test.replace_secure_intrinsics_with_bodies(computation)
  block, _ = tff.tensorflow.replace_intrinsics_with_bodies(simulated.to_building_block())
  block, _ = compat.transform_postorder(block, _optimized)
  return tff.backends.native.transform_to_native_form(
    compat.ConcreteComputation.from_building_block(block)
  )


def _optimized(block: Any) -> tuple[Any, bool]:
  """A block with its graph optimized as TFF does it, and whether it was."""
  if not isinstance(block, compat.CompiledComputation) or _runs_as_written(block.proto):
    return block, False
  alone = compat.ConcreteComputation.from_building_block(block)
  native = tff.backends.native.desugar_and_transform_to_native(alone)
  return native.to_building_block(), True


def _runs_as_written(proto: Any) -> bool:
  if proto.WhichOneof('computation') != 'tensorflow':
    return False
  graph = tf.compat.v1.GraphDef()
  proto.tensorflow.graph_def.Unpack(graph)
  if len(graph.node) < _FEW and not graph.library.function:
    return True
  # By its whole name: in a graph that TFF made of several it has a prefix, and the others are to be
  # optimized.
  return any(node.name == _AS_WRITTEN for node in graph.node)

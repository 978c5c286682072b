"""One TensorFlow computation of TFF as a function of this process."""

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

# A session keeps its resources between calls. These start anew with the computation's own
# initialization; what is in others, a mutable table say, would be seen by the next call.
_INITIALIZED_EACH_CALL = {'VarHandleOp', 'VariableV2', 'HashTableV2'}


class GraphFunction:
  """Imports a serialized TensorFlow graph once and runs it as often as it is called.

  Stateful operations run anew in each call, nothing is kept from one to the next, and calls
  of several threads do not see each other's variables.

  Args:
    proto: A TFF `Computation` message that holds TensorFlow.
  """

  def __init__(self, proto: Any):
    computation = proto.tensorflow
    graph_def = tf.compat.v1.GraphDef()
    computation.graph_def.Unpack(graph_def)
    names = {node.name for node in graph_def.node}
    stateful = {
      node.op
      for nodes in (graph_def.node, *(one.node_def for one in graph_def.library.function))
      for node in nodes
      if 'container' in node.attr
    }
    self._keep_sessions = stateful <= _INITIALIZED_EACH_CALL
    self._graph = tf.Graph()
    inputs: list[Any] = []
    with self._graph.as_default():
      datasets = {}
      for kind, name in _tensors(computation.parameter):
        if name.split(':')[0] not in names:
          inputs.append(None)  # TFF's optimization found that nothing depends on it.
        elif kind == 'sequence':
          inputs.append(tf.compat.v1.placeholder(tf.string, []))
          datasets[name] = tf.raw_ops.DatasetFromGraph(graph_def=inputs[-1])
        else:
          inputs.append(name)
      tf.import_graph_def(graph_def, input_map=datasets, name='')
      # A copy: TensorFlow refuses to fetch what is fed.
      outputs = [
        tf.identity(self._graph.get_tensor_by_name(name))
        for _, name in _tensors(computation.result)
      ]
    self._inputs, self._outputs = inputs, outputs
    self._initialize = computation.initialize_op
    self._idle: queue.SimpleQueue[Any] = queue.SimpleQueue()

  def __call__(self, arguments: list[Any]) -> list[Any]:
    """Runs the graph.

    Args:
      arguments: The leaves of the parameter: arrays of the declared types, datasets, or
        serialized graphs of datasets.

    Returns:
      The leaves of the result.
    """
    if not self._outputs:
      return []
    feeds = [
      _fed(argument)
      for argument, place in zip(arguments, self._inputs, strict=True)
      if place is not None
    ]
    try:
      initialize, run = call = self._idle.get_nowait()
    except queue.Empty:
      initialize, run = call = self._new_session()
    initialize()
    results = run(*feeds)
    if self._keep_sessions:
      self._idle.put(call)
    return results

  def _new_session(self) -> tuple[Any, Any]:
    config = tf.compat.v1.ConfigProto()
    # TFF has optimized the graph when it compiled it; here it would be done again in each call,
    # for the functions that run on a dataset's elements.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    # What looks like a function of constants, the reading of a file say, is not evaluated once
    # and kept.
    config.graph_options.optimizer_options.opt_level = tf.compat.v1.OptimizerOptions.L0
    session = tf.compat.v1.Session(graph=self._graph, config=config)
    initialize = lambda: None  # noqa: E731
    if self._initialize:
      initialize = session.make_callable(self._graph.get_operation_by_name(self._initialize))
    feeds = [place for place in self._inputs if place is not None]
    return initialize, session.make_callable(self._outputs, feed_list=feeds)


def _tensors(binding: Any) -> Iterator[tuple[str, str]]:
  """The (kind, tensor name) pairs of a binding's leaves."""
  kind = binding.WhichOneof('binding')
  if kind == 'struct':
    for element in binding.struct.element:
      yield from _tensors(element)
  elif kind == 'sequence':
    yield kind, binding.sequence.variant_tensor_name
  elif kind == 'tensor':
    yield kind, binding.tensor.tensor_name


def _fed(argument: Any) -> Any:
  """A leaf as a session takes it: a dataset travels as its graph, as to a TFF worker.

  So each call reads the dataset from its beginning, shuffled by its own seeds.
  """
  if isinstance(argument, tf.data.Dataset):
    variant = tf.data.experimental.to_variant(argument)
    return tf.raw_ops.DatasetToGraphV2(input_dataset=variant).numpy()
  return np.asarray(argument, object) if isinstance(argument, bytes) else argument

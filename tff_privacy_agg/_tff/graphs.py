"""The TensorFlow graphs inside a TFF computation."""

from collections.abc import Iterator
from typing import Any

import tensorflow as tf


def graphs(message: Any) -> list[Any]:
  """All TensorFlow graphs in a message of protobuf, such as a serialized computation."""
  found = []
  for field, value in message.ListFields():
    if field.name == 'graph_def':
      graph = tf.compat.v1.GraphDef()
      value.Unpack(graph)
      found.append(graph)
    elif field.message_type is not None:
      parts = value if field.label == field.LABEL_REPEATED else [value]
      found += [graph for part in parts for graph in graphs(part)]
  return found


def nodes(message: Any) -> Iterator[Any]:
  """All operations of these graphs, those of their functions included."""
  for graph in graphs(message):
    yield from graph.node
    for function in graph.library.function:
      yield from function.node_def

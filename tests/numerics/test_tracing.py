"""Functions that are traced once in a process."""

import numpy as np
import pytest
import tensorflow as tf

from tff_privacy_agg.numerics.tracing import traced_once


def counted(apart=False):
  """A decorated function, and the list to which its body adds an entry when it is traced."""
  traces = []

  @traced_once(tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32), apart=apart)
  def scaled(x, factor):
    """Scales."""
    traces.append(1)
    return tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y * factor), (0, x))[1]

  return scaled, traces


def in_a_graph(function):
  with tf.Graph().as_default() as graph:
    out = function(tf.constant([1, 2]), tf.constant(3))
    with tf.compat.v1.Session() as session:
      return session.run(out), graph.as_graph_def()


@pytest.mark.parametrize('apart', [False, True])
def test_one_trace_serves_every_graph_and_eager_calls(apart):
  scaled, traces = counted(apart)
  for _ in range(2):
    np.testing.assert_array_equal(in_a_graph(scaled)[0], [9, 18])
    np.testing.assert_array_equal(scaled(tf.constant([1, 2, 3]), tf.constant(2)), [4, 8, 12])
    inner = tf.function(lambda: scaled(tf.constant([5]), tf.constant(1)), autograph=False)
    np.testing.assert_array_equal(inner(), [5])
  assert len(traces) == 1


@pytest.mark.parametrize('apart', [False, True])
def test_a_function_that_is_to_stay_apart_says_so_in_the_graph(apart):
  library = in_a_graph(counted(apart)[0])[1].library.function
  assert any(function.attr['_noinline'].b for function in library) == apart


def test_the_trace_leaves_no_operation_of_its_own_in_the_graph_that_calls():
  scaled, _ = counted()
  with tf.Graph().as_default() as graph:
    scaled(tf.constant([1]), tf.constant(1))
  kinds = {operation.type for operation in graph.get_operations()}
  assert kinds <= {'Const', 'PartitionedCall', 'StatefulPartitionedCall', 'Identity'}


def test_the_name_and_text_stay():
  scaled, _ = counted()
  assert (scaled.__name__, scaled.__doc__) == ('scaled', 'Scales.')

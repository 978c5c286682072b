"""Which graphs TFF's compilation optimizes, and which it leaves as they were written."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg._tff import compat, compilation, graphs

OPERATIONS = 40


def sizes(computation):
  return sorted(
    len(graph.node) for graph in graphs.graphs(compat.serialize_computation(computation))
  )


def add_often(x):
  for _ in range(OPERATIONS):
    x = x + tf.constant(1.0) * tf.constant(2.0)
  return x


@tff.tensorflow.computation(np.float32)
def unmarked(x):
  return add_often(x)


@tff.tensorflow.computation(np.float32)
def as_written(x):
  compilation.mark_as_written()
  return add_often(x)


@tff.tensorflow.computation(np.float32)
def part_of_another(x):
  with tf.name_scope('of_another'):
    compilation.mark_as_written()
  return add_often(x)


def test_optimizes_a_graph_unless_it_says_that_it_runs_as_written():
  assert sizes(compilation.compile_native(unmarked))[-1] < OPERATIONS
  assert sizes(compilation.compile_native(as_written)) == sizes(as_written)


def test_optimizes_a_graph_of_which_only_a_part_says_so():
  assert sizes(compilation.compile_native(part_of_another))[-1] < OPERATIONS


@pytest.mark.parametrize('randomness', ['philox', 'chacha20'])
def test_the_graphs_of_a_stack_run_as_written(randomness):
  process = tpa.compose(
    [
      tpa.Clipping(norm=1.0),
      tpa.Quantization(),
      tpa.DiscreteGaussianNoise(noise_multiplier=1.0),
      tpa.SecureModularSum(bits=20),
    ],
    cohort=tpa.Cohort(expected=10),
    randomness=randomness,
  ).create(tff.TensorType(np.float32, [20]))
  before, after = sizes(process.next), sizes(compilation.compile_native(process.next))
  assert after[-2:] == before[-2:]

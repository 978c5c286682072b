"""What a round is made of, as golden numbers: a guard against slow rounds that times nothing.

A number that grows wants a reason; one that falls is to be written down here.
"""

import cases
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from tensorflow.core.framework import graph_pb2
from tensorflow_federated.proto.v0 import computation_pb2

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation.stack import Stack

DIM = 10_000
VALUE = tff.TensorType(tf.float32.as_numpy_dtype, [DIM])
COHORT = tpa.Cohort(expected=10)


def stack_with(randomness, noise_multiplier=0.5):
  return tpa.compose(
    [
      tpa.Mean(),
      tpa.Zeroing(threshold=tpa.AdaptiveQuantile(initial=10.0, target=0.98)),
      tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=0.1, target=0.5)),
      tpa.HadamardRotation(),
      tpa.Quantization(),
      tpa.DiscreteGaussianNoise(noise_multiplier=noise_multiplier),
      tpa.SecureModularSum(bits=20),
    ],
    cohort=COHORT,
    randomness=randomness,
  )


def operations(computation) -> list[int]:
  """Operations of each TensorFlow graph in a computation, functions included, largest first."""
  counts = []

  def visit(message):
    for descriptor, value in message.ListFields():
      parts = value if descriptor.label == descriptor.LABEL_REPEATED else [value]
      for part in parts:
        if isinstance(part, computation_pb2.TensorFlow):
          graph = graph_pb2.GraphDef()
          part.graph_def.Unpack(graph)
          functions = sum(len(function.node_def) for function in graph.library.function)
          counts.append(len(graph.node) + functions)
        elif hasattr(part, 'ListFields'):
          visit(part)

  visit(type(computation).get_proto(computation))
  return sorted(counts, reverse=True)


# Operations of the client's graph, of the server's, of the broadcast's. Those of the cipher are twice
# in the client's: in a function that hardly ever runs, and where each round draws.
OPERATIONS = {'chacha20': [694, 324, 11], 'philox': [483, 324, 11]}


@pytest.mark.parametrize('randomness', OPERATIONS)
def test_graphs_have_as_many_operations_as_before(randomness):
  process = stack_with(randomness).create(VALUE)
  assert operations(process.next)[:3] == OPERATIONS[randomness]


def test_a_round_is_one_map_at_the_clients_and_one_sum():
  """`federated_map` here is the clients' (one, and TFF's selection); `federated_apply` the server's."""
  assert cases.intrinsics(stack_with('chacha20').create(VALUE).next) == {
    'federated_apply': 5,
    'federated_broadcast': 2,
    'federated_map': 2,
    'federated_secure_modular_sum': 1,
    'federated_value_at_server': 1,
    'federated_zip_at_clients': 2,
    'federated_zip_at_server': 1,
  }


def bound_with(noise_multiplier):
  bound = stack_with('chacha20', noise_multiplier).bind(VALUE)
  words = Stack(binding=bound, delta=1e-6)._random_words()
  return bound.design, {stream: count for stream, count in words.items() if count}


# Of a stack: 4 for the rounding's seed, then the vector's noise and its ties, then one draw for each
# of two bits and their ties. The padded dimension is 10,240.
WORDS = {
  0.5: {0: 4, 16: 7680, 17: 75, 32: 1, 33: 6},  # 24 bits a value
  0.1: {0: 4, 16: 5120, 17: 726, 32: 1, 33: 6},  # 16 bits a value
}


@pytest.mark.parametrize('noise_multiplier', WORDS)
def test_a_value_takes_24_or_16_random_bits(noise_multiplier):
  design, words = bound_with(noise_multiplier)
  assert design.dimension <= 1.1 * DIM
  assert words == WORDS[noise_multiplier]
  assert (design.local_variance > 200**2) == (noise_multiplier == 0.5)


def test_secret_bits_of_a_value_at_most_24_where_the_deviation_is_at_most_200():
  """Noise and rounding together, and what is drawn ahead for ties that do not come."""
  _, words = bound_with(0.1)
  assert 32 * sum(words.values()) / DIM <= 24

"""The key comes from the operating system, anew in every execution.

TensorFlow's own generators start from 32 bits at most, or from a seed that the caller or a
checkpoint holds; a key made from the round's number repeats when a round is run again.
"""

import numpy as np
import pytest
import tensorflow as tf
from attack_runs import plain_layers, stack_of, stream

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import entropy
from tff_privacy_agg.numerics.randomness import RandomStream

DIM = 64
VALUE = tf.zeros([DIM])


def compiled(stack, draw_key):
  """A client's work as a graph, as a runtime executes it; `draw_key` gets the round's number."""

  @tf.function(autograph=False)
  def client(state):
    params = stack.prepare(state)
    source = RandomStream(kind='philox', key=draw_key(params['round']))
    return stack.client(params, VALUE, source)

  return client


def test_the_same_state_twice_gives_different_noise():
  """A round resumed from a checkpoint must not repeat its noise."""
  stack = stack_of(plain_layers(z=8.0), DIM)
  state = stack.init()
  client = compiled(stack, entropy.operating_system_key)
  sent = {tuple(client(state)['vector'].numpy()) for _ in range(20)}
  assert len(sent) == 20


def test_of_the_test_a_key_from_the_round_number_repeats():
  stack = stack_of(plain_layers(z=8.0), DIM)
  client = compiled(stack, lambda number: tf.tile(tf.cast(number, tf.int32)[None], [8]))
  sent = {tuple(client(stack.init())['vector'].numpy()) for _ in range(3)}
  assert len(sent) == 1


def test_a_seed_for_tensorflow_does_not_fix_the_key():
  def keys(draw):
    found = []
    for _ in range(3):
      tf.random.set_seed(1)
      found.append(tuple(draw().numpy()))
    return set(found)

  assert len(keys(lambda: entropy.operating_system_key(tf.constant(0)))) == 3
  # Of the test: TensorFlow's own generator gives one key.
  assert len(keys(lambda: tf.random.uniform([8], maxval=2**31 - 1, dtype=tf.int32))) == 1


def test_the_clients_graph_draws_from_the_operating_system_only():
  """Stateless generators, keyed by what was read; no other source of randomness."""
  stack = stack_of(plain_layers(z=8.0), DIM)
  graph = compiled(stack, entropy.operating_system_key).get_concrete_function(stack.init()).graph
  definition = graph.as_graph_def()
  operations = [node.op for node in definition.node]
  for function in definition.library.function:
    operations += [node.op for node in function.node_def]
  assert operations.count('TextLineDataset') == 1
  assert 'ReadFile' not in operations
  random = {op for op in operations if 'Random' in op or 'Deterministic' in op or 'Rng' in op}
  assert all(op.startswith('Stateless') for op in random)
  assert random


def test_a_key_that_would_be_folded_into_the_graph_is_refused():
  @tf.function(autograph=False)
  def client():
    return entropy.operating_system_key(tf.constant(7))

  with pytest.raises(ConfigurationError, match='`unfoldable` must be known only when'):
    client()


def test_neither_state_nor_broadcast_holds_a_key():
  """What a checkpoint or a client could read does not give the noise."""
  stack = stack_of(plain_layers(z=8.0), DIM)
  state = stack.init()
  assert list(state) == ['privacy']
  assert list(stack.prepare(state)) == ['round']
  first, second = (
    stack.client(stack.prepare(state), VALUE, stream(seed))['vector'] for seed in (1, 2)
  )
  assert np.mean(first.numpy() == second.numpy()) < 0.1

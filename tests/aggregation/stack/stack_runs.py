"""Rounds of a stack in eager mode, with keys that the test chooses."""

import numpy as np
import tensorflow as tf

from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.numerics.randomness import RandomStream

DELTA = 1e-6


def stream(*numbers: int, kind: str = 'philox') -> RandomStream:
  """A stream whose key is set by `numbers`."""
  key = np.random.default_rng(numbers).integers(-(2**31), 2**31, 8).astype(np.int32)
  return RandomStream(kind=kind, key=tf.constant(key))


def stack_of(layers, dim, cohort=None, dtype=tf.float32, delta=DELTA) -> Stack:
  cohort = cohort or Cohort(expected=10, minimum=1)
  return Stack(binding=binding.bind(layers, cohort, dim, dtype), delta=delta)


def draws_at_server(stack) -> bool:
  mechanism = stack.binding.mechanism
  return mechanism is not None and not mechanism.distributed


def messages(stack, state, values, weights=None, seed=0):
  """What each client sends; client i draws from key (seed, i)."""
  params = stack.prepare(state)
  return [
    stack.client(
      params,
      tf.constant(value, stack.binding.dtype),
      None if draws_at_server(stack) else stream(seed, i),
      None if weights is None else tf.constant(weights[i], tf.float32),
    )
    for i, value in enumerate(values)
  ]


def added(sent):
  """The sums over clients, dtype overflow and all, as a runtime would give them."""
  return {name: tf.add_n([one[name] for one in sent]) for name in sent[0]}


def serve(stack, state, sums, drawn=None):
  """The server's part: next state, decoded vector as float64, measurements as NumPy scalars."""
  new_state, vector, measurements = stack.server(state, sums, drawn)
  measured = {
    layer: {key: tf.convert_to_tensor(value).numpy() for key, value in entry.items()}
    for layer, entry in measurements.items()
  }
  return new_state, vector.numpy().astype(np.float64), measured


def run(stack, values, state=None, weights=None, seed=0):
  """One round: what `serve` gives."""
  state = stack.init() if state is None else state
  sums = added(messages(stack, state, values, weights, seed))
  drawn = stream(seed, 10**6) if draws_at_server(stack) else None
  return serve(stack, state, sums, drawn)


def silent_sums(stack, survivors):
  """The sums of a round of `survivors` clients that sent zeros and no noise."""
  terminal = stack.binding.layers[-1]
  sent = messages(stack, stack.init(), [np.zeros(stack.binding.slots[first(stack)].dim)])[0]
  counts = np.zeros(sent['channels'].shape, sent['channels'].dtype.as_numpy_dtype)
  counts[0] = survivors
  dim = stack.binding.slots[terminal.name].dim
  return {'vector': tf.zeros([dim], sent['vector'].dtype), 'channels': tf.constant(counts)}


def first(stack) -> str:
  return stack.binding.layers[0].name

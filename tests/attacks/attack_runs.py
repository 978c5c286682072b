"""Rounds of a stack as an attacker meets them: what clients send, what the server gets."""

import numpy as np
import tensorflow as tf

from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  Clipping,
  DiscreteGaussianNoise,
  Quantization,
  SecureModularSum,
  Zeroing,
)
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.numerics import modular
from tff_privacy_agg.numerics.randomness import RandomStream


def stream(*numbers: int, kind: str = 'philox') -> RandomStream:
  """A stream whose key is set by `numbers`."""
  key = np.random.default_rng(numbers).integers(-(2**31), 2**31, 8).astype(np.int32)
  return RandomStream(kind=kind, key=tf.constant(key))


def stack_of(layers, dim, cohort=None, dtype=tf.float32) -> Stack:
  cohort = cohort or Cohort(expected=10, minimum=1)
  return Stack(binding=binding.bind(layers, cohort, dim, dtype), delta=1e-6)


def plain_layers(bits=20, z=1.0):
  """The least that is private."""
  noise = [DiscreteGaussianNoise(noise_multiplier=z)] if z else []
  return [Clipping(norm=1.0), Quantization(), *noise, SecureModularSum(bits=bits)]


def adaptive_layers(threshold: AdaptiveQuantile, z=0.5, bits=20):
  """A zeroing bit next to the vector."""
  return [Zeroing(threshold=threshold), *plain_layers(bits, z)]


def messages(stack, values, state=None, seed=0, weights=None):
  """What each client sends; client i draws from key (seed, i)."""
  params = stack.prepare(stack.init() if state is None else state)
  return [
    stack.client(
      params,
      tf.constant(value, stack.binding.dtype),
      stream(seed, i),
      None if weights is None else tf.constant(weights[i], tf.float32),
    )
    for i, value in enumerate(values)
  ]


def sums_of(stack, sent):
  """What the server gets: sums modulo the moduli, if there are any."""
  sums = {name: tf.add_n([one[name] for one in sent]) for name in sent[0]}
  sums['channels'] = modular.wrap(sums['channels'], stack.binding.channel_bits)
  if stack.binding.design is not None:
    sums['vector'] = modular.wrap(sums['vector'], stack.binding.design.bits)
  return sums


def run(stack, values, state=None, seed=0, weights=None):
  """One round: next state, decoded vector, measurements."""
  state = stack.init() if state is None else state
  sums = sums_of(stack, messages(stack, values, state, seed, weights))
  return stack.server(state, sums, None)


def channel_sums(stack, values, rounds, seed=0):
  """`[rounds, 1 + channels]`: what the server gets of the channels, with fresh keys each round."""
  params = stack.prepare(stack.init())
  clients = len(values)
  keys = np.random.default_rng(seed).integers(-(2**31), 2**31, [rounds * clients, 8])
  vectors = tf.tile(tf.constant(values, stack.binding.dtype), [rounds, 1])

  def one(inputs):
    vector, key = inputs
    return stack.client(params, vector, RandomStream(kind='philox', key=key))['channels']

  @tf.function(autograph=False)
  def run_all(vectors, keys):
    sent = tf.map_fn(one, (vectors, keys), fn_output_signature=tf.int32)
    return tf.reduce_sum(tf.reshape(sent, [rounds, clients, -1]), axis=1)

  return modular.wrap(run_all(vectors, keys.astype(np.int32)), stack.binding.channel_bits)

"""A round of a stack as an attacker meets it: what clients send, what the server gets."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import Layer
from tff_privacy_agg.aggregation.layers.base import Measurements, Numbers, State
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import entropy, modular
from tff_privacy_agg.numerics.randomness import RandomStream

Message = Mapping[str, np.ndarray]


def stack_of(layers: Sequence[Layer], dimension: int, clients: int) -> Stack:
  """A stack for `clients` clients with vectors of float32 `[dimension]`."""
  cohort = Cohort(expected=clients)
  return Stack(binding=binding.bind(layers, cohort, dimension, tf.float32), delta=1e-6)


def sender(stack: Stack) -> Callable[[np.ndarray], list[Message]]:
  """The clients' function from `[clients, dimension]` to their messages.

  Each client's noise is keyed by the operating system, as in a training.
  """

  @tf.function(autograph=False)
  def client(state: State, value: tf.Tensor) -> Numbers:
    params = stack.prepare(state)
    key = entropy.operating_system_key(params['round'])
    return stack.client(params, value, RandomStream(kind='philox', key=key))

  def send(values: np.ndarray) -> list[Message]:
    state = stack.init()
    sent = [client(state, tf.constant(value, tf.float32)) for value in values]
    return [{name: part.numpy() for name, part in one.items()} for one in sent]

  return send


def received(stack: Stack, sent: Sequence[Message]) -> Message:
  """The sums that the server receives, modulo their moduli."""
  bits = _bits(stack)
  totals = {name: sum(one[name].astype(np.int64) for one in sent) for name in bits}
  return {name: modular.wrap(totals[name], bits[name]).numpy() for name in bits}


def decoded(stack: Stack, sums: Message) -> tuple[State, tf.Tensor, Measurements]:
  """The server's decoding of the sums: next state, vector, measurements."""
  dtypes = {name: modular.dtype_for(bits) for name, bits in _bits(stack).items()}
  typed = {name: tf.constant(sums[name], dtypes[name]) for name in sums}
  return stack.server(stack.init(), typed, None)


def _bits(stack: Stack) -> Mapping[str, int]:
  design, mechanism = stack.binding.design, stack.binding.mechanism
  if design is None or (mechanism is not None and not mechanism.distributed):
    raise ConfigurationError(
      'The attack on residues needs a stack that sends residues. End it with `SecureModularSum`.'
    )
  return {'vector': design.bits, 'channels': stack.binding.channel_bits}

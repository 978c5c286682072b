"""The least that a round costs in TFF's runtime: what no aggregator of this shape can be faster than."""

from collections import OrderedDict

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

BITS = 20
_CHANNEL_BITS = 30


def modular_sum(values, moduli):
  return tff.backends.mapreduce.federated_secure_modular_sum(values, moduli)


def residues(value):
  return tf.bitwise.bitwise_and(tf.cast(value, tf.int32), 2**BITS - 1)


class ModularSumFactory(tff.aggregators.UnweightedAggregationFactory):
  """A cast and one secure modular sum."""

  def create(self, value_type):
    @tff.tensorflow.computation(value_type)
    def cast(value):
      return residues(value)

    @tff.federated_computation
    def initialize():
      return tff.federated_value((), tff.SERVER)

    @tff.federated_computation(
      tff.FederatedType((), tff.SERVER), tff.FederatedType(value_type, tff.CLIENTS)
    )
    def next_round(state, values):
      return tff.templates.MeasuredProcessOutput(
        state=state,
        result=modular_sum(tff.federated_map(cast, values), np.int32(2**BITS)),
        measurements=tff.federated_value((), tff.SERVER),
      )

    return tff.templates.AggregationProcess(initialize, next_round)


class EmptyRoundFactory(tff.aggregators.UnweightedAggregationFactory):
  """All that our stack sends and runs, with nothing computed in it.

  A state; what a layer needs of it, broadcast; one map at the clients, to a vector and some
  channels; their secure modular sum; and one map at the server, to a state, floats and a number.
  """

  def create(self, value_type):
    @tff.tensorflow.computation
    def initial():
      return OrderedDict(
        norm=tf.constant(1.0), seed=tf.zeros([2], tf.int64), rdp=tf.zeros([60], tf.float64)
      )

    state_type = initial.type_signature.result

    @tff.tensorflow.computation(state_type)
    def prepare(state):
      return OrderedDict(norm=state['norm'], seed=state['seed'])

    params_type = prepare.type_signature.result

    @tff.tensorflow.computation(params_type, value_type)
    def encode(params, value):
      return OrderedDict(
        vector=residues(value * params['norm']), channels=tf.cast(params['seed'], tf.int32)
      )

    message_type = encode.type_signature.result

    @tff.tensorflow.computation(state_type, message_type)
    def finish(state, sums):
      new_state = OrderedDict(state, seed=state['seed'] + 1)
      return new_state, tf.cast(sums['vector'], tf.float32), sums['channels'][0]

    @tff.federated_computation
    def initialize():
      return tff.federated_eval(initial, tff.SERVER)

    @tff.federated_computation(
      initialize.type_signature.result, tff.FederatedType(value_type, tff.CLIENTS)
    )
    def next_round(state, values):
      params = tff.federated_broadcast(tff.federated_map(prepare, state))
      messages = tff.federated_map(encode, (params, values))
      moduli = OrderedDict(vector=np.int32(2**BITS), channels=np.int32(2**_CHANNEL_BITS))
      sums = modular_sum(messages, moduli)
      new_state, result, number = tff.federated_map(finish, (state, sums))
      return tff.templates.MeasuredProcessOutput(
        state=new_state, result=result, measurements=number
      )

    return tff.templates.AggregationProcess(initialize, next_round)

"""What the process tests share: stacks, a tiny federated task, looks into a process."""

import re
from collections import Counter, OrderedDict

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa

VECTOR = tff.TensorType(np.float32, [4])
WEIGHT = tff.TensorType(np.float32)
WEIGHTS = tff.to_type(OrderedDict(w=tff.TensorType(np.float32, [2, 3]), b=VECTOR))


def exact(*layers, maximum=10, bits=44, norm=100.0):
  """A stack without noise: layers, a norm that is not reached, fine quantization."""
  return tpa.compose(
    [
      *layers,
      tpa.Clipping(norm=norm),
      tpa.Quantization(),
      tpa.SecureModularSum(bits=bits),
    ],
    cohort=tpa.Cohort(expected=maximum, minimum=1),
  )


def quantization_step(factory, value_type):
  """Most that rounding moves one coordinate of one client, for `exact` of norm 100."""
  return 100.0 / factory.bind(value_type).design.scaled_norm


def noised(cohort, *, noise_multiplier=1.0, bits=20, randomness='chacha20', first=()):
  """A stack with every kind of layer that a private one has."""
  return tpa.compose(
    [
      *first,
      tpa.Zeroing(threshold=tpa.AdaptiveQuantile(initial=10.0, target=0.98)),
      tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5)),
      tpa.HadamardRotation(),
      tpa.Quantization(),
      tpa.DiscreteGaussianNoise(noise_multiplier=noise_multiplier),
      tpa.SecureModularSum(bits=bits),
    ],
    cohort=cohort,
    randomness=randomness,
  )


def ddp(*args, **kwargs):
  return tpa.ddp_secure_aggregator(1.0, 3, *args, **kwargs).create(WEIGHTS)


# Processes whose only look at the clients is one secure modular sum.
SECURE_PROCESSES = {
  'ddp': ddp,
  'ddp, dft, no zeroing': lambda: ddp(18, False, 'dft'),
  'ddp, skellam': lambda: ddp(mechanism='distributed_skellam'),
  'secure': lambda: tpa.secure_aggregator(weighted=False).create(WEIGHTS),
  'secure, weighted': lambda: tpa.secure_aggregator().create(WEIGHTS, WEIGHT),
  'secure, weighted, bare': lambda: tpa.secure_aggregator(zeroing=False, clipping=False).create(
    WEIGHTS, WEIGHT
  ),
}


def model_fn():
  """A linear model of two inputs."""
  model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[2]),
      tf.keras.layers.Dense(1, kernel_initializer='zeros'),
    ]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=OrderedDict(
      x=tf.TensorSpec([None, 2], tf.float32), y=tf.TensorSpec([None, 1], tf.float32)
    ),
  )


def client_dataset(client):
  """Four examples of `y = x0 + 2 x1`."""
  x = np.random.default_rng(client).normal(size=[4, 2]).astype(np.float32)
  y = x @ np.array([[1.0], [2.0]], np.float32)
  return tf.data.Dataset.from_tensor_slices(OrderedDict(x=x, y=y)).batch(2)


def sgd(learning_rate):
  return tff.learning.optimizers.build_sgdm(learning_rate)


def fed_avg(aggregator, **kwargs):
  """Unweighted federated averaging in which nothing but the aggregate leaves a client."""
  kwargs.setdefault('metrics_aggregator', tpa.no_metrics)
  return tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn, sgd(0.1), sgd(1.0), model_aggregator=aggregator, **kwargs
  )


def intrinsics(computation):
  """How often each federated intrinsic is called in a computation."""
  text = computation.to_building_block().compact_representation()
  return Counter(re.findall(r'\bfederated_\w+', text))


def map_reduce_form(process):
  """The map-reduce form of an aggregation process' `next`; its client takes value and weight."""
  state_type, *placed = process.next.type_signature.parameter
  clients_type = tff.FederatedType([one.member for one in placed], tff.CLIENTS)

  @tff.federated_computation(state_type, clients_type)
  def pair(state, values):
    output = process.next(state, *(values[index] for index in range(len(placed))))
    return output.state, tff.federated_zip((output.result, output.measurements))

  return tff.backends.mapreduce.get_map_reduce_form_for_computation(pair)


def modular_sum(form, messages):
  """What a secure modular sum makes of the clients' results of `work`."""
  (moduli,) = form.secure_modular_sum_modulus()
  sums = OrderedDict()
  for name, modulus in moduli.items():
    total = sum(np.asarray(message[3][0][name], np.int64) for message in messages)
    sums[name] = (total % modulus).astype(messages[0][3][0][name].dtype)
  return sums

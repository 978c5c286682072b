"""Private federated averaging with TFF in one page: python examples/federated_averaging.py."""

import collections

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa

CLIENTS, ROUNDS, FEATURES = 40, 5, 8


def model_fn():
  model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[FEATURES]),
      tf.keras.layers.Dense(1, kernel_initializer='zeros'),
    ]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, FEATURES]), y=tf.TensorSpec([None, 1])
    ),
  )


def client_datasets():
  """Each client holds noisy observations of one linear function."""
  rng = np.random.default_rng(0)
  truth = rng.normal(size=[FEATURES, 1])
  for _ in range(CLIENTS):
    x = rng.normal(size=[20, FEATURES]).astype(np.float32)
    y = (x @ truth + 0.1 * rng.normal(size=[20, 1])).astype(np.float32)
    yield tf.data.Dataset.from_tensor_slices(collections.OrderedDict(x=x, y=y)).batch(10)


def main():
  tpa.runtime.simulation_context()
  aggregator = tpa.ddp_secure_aggregator(
    noise_multiplier=2.0, expected_clients_per_round=CLIENTS, bits=16, delta=1e-3
  )
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn,
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.05),
    model_aggregator=aggregator,
    metrics_aggregator=tpa.no_metrics,
    loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
  )
  state, data = process.initialize(), list(client_datasets())
  for round_number in range(1, ROUNDS + 1):
    output = process.next(state, data)
    state = output.state
    privacy = output.metrics['aggregator']['privacy']
    print(
      f'round {round_number}: epsilon {privacy["epsilon"]:.2f} at delta {privacy["delta"]:.1g}, '
      f'{privacy["survivors"]} clients'
    )


if __name__ == '__main__':
  main()

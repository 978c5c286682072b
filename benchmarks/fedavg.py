"""Measures a round of federated averaging, private against not private: ratios of one run."""

import argparse
import os
import sys

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.learning.training_task import TrainingTask

# TFF's own adaptive clip refuses 1.0 and more for 10 clients.
NOISE_MULTIPLIER = 0.5
BITS = 20
NONE, REDUCE, CHACHA, PHILOX, UPSTREAM, SECURE = (
  'no aggregator',
  'no aggregator, reduce loop',
  'ours, chacha20',
  'ours, philox',
  'tff ddp + zeroing',
  'ours, chacha20, SecAggContext',
)
NAMES = (NONE, REDUCE, CHACHA, PHILOX, UPSTREAM, SECURE)


def aggregator(name: str, clients: int):
  """What TFF's builder takes as `model_aggregator`."""
  if name in (NONE, REDUCE):
    return None
  if name == UPSTREAM:
    return tff.learning.ddp_secure_aggregator(NOISE_MULTIPLIER, clients, bits=BITS)
  return TrainingTask(
    population=max(200, clients),
    clients_per_round=clients,
    noise_multiplier=NOISE_MULTIPLIER,
    bits=BITS,
    randomness='philox' if name == PHILOX else 'chacha20',
  ).aggregator()


def build(model_fn, name: str, clients: int) -> tff.learning.templates.LearningProcess:
  sgd, loops = tff.learning.optimizers.build_sgdm, tff.learning.LoopImplementation
  return tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn,
    sgd(0.01),
    sgd(1.0),
    model_aggregator=aggregator(name, clients),
    metrics_aggregator=tpa.no_metrics,
    loop_implementation=loops.DATASET_REDUCE if name == REDUCE else loops.DATASET_ITERATOR,
  )


def as_installed(clients: int = 10) -> str:
  """Whether TFF's own aggregator can be built into federated averaging as installed."""
  try:
    build(TrainingTask().model_fn(), UPSTREAM, clients)
  except Exception as error:
    return measure.first_line(error)
  return 'builds'


def cnn():
  """Two convolutions and two dense layers for 28 x 28 pixels: 1,199,882 weights."""
  layers = tf.keras.layers
  model = tf.keras.Sequential(
    [
      layers.InputLayer(input_shape=[28, 28, 1]),
      layers.Conv2D(32, 3, activation='relu'),
      layers.Conv2D(64, 3, activation='relu'),
      layers.MaxPool2D(),
      layers.Flatten(),
      layers.Dense(128, activation='relu'),
      layers.Dense(10),
    ]
  )
  assert model.count_params() == 1_199_882
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    input_spec=(tf.TensorSpec([None, 28, 28, 1], tf.float32), tf.TensorSpec([None], tf.int32)),
  )


def cnn_batches(clients: int) -> list:
  """Three local steps of 20 random images each."""
  rng = np.random.default_rng(0)
  images = rng.normal(size=[60, 28, 28, 1]).astype(np.float32)
  labels = rng.integers(0, 10, 60).astype(np.int32)
  return [tf.data.Dataset.from_tensor_slices((images, labels)).batch(20)] * clients


def digits_batches(clients: int) -> list:
  task = TrainingTask(population=max(200, clients), clients_per_round=clients)
  train = task.load().train
  return [
    task.preprocess(train.create_tf_dataset_for_client(client))
    for client in train.client_ids[:clients]
  ]


def candidate(name: str, process, batches: list, secure):
  """A round of the process; `SECURE` runs in a context of its own."""

  def step(state):
    return process.next(state, batches).state

  def step_securely(state):
    with tpa.runtime.use(secure):
      return step(state)

  return measure.stepper(process.initialize(), step_securely if name == SECURE else step)


def cell(model: str, clients: int, repeats: int, secure) -> dict:
  candidates, failed = {}, {}
  model_fn = cnn if model == 'cnn' else TrainingTask().model_fn()
  batches = cnn_batches(clients) if model == 'cnn' else digits_batches(clients)
  for name in NAMES:
    try:
      process = build(model_fn, name, clients)
      candidates[name] = candidate(name, process, batches, secure)
    except Exception as error:
      failed[name] = measure.first_line(error)
  return {'model': model, **costs_of(candidates, failed, clients, repeats)}


def costs_of(candidates: dict, failed: dict, clients: int, repeats: int) -> dict:
  costs, failed_later = measure.interleave(candidates, repeats)
  base = costs[NONE]
  return {
    'clients': clients,
    'rounds': repeats,
    'wall_over_none': {name: round(cost.wall / base.wall, 2) for name, cost in costs.items()},
    'cpu_over_none': {name: round(cost.cpu / base.cpu, 2) for name, cost in costs.items()},
    'seconds_here': {name: cost.rounded(4) for name, cost in costs.items()},
    'failed': {**failed, **failed_later},
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--clients', default='10,100,300')
  parser.add_argument('--rounds', type=int, default=15, help='after two rounds of warm-up')
  parser.add_argument('--cnn-rounds', type=int, default=9, help='0 leaves the large model out')
  args = parser.parse_args()

  tf.get_logger().setLevel('CRITICAL')  # TFF's own layers leave unused assertions behind
  environment = measure.environment()
  print(environment)
  tpa.runtime.simulation_context()
  secure = tpa.runtime.SecAggContext()
  installed = as_installed()
  print(f"\nTFF's own aggregator in federated averaging, as installed: {installed}")
  lifted = measure.lift_nesting_limit()
  print(
    'protobuf: its limit of 100 nested messages is lifted from here on, by a private switch, '
    "for TFF's own aggregator."
    if lifted
    else "protobuf: no switch for its nesting limit here; TFF's own aggregator runs as it can."
  )
  cells = [cell('digits', int(clients), args.rounds, secure) for clients in args.clients.split(',')]
  if args.cnn_rounds:
    cells.append(cell('cnn', 10, args.cnn_rounds, secure))
  secure.close()
  print('\nA round of federated averaging, of 650 weights (digits) or 1,199,882 (cnn):\n')
  rows = [
    [
      f'{found["model"]}, {found["clients"]} clients',
      *(
        f'{found["wall_over_none"][name]:.2f} ({found["cpu_over_none"][name]:.2f})'
        if name in found['wall_over_none']
        else 'failed'
        for name in NAMES
      ),
    ]
    for found in cells
  ]
  print(measure.table([f'x {NONE}: wall (worker CPU)', *NAMES], rows))
  for found in cells:
    for name, error in found['failed'].items():
      print(f'{name} with {found["clients"]} clients failed: {error}')
  measure.write_json(
    args.json,
    {
      'environment': environment,
      'load_average_after': [round(load, 2) for load in os.getloadavg()],
      'nesting_limit_lifted': lifted,
      'as_installed': installed,
      'cells': cells,
    },
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())

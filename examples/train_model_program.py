"""TFF's own program, `train_model`, with a privacy ledger: python examples/train_model_program.py [DIRECTORY].

Run again, it goes on from its last round.
"""

import asyncio
import collections
import pathlib
import sys

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa

CLIENTS, SIZE, ROUNDS, FEATURES = 40, 20, 3, 8


def model_fn():
  keras = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[FEATURES]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    keras,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, FEATURES]), y=tf.TensorSpec([None, 1])
    ),
  )


def client_data():
  """Each client holds noisy observations of one linear function."""
  rng = np.random.default_rng(0)
  truth = rng.normal(size=[FEATURES, 1])
  clients = {}
  for number in range(CLIENTS):
    x = rng.normal(size=[20, FEATURES]).astype(np.float32)
    y = (x @ truth + 0.1 * rng.normal(size=[20, 1])).astype(np.float32)
    clients[f'client {number}'] = collections.OrderedDict(x=x, y=y)
  return tff.simulation.datasets.TestClientData(clients)


def main(directory):
  directory.mkdir(parents=True, exist_ok=True)
  context = tpa.runtime.simulation_context()
  process = tpa.build_private_learning_process(
    'fed_avg',
    model_fn,
    aggregator=tpa.ddp_secure_aggregator(2.0, SIZE),
    accounting=tpa.Accounting(population=CLIENTS, minimum_clients=SIZE),
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.05),
    server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
  )
  data = client_data()
  with process.open_ledger(directory / 'ledger.jsonl') as ledger:
    program = tff.learning.programs.train_model(
      train_process=process,
      train_data_source=tpa.CohortDataSource(
        data,
        tpa.UniformCohorts(client_ids=data.client_ids, size=SIZE, seed=0),
        preprocess=lambda examples: examples.batch(10),
        ledger=ledger,
        process=process,
      ),
      train_per_round_clients=SIZE,
      train_total_rounds=ROUNDS,
      program_state_manager=tff.program.FileProgramStateManager(str(directory / 'states')),
      model_output_manager=tff.program.MemoryReleaseManager(),
      train_metrics_manager=tpa.PrivacyLedgerReleaseManager(ledger),
      evaluation_manager=None,
      evaluation_periodicity=1,
    )
    # The one line that a program needs: its values stay with TFF until they are released.
    with tff.framework.get_context_stack().install(context.program_context()):
      asyncio.run(program)
    epsilon = ledger.epsilon('server')
    print(f'{ledger.state.rounds} rounds: epsilon {epsilon:.3f} at delta {ledger.facts.delta:g}')


if __name__ == '__main__':
  main(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else 'runs/program'))

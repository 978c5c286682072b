"""Measures a round of federated averaging, private against not private: ratios of one run."""

import argparse
import os
import sys

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.learning.training_task import TrainingTask

# TFF's own adaptive clip refuses 1.0 and more for 10 clients.
NOISE_MULTIPLIER = 0.5
BITS = 20
NONE, CHACHA, PHILOX, UPSTREAM = (
  'no aggregator',
  'ours, chacha20',
  'ours, philox',
  'tff ddp + zeroing',
)
NAMES = (NONE, CHACHA, PHILOX, UPSTREAM)


class UpstreamTask(TrainingTask):
  """The same task with TFF's own distributed-DP aggregator."""

  def aggregator(self):
    return tff.learning.ddp_secure_aggregator(
      self.noise_multiplier, self.clients_per_round, bits=self.bits
    )


def task(name: str, clients: int) -> TrainingTask:
  kind = UpstreamTask if name == UPSTREAM else TrainingTask
  return kind(
    population=max(200, clients),
    clients_per_round=clients,
    noise_multiplier=None if name == NONE else NOISE_MULTIPLIER,
    bits=BITS,
    randomness='philox' if name == PHILOX else 'chacha20',
  )


def as_installed(clients: int = 10) -> str:
  """Whether TFF's own aggregator can be built into federated averaging as installed."""
  try:
    task(UPSTREAM, clients).process()
  except Exception as error:
    return measure.first_line(error)
  return 'builds'


def cell(clients: int, rounds: int) -> dict:
  candidates, failed = {}, {}
  for name in NAMES:
    chosen = task(name, clients)
    examples = chosen.load()
    batches = [
      chosen.preprocess(examples.train.create_tf_dataset_for_client(client))
      for client in examples.train.client_ids[:clients]
    ]
    try:
      process = chosen.process()
      candidates[name] = measure.stepper(
        process.initialize(),
        lambda state, process=process, batches=batches: process.next(state, batches).state,
      )
    except Exception as error:
      failed[name] = measure.first_line(error)
  costs, failed_later = measure.interleave(candidates, rounds)
  base = costs[NONE]
  return {
    'clients': clients,
    'rounds': rounds,
    'wall_over_none': {name: round(cost.wall / base.wall, 2) for name, cost in costs.items()},
    'cpu_over_none': {name: round(cost.cpu / base.cpu, 2) for name, cost in costs.items()},
    'seconds_here': {name: cost.rounded(4) for name, cost in costs.items()},
    'failed': {**failed, **failed_later},
  }


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--clients', default='10,100')
  parser.add_argument('--rounds', type=int, default=15, help='after two rounds of warm-up')
  args = parser.parse_args()

  tf.get_logger().setLevel('CRITICAL')  # TFF's own layers leave unused assertions behind
  environment = measure.environment()
  print(environment)
  tpa.runtime.simulation_context()
  installed = as_installed()
  print(f"\nTFF's own aggregator in federated averaging, as installed: {installed}")
  lifted = measure.lift_nesting_limit()
  print(
    'protobuf: its limit of 100 nested messages is lifted from here on, by a private switch, '
    "for TFF's own aggregator."
    if lifted
    else "protobuf: no switch for its nesting limit here; TFF's own aggregator runs as it can."
  )
  cells = [cell(int(clients), args.rounds) for clients in args.clients.split(',')]
  print('\nA round of federated averaging of 650 weights on the digits:\n')
  rows = [
    [
      f'{found["clients"]} clients',
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

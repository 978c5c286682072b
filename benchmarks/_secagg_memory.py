"""One round of `SecAggContext` in a process of its own: its peak memory and its time.

python benchmarks/_secagg_memory.py CLIENTS VALUES
"""

import json
import pathlib
import sys
import time

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg.runtime import SecAggContext, use

BITS = 20


def resident(name: str) -> float:
  """MB of this process: `VmRSS` now, or `VmHWM` at most since it was reset."""
  for line in pathlib.Path('/proc/self/status').read_text(encoding='ascii').splitlines():
    if line.startswith(name):
      return int(line.split()[1]) * 1024 / 1e6
  raise KeyError(name)


def main() -> None:
  clients, values = map(int, sys.argv[1:])

  @tff.tensorflow.computation(np.int32, np.int32)
  def work(x, state):
    return tf.random.stateless_uniform([values], [x, state], 0, 2**BITS, tf.int32)

  @tff.tensorflow.computation(work.type_signature.result)
  def reduced(total):
    return tf.reduce_sum(total)  # wraps

  state_type = tff.FederatedType(np.int32, tff.SERVER)

  @tff.federated_computation(state_type, tff.FederatedType(np.int32, tff.CLIENTS))
  def one_round(state, data):
    vectors = tff.federated_map(work, (data, tff.federated_broadcast(state)))
    total = tff.backends.mapreduce.federated_secure_modular_sum(vectors, 2**BITS)
    return state, tff.federated_map(reduced, total)

  context = SecAggContext(maximum_clients=max(1024, clients))
  with use(context):
    one_round(1, [0, 1, 2])  # graphs, libraries and their pools are there from here on
    before, cpu, wall = resident('VmRSS'), time.process_time(), time.perf_counter()
    pathlib.Path('/proc/self/clear_refs').write_text('5', encoding='ascii')
    total = one_round(1, list(range(clients)))[1]
    seconds = [time.perf_counter() - wall, time.process_time() - cpu]
  report = context.last_round.as_dict()
  print(
    json.dumps(
      {
        'clients': clients,
        'values': values,
        'total': int(total),
        'megabytes_of_one_value': values * 4 / 1e6,
        'megabytes_before': round(before, 1),
        'megabytes_peak': round(resident('VmHWM'), 1),
        'seconds_wall_cpu': [round(one, 2) for one in seconds],
        'seconds': {name: round(one, 2) for name, one in report.items() if 'seconds' in name},
      }
    )
  )


if __name__ == '__main__':
  main()

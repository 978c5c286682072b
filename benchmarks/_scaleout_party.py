"""The coordinator of `scaleout.py`: rounds of federated averaging whose clients work elsewhere.

python benchmarks/_scaleout_party.py ADDRESS    # of the scheduler; `here` for no cluster

Each line of standard input is answered by a line of JSON: `CLIENTS 1` and `CLIENTS 2` run a round with
this version of the protocol, `CLIENTS 0` the clients' work without the protocol.
"""

import hashlib
import json
import sys
import time

import numpy as np
from _scaleout_net import forget_high_water, high_water
from runtime import averaging

from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.runtime import Cluster, InProcessContext, SecAggContext, use

# Each of so many data sets is given to several clients when there are more clients.
DATA_SETS = 200
MOST_CLIENTS = 10_000
WARM_UP = 64


class MeteredCluster(Cluster):
  """Notes when the clients' work begins and ends, in wall and CPU time of this process."""

  def run(self, form, data, broadcast):
    self.begun = clocks()
    yield from super().run(form, data, broadcast)
    self.ended = clocks()


def clocks():
  return time.perf_counter(), time.process_time()


def digest(weights):
  return hashlib.sha256(b''.join(np.asarray(part).tobytes() for part in weights)).hexdigest()


def main():
  address = sys.argv[1]
  task = TrainingTask(population=DATA_SETS, clients_per_round=100)
  examples = task.load()
  sets = [
    task.preprocess(examples.train.create_tf_dataset_for_client(client))
    for client in examples.train.client_ids
  ]
  process = averaging()
  if address == 'here':
    plain = InProcessContext(concurrency=2)
    contexts, executor = {1: plain, 2: plain}, None
  else:
    executor = MeteredCluster(address)
    contexts = {
      # One process: two cores cannot show what the coordinator gains by more.
      version: SecAggContext(
        executor=executor, maximum_clients=MOST_CLIENTS, version=version, processes=0
      )
      for version in (1, 2)
    }

  def work(data):
    form = contexts[1].compile(process.next)
    for _ in executor.run(form, dict(enumerate(data)), form.prepare(start)):
      pass
    return {}

  def one_round(data, version):
    with use(contexts[version]):
      state = process.next(start, data).state
      found = {'model': digest(process.get_model_weights(state).trainable)}
    if executor is None:
      return found
    return found | {'survivors': len(contexts[version].last_round.survivors)}

  with use(contexts[1]):
    start = process.initialize()
    one_round(sets[:WARM_UP], 1)
    print('ready', flush=True)
    for line in sys.stdin:
      clients, version = map(int, line.split())
      data = [sets[index % DATA_SETS] for index in range(clients)]
      memory, before = forget_high_water(), clocks()
      found = one_round(data, version) if version else work(data)
      after = clocks()
      found |= {'memory': high_water() - memory, 'wall': after[0] - before[0]}
      if executor is not None:
        found['workers'] = executor.workers()
        found['cpu_work'] = executor.ended[1] - executor.begun[1]
        found['cpu_rest'] = after[1] - before[1] - found['cpu_work']
      print(json.dumps(found), flush=True)
  for context in contexts.values():
    context.close()


if __name__ == '__main__':
  main()

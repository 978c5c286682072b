"""Secure sums at run time: the context next to TFF's simulation, processes, workers.

python benchmarks/runtime.py [--only demo million grpc workers in_process isolation first_output] [--json FILE] [--rounds 5]
"""

import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict

import _runtime_party
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from _measure import cpu_seconds, environment, interleave, stepper, table, write_json
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tff_privacy_agg import learning, secagg
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.runtime import (
  InProcessContext,
  SecAggContext,
  WorkerPool,
  simulation_context,
  tff_worker,
  use,
)
from tff_privacy_agg.runtime.executors import LocalExecutor
from tff_privacy_agg.runtime.round_form import RoundForm
from tff_privacy_agg.secagg.local.session import LocalSession

SEGMENT = 2**18


def demo(rounds):
  """The embedded demo: TFF's simulated round, and the context's."""
  task = TrainingTask()
  examples = task.load()
  clients = examples.train.client_ids[: task.clients_per_round]
  data = [
    task.preprocess(examples.train.create_tf_dataset_for_client(client)) for client in clients
  ]
  process = task.process()
  simulated, secure = simulation_context(install=False), SecAggContext()
  candidates = {}
  for name, context in (('simulated', simulated), ('secure', secure)):

    def step(state, context=context):
      with use(context):
        return process.next(state, data).state

    with use(context):
      candidates[name] = stepper(process.initialize(), step)
  costs, failed = interleave(candidates, rounds)
  report = secure.last_round.as_dict()
  simulated.close()
  secure.close()
  return {
    'clients': len(data),
    'seconds': {name: cost.rounded(3)[0] for name, cost in costs.items()},
    'ratio': round(costs['secure'].wall / costs['simulated'].wall, 3),
    'last_round': {name: round(value, 4) for name, value in report.items()},
    'failed': failed,
  }


def million(rounds, clients=100, dimension=10**6):
  """The protocol's share at d = 10**6, beside keystream and plain sum."""
  state_type = tff.FederatedType(np.int32, tff.SERVER)

  @tff.tensorflow.computation(np.int32, np.int32)
  def work(x, state):
    return tf.random.stateless_uniform([dimension], [x, state], 0, 2**20, tf.int32)

  @tff.tensorflow.computation(tff.TensorType(np.int32, [dimension]))
  def first(total):
    return total[0]

  @tff.federated_computation(state_type, tff.FederatedType(np.int32, tff.CLIENTS))
  def step(state, data):
    vectors = tff.federated_map(work, (data, tff.federated_broadcast(state)))
    total = tff.backends.mapreduce.federated_secure_modular_sum(vectors, np.int32(2**20))
    return state, tff.federated_map(first, total)

  context = SecAggContext()
  reports = []
  with use(context):
    for _ in range(rounds + 1):
      step(np.int32(1), list(range(clients)))
      reports.append(context.last_round)
  context.close()
  median = {
    name: statistics.median(getattr(report, f'seconds_{name}') for report in reports[1:])
    for name in ('work', 'clients', 'protocol', 'server')
  }
  neighbours = secagg.find_parameters(clients, 0.05, 0.1, mode='semi_honest').k
  stream = timed(lambda: keystream(4 * dimension))
  vector = np.ones(dimension, np.uint32)
  add = timed(lambda: np.add(vector, vector, out=vector))
  # Every client's masks, and on the server the self masks.
  floor = {
    'keystream': (clients * (neighbours + 1) + clients) * stream,
    'plain_sum': clients * add,
  }
  protocol = timed(lambda: protocol_alone(clients, dimension), repeat=rounds)
  return {
    'clients': clients,
    'elements': dimension,
    'bits': 20,
    'neighbours': neighbours,
    'wall_seconds': {name: round(value, 3) for name, value in median.items()},
    'cpu_seconds_protocol': round(protocol, 3),
    'cpu_seconds_floor': {name: round(value, 3) for name, value in floor.items()},
    'protocol_over_floor': round(protocol / sum(floor.values()), 2),
    'expansion': round(reports[-1].expansion, 3),
  }


def protocol_alone(clients, dimension):
  """All parties of one session, without the clients' work."""
  params = secagg.SessionParams(
    task='benchmark',
    round_number=1,
    leaves=[secagg.Leaf('vector', (dimension,), 20)],
    context=secagg.context_digest([]),
  )
  values = {'vector': np.arange(dimension, dtype=np.int32)}
  LocalSession(params, range(clients)).run(lambda asked: ((one, values) for one in asked))


def keystream(size):
  cipher, zeros = AESGCM(bytes(32)), bytes(SEGMENT)
  for segment in range(-(-size // SEGMENT)):
    cipher.encrypt(segment.to_bytes(12, 'big'), zeros, None)


def timed(call, repeat=9):
  """Median CPU seconds: on a shared machine, wall time counts the others' work."""
  seconds = []
  for _ in range(repeat):
    start = time.process_time()
    call()
    seconds.append(time.process_time() - start)
  return statistics.median(seconds)


def in_process(rounds, clients=20):
  """CPU of one client's work: in this process, and on a TFF worker with what it takes here."""
  found = {}
  for name, hidden in (('linear', ()), ('965,000 parameters', (2000, 400))):
    task = TrainingTask(population=100, clients_per_round=clients)
    examples = task.load()
    data = [
      task.preprocess(examples.train.create_tf_dataset_for_client(client))
      for client in examples.train.client_ids[:clients]
    ]
    process = tff.learning.algorithms.build_unweighted_fed_avg(
      lambda hidden=hidden: linear_model(hidden),
      tff.learning.optimizers.build_sgdm(0.1),
      model_aggregator=tff.aggregators.UnweightedMeanFactory(
        tff.aggregators.SecureSumFactory(4.0, -4.0), tff.aggregators.SecureSumFactory(1, 0)
      ),
      metrics_aggregator=learning.no_metrics,
    )
    here, there = InProcessContext(), simulation_context(install=False, concurrency=1)
    form = RoundForm(process.next, maximum_clients=clients)
    pid = there._worker.pid
    seconds = {'in process': [], 'on a worker': []}
    with use(here):
      broadcast = form.prepare(process.initialize())
    for _ in range(rounds + 1):
      for place, context in (('in process', here), ('on a worker', there)):
        start = time.process_time() + cpu_seconds(pid)
        for _ in LocalExecutor(context).run(form, dict(enumerate(data)), broadcast):
          pass
        seconds[place].append((time.process_time() + cpu_seconds(pid) - start) / clients)
    here.close()
    there.close()
    found[name] = {
      place: round(statistics.median(values[1:]), 4) for place, values in seconds.items()
    }
  return {'clients': clients, 'cpu_seconds_of_a_client': found}


def isolation(rounds, clients=10, dimension=10**6):
  """A sum of large vectors: a worker in a network namespace, and one on a port of the host."""
  total = tff.federated_computation(
    lambda x: tff.backends.mapreduce.federated_secure_modular_sum(x, np.int32(2**20)),
    tff.FederatedType(tff.TensorType(np.int32, [dimension]), tff.CLIENTS),
  )
  values = [np.arange(dimension, dtype=np.int32) % 1000 for _ in range(clients)]
  isolated = simulation_context(install=False)
  start_relay = tff_worker.Worker._start_relay
  tff_worker.Worker._start_relay = lambda self: None
  on_a_port = simulation_context(install=False)
  tff_worker.Worker._start_relay = start_relay
  contexts = {'isolated': isolated, 'on a port': on_a_port}
  seconds = {name: [] for name in contexts}
  for _ in range(3 * rounds + 1):
    for name, context in contexts.items():
      start = time.perf_counter()
      with use(context):
        total(values)
      seconds[name].append(time.perf_counter() - start)
  for context in contexts.values():
    context.close()
  return {
    'clients': clients,
    'elements': dimension,
    'wall_seconds': {
      name: {'median': round(statistics.median(one[1:]), 3), 'least': round(min(one[1:]), 3)}
      for name, one in seconds.items()
    },
  }


def first_output():
  """Seconds from a party's start to its first line, and to the server's `listening`."""
  example = pathlib.Path(__file__).parents[1] / 'examples' / 'hospitals' / 'run.py'
  with tempfile.TemporaryDirectory() as directory:
    command = [sys.executable, '-u', str(example), '--rounds', '1', '--directory', directory]
    subprocess.run(command, check=True, capture_output=True)  # keys, and a warm disk
    shutil.rmtree(pathlib.Path(directory) / 'run')
    start = time.perf_counter()
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = {}
    for line in run.stdout:
      found.setdefault(f'first line of {line.split()[1]}', round(time.perf_counter() - start, 1))
      if 'listening' in line:
        found['listening'] = round(time.perf_counter() - start, 1)
    run.wait()
  return found


def linear_model(hidden=()):
  model = tf.keras.Sequential(
    [
      tf.keras.layers.InputLayer(input_shape=[64]),
      *(tf.keras.layers.Dense(units, 'relu') for units in hidden),
      tf.keras.layers.Dense(10, kernel_initializer='zeros'),
    ]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    input_spec=OrderedDict(
      x=tf.TensorSpec([None, 64], tf.float32), y=tf.TensorSpec([None], tf.int32)
    ),
  )


def averaging():
  """Federated averaging of the linear model over secure sums, without noise."""
  return tff.learning.algorithms.build_unweighted_fed_avg(
    linear_model,
    tff.learning.optimizers.build_sgdm(0.1),
    model_aggregator=tff.aggregators.UnweightedMeanFactory(
      tff.aggregators.SecureSumFactory(4.0, -4.0), tff.aggregators.SecureSumFactory(1, 0)
    ),
    metrics_aggregator=learning.no_metrics,
    loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
  )


def workers(rounds, clients=1000):
  """Rounds a minute with 1,000 clients; the same model, bit for bit, from every executor."""
  task = TrainingTask(population=clients, clients_per_round=clients)
  examples = task.load()
  data = [
    task.preprocess(examples.train.create_tf_dataset_for_client(client))
    for client in examples.train.client_ids
  ]
  process = averaging()
  rates, models = {}, {}
  for name, count in (
    ('in the context', 0),
    ('1 process', 1),
    ('2 processes', 2),
    ('3 processes', 3),
  ):
    context = SecAggContext(executor=WorkerPool(count) if count else None)
    seconds = []
    with use(context):
      state = process.initialize()
      for _ in range(rounds + 1):
        start = time.perf_counter()
        state = process.next(state, data).state
        seconds.append(time.perf_counter() - start)
      models[name] = [np.asarray(part) for part in process.get_model_weights(state).trainable]
      survivors = len(context.last_round.survivors)
    context.close()
    rates[name] = {
      'rounds_per_minute': round(60 / statistics.median(seconds[1:]), 2),
      'first_round_seconds': round(seconds[0], 1),
      'survivors': survivors,
    }
    print(name, rates[name], flush=True)
  first = models['in the context']
  equal = all(
    np.array_equal(one, other)
    for model in models.values()
    for one, other in zip(model, first, strict=True)
  )
  return {'clients': clients, 'executors': rates, 'models_equal_bit_for_bit': equal}


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--only', nargs='*', choices=tuple(PARTS), default=tuple(PARTS))
  parser.add_argument('--json', help='file to write; parts that are not run are kept')
  parser.add_argument('--rounds', type=int, default=5)
  args = parser.parse_args()
  found = {}
  if args.json and pathlib.Path(args.json).exists():
    found = json.loads(pathlib.Path(args.json).read_text(encoding='utf-8'))
  for name in args.only:
    found[name] = {'environment': environment(), **PARTS[name](args.rounds)}
    print(table(['what', name], [(key, json.dumps(value)) for key, value in found[name].items()]))
    write_json(args.json, found)


PARTS = {
  'demo': demo,
  'million': million,
  'grpc': lambda rounds: _runtime_party.measure(min(rounds, 3)),
  'workers': lambda rounds: workers(min(rounds, 3)),
  'in_process': in_process,
  'isolation': isolation,
  'first_output': lambda rounds: first_output(),
}

if __name__ == '__main__':
  main()

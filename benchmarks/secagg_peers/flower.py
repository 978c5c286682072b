"""Flower's SecAgg+ through its public workflow and client mod, in one process and one thread.

Runs in an environment of its own, see `../_secagg_peers.py`; needs nothing of this project.

python flower.py clients elements drop-outs -> a line of JSON: CPU seconds, bytes
"""

import json
import statistics
import sys
import time
from logging import ERROR, getLogger

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.serde import recorddict_to_proto
from flwr.compat.common import recorddict_compat as compat
from flwr.server import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import (
  MAIN_CONFIGS_RECORD,
  MAIN_PARAMS_RECORD,
  Key as WorkflowKey,
)
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

STAGES = ('setup', 'share_keys', 'collect_masked_vectors', 'unmask')


class Proxy:
  """What the strategy knows of a client."""

  def __init__(self, node_id):
    self.node_id = node_id


class Strategy(FedAvg):
  """Takes every client, and only keeps the sum: averaging is not what is measured."""

  def __init__(self, nodes):
    super().__init__()
    self._nodes = nodes
    self.found = None

  def configure_fit(self, server_round, parameters, client_manager):
    return [(Proxy(node), FitIns(parameters, {})) for node in self._nodes]

  def aggregate_fit(self, server_round, results, failures):
    self.found = parameters_to_ndarrays(results[0][1].parameters)
    return None, {}


def delivered(message):
  """What a transport would hand over: a message of its own for each client."""
  content = RecordDict(dict(message.content.items()))
  for name, record in message.content.config_records.items():
    content.config_records[name] = ConfigRecord(dict(record))
  return Message(content, metadata=message.metadata)


def size(content):
  """Bytes of a message's content on the wire."""
  return recorddict_to_proto(content).ByteSize()


class LocalGrid(Grid):
  """Calls the client mod for every message, and keeps its CPU time apart from the server's."""

  def __init__(self, nodes, dropped, vector):
    self._contexts = {node: Context(1, node, {}, RecordDict(), {}) for node in nodes}
    self._dropped = dropped
    fit = FitRes(Status(Code.OK, ''), ndarrays_to_parameters([vector]), 1000, {})
    self._fit = compat.fitres_to_recorddict(fit, True)
    self.stage = 0
    self.by_stage = [{} for _ in STAGES]
    self.seconds = 0.0
    self.up, self.down = dict.fromkeys(nodes, 0), dict.fromkeys(nodes, 0)

  def _train(self, message, context):
    start = time.process_time()
    content = RecordDict({name: record.copy() for name, record in self._fit.items()})
    reply = Message(content, reply_to=message)
    self._training += time.process_time() - start
    return reply

  def send_and_receive(self, messages, *, timeout=None):
    entered = time.process_time()
    replies = []
    for message in messages:
      node = message.metadata.dst_node_id
      if self.stage >= 2 and node in self._dropped:
        replies.append(Message(Error(0, 'dropped out'), reply_to=message))
        continue
      message = delivered(message)
      self._training, start = 0.0, time.process_time()
      replies.append(secaggplus_mod(message, self._contexts[node], self._train))
      self.by_stage[self.stage][node] = time.process_time() - start - self._training
      self.up[node] += size(replies[-1].content)
      self.down[node] += size(message.content)
    self.stage += 1
    self.seconds += time.process_time() - entered
    return replies

  def create_message(self, *args, **kwargs):
    raise NotImplementedError

  get_node_ids = push_messages = pull_messages = run = set_run = create_message


class TimedWorkflow(SecAggPlusWorkflow):
  """Notes the server's CPU time in the last stage."""

  def unmask_stage(self, grid, context, state):
    before, start = grid.seconds, time.process_time()
    done = super().unmask_stage(grid, context, state)
    self.unmask = time.process_time() - start - (grid.seconds - before)
    self.survivors = len(state.legacy_results)
    return done


def main():
  clients, elements, drops = map(int, sys.argv[1:])
  getLogger('flwr').setLevel(ERROR)
  # What the launcher of a server process sets.
  TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
  nodes = list(range(1, clients + 1))
  vector = np.random.default_rng(0).uniform(-1, 1, elements).astype(np.float32)
  grid = LocalGrid(nodes, set(nodes[:drops]), vector)
  strategy = Strategy(nodes)
  context = LegacyContext(Context(1, 0, {}, RecordDict(), {}), strategy=strategy)
  context.state.config_records[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
  start_model = ndarrays_to_parameters([np.zeros(1, np.float32)])
  context.state.array_records[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
    start_model, True
  )
  # All shares, as on our complete graph, and our threshold.
  workflow = TimedWorkflow(clients, clients - drops - 1)
  start = time.process_time()
  workflow(grid, context)
  server = time.process_time() - start - grid.seconds
  error = float(np.abs(strategy.found[0] - vector).max())
  if error > 1e-4 or workflow.survivors != clients - drops:
    raise RuntimeError(f'The mean is off by {error} over {workflow.survivors} clients.')
  alive = nodes[drops:]
  print(
    json.dumps(
      {
        'name': 'Flower SecAgg+',
        'client': statistics.median(
          sum(stage.get(node, 0.0) for stage in grid.by_stage) for node in alive
        ),
        'mask': statistics.median(grid.by_stage[2][node] for node in alive),
        'server': server,
        'unmask': workflow.unmask,
        'up': statistics.median_high(grid.up[node] for node in alive),
        'down': statistics.median_high(grid.down[node] for node in alive),
        'rounds': len(STAGES),
        'drops': drops,
      }
    )
  )


if __name__ == '__main__':
  main()

"""TFF's program logic runs in the simulation context's program context."""

import asyncio
import csv
import gc
import json

import cases
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime import simulation_context

pytestmark = pytest.mark.integration

POPULATION = 5
CLIENTS_PER_ROUND = 3


class CyclicIterator(tff.program.FederatedDataSourceIterator):
  """Takes clients in turn; holds its position alone, so that it can be copied and saved."""

  def __init__(self, position=0):
    self._position = position

  @property
  def federated_type(self):
    return CyclicSource().federated_type

  def select(self, k=None):
    first, self._position = self._position, self._position + k
    return [cases.client_dataset(number % POPULATION) for number in range(first, first + k)]

  def to_bytes(self):
    return json.dumps(self._position).encode()

  @classmethod
  def from_bytes(cls, buffer):
    return cls(json.loads(buffer))


class CyclicSource(tff.program.FederatedDataSource):
  @property
  def federated_type(self):
    element = tff.types.tensorflow_to_type(cases.client_dataset(0).element_spec)
    return tff.FederatedType(tff.SequenceType(element), tff.CLIENTS)

  def iterator(self):
    return CyclicIterator()


@pytest.fixture
def process():
  return cases.fed_avg(tpa.ddp_secure_aggregator(0.5, CLIENTS_PER_ROUND))


@pytest.fixture
def train(simulation, process, tmp_path):
  """Trains up to a round, and returns the states that were released."""

  def run(rounds):
    released = tff.program.MemoryReleaseManager()
    metrics = tff.program.CSVFileReleaseManager(
      str(tmp_path / 'metrics.csv'), key_fieldname='round'
    )
    program = tff.learning.programs.train_model(
      train_process=process,
      train_data_source=CyclicSource(),
      train_per_round_clients=CLIENTS_PER_ROUND,
      train_total_rounds=rounds,
      program_state_manager=tff.program.FileProgramStateManager(str(tmp_path / 'states')),
      model_output_manager=released,
      train_metrics_manager=metrics,
      evaluation_manager=None,
      evaluation_periodicity=1,
    )
    with tff.framework.get_context_stack().install(simulation.program_context()):
      asyncio.run(program)
    return released.values()

  return run


def test_tffs_train_model_runs_and_resumes(train, process, tmp_path):
  (third,) = train(3).values()
  assert third.aggregator['privacy']['rounds'] == 3
  (fourth,) = train(4).values()
  assert fourth.aggregator['privacy']['rounds'] == 4
  with (tmp_path / 'metrics.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [int(row['round']) for row in rows] == [1, 2, 3, 4]
  epsilons = [float(row['aggregator/privacy/epsilon']) for row in rows]
  assert epsilons == sorted(set(epsilons))
  # The process goes on, outside of the program, from the state that it released.
  output = process.next(fourth, [cases.client_dataset(client) for client in range(3)])
  assert output.metrics['aggregator']['privacy']['rounds'] == 5


def test_program_context_gives_references(simulation):
  async def program():
    state = cases.exact().create(cases.VECTOR).initialize()
    return await tff.program.materialize_value(state)

  with tff.framework.get_context_stack().install(simulation.program_context()):
    assert asyncio.run(program())['privacy']['rounds'] == 0


def test_program_context_keeps_its_worker_until_it_is_closed():
  process = cases.exact().create(cases.VECTOR)

  async def program():
    return await tff.program.materialize_value(process.initialize())

  context = simulation_context(install=False)
  program_context = context.program_context()
  finalizer = context._finalizer
  del context
  gc.collect()
  with tff.framework.get_context_stack().install(program_context):
    assert asyncio.run(program())['privacy']['rounds'] == 0
    finalizer()
    with pytest.raises(RuntimeUnavailableError, match='closed'):
      asyncio.run(program())

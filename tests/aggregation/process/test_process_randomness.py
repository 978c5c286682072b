"""Noise is fresh for every client, round and run, whatever the state."""

import asyncio

import cases
import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.runtime import simulation_context

pytestmark = pytest.mark.integration

CLIENTS = 3
COHORT = tpa.Cohort(expected=CLIENTS)
DIM = 64
TYPE = tff.TensorType(np.float32, [DIM])
ZEROS = np.zeros([DIM], np.float32)

PROCESSES = {
  'chacha20': lambda: cases.noised(COHORT),
  'philox': lambda: cases.noised(COHORT, randomness='philox'),
  'central': lambda: tpa.dp_aggregator(1.0, CLIENTS),
}


@pytest.mark.parametrize('name', PROCESSES)
def test_same_state_gives_new_noise(name):
  process = PROCESSES[name]().create(TYPE)
  state = process.initialize()
  results = [process.next(state, [ZEROS] * CLIENTS).result for _ in range(4)]
  assert len({result.tobytes() for result in results}) == 4
  # Nor is one the other's negative or multiple: 64 coordinates, 5 standard errors.
  correlations = np.corrcoef(results) - np.eye(4)
  assert np.max(np.abs(correlations)) < 5 / np.sqrt(DIM)


def test_restart_from_a_checkpoint_gives_new_noise(tmp_path):
  process = PROCESSES['chacha20']().create(TYPE)
  initial = process.initialize()
  first = process.next(initial, [ZEROS] * CLIENTS)
  manager = tff.program.FileProgramStateManager(str(tmp_path))
  asyncio.run(manager.save(first.state, 1))
  again = process.next(first.state, [ZEROS] * CLIENTS)

  restored, version = asyncio.run(manager.load_latest(initial))
  assert version == 1
  # A new worker: nothing that the old one had drawn is left.
  with (
    simulation_context(install=False) as context,
    tff.framework.get_context_stack().install(context),
  ):
    after = process.next(restored, [ZEROS] * CLIENTS)
  assert abs(np.corrcoef(again.result, after.result)[0, 1]) < 5 / np.sqrt(DIM)
  assert after.measurements['privacy'] == again.measurements['privacy']


@pytest.mark.parametrize('name', ['chacha20', 'philox'])
def test_clients_with_one_value_send_different_noise(name):
  factory = PROCESSES[name]()
  process = factory.create(TYPE)
  form = cases.map_reduce_form(process)
  values_type = tff.FederatedType(form.work.type_signature.parameter[0], tff.CLIENTS)
  params_type = tff.FederatedType(form.prepare.type_signature.result, tff.SERVER)

  @tff.federated_computation(values_type, params_type)
  def messages_of_one_round(values, params):
    return tff.federated_map(form.work, (values, tff.federated_broadcast(params)))

  params = form.prepare(process.initialize())
  clients = 6
  messages = messages_of_one_round([[ZEROS]] * clients, params)
  modulus = 2**20
  vectors = [np.asarray(message[3][0]['vector'], np.int64) for message in messages]
  noise = np.array([(vector + modulus // 2) % modulus - modulus // 2 for vector in vectors])
  stddev = np.sqrt(factory.bind(TYPE).design.local_variance)
  assert 0.8 * stddev < noise.std() < 1.2 * stddev  # 4 standard errors of 384 draws
  correlations = np.corrcoef(noise) - np.eye(clients)
  assert np.max(np.abs(correlations)) < 5 / np.sqrt(DIM)
  # Two clients with the same noise would make every coordinate of their sum even.
  assert np.any((noise[0] + noise[1]) % 2)
  # The channels' noise: a count of one from each, and their own bits' noise.
  channels = [tuple(message[3][0]['channels']) for message in messages]
  assert {numbers[0] for numbers in channels} == {1}
  assert len({numbers[1:] for numbers in channels}) == clients

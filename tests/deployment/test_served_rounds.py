"""TFF rounds over a real coordinator: server and clients in threads of one process."""

import dataclasses
import types
from collections import OrderedDict

import deployments
import numpy as np
import pytest
import secagg_cases as cases
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import served_rounds
from tff_privacy_agg.deployment.round_numbers import RoundBook
from tff_privacy_agg.deployment.standing import Standing
from tff_privacy_agg.errors import ConfigurationError

pytestmark = pytest.mark.integration


class Process:
  """As much of a process as a round needs."""

  def __init__(self, computation):
    self.next = computation


@tff.tensorflow.computation(np.int32, np.int32)
def _times(state, x):
  return state * x


@tff.tensorflow.computation(np.int32, np.int32)
def _add(a, b):
  return a + b


@tff.federated_computation(cases.STATE, cases.INTEGERS)
def _weighted_sum(state, values):
  """(state + sum, sum of state * value)."""
  scaled = tff.federated_map(_times, (tff.federated_broadcast(state), values))
  total = tff.federated_secure_sum_bitwidth(scaled, 16)
  return tff.federated_map(_add, (state, total)), total


def in_context(context, work):
  def run(*arguments):
    with tff.framework.get_context_stack().install(context):
      return work(*arguments)

  return run


@pytest.fixture
def deployment(keys, tmp_path):
  made = deployments.Deployment(keys, tmp_path, mode='authenticated')
  yield made
  made.close()


def test_rounds_are_those_of_tff(deployment, simulation):
  form = served_rounds.form_of(Process(_weighted_sum), 5)
  assert form.leaves[0].bits == 19
  deployment.coordinator._service._schema = form.schema
  clients = []
  for number, name in enumerate(deployments.NAMES):
    # Each client makes the form from its own code.
    own = served_rounds.form_of(Process(_weighted_sum), 5)
    client = deployments.client_of(deployment, name, schema=own.schema)
    work = in_context(simulation, served_rounds.client_work(own, np.int32(10 + number)))
    clients.append(deployments.Running(client, work))
  remote = served_rounds.ServedRounds(
    form=form,
    coordinator=deployment.coordinator,
    book=deployment.book,
    ids=deployment.roster.ids,
    clients=5,
    session={
      'task': deployments.TASK,
      'mode': 'authenticated',
      'minimum_clients': 3,
      'maximum_clients': 5,
      'colluding_fraction': 0.0,
      'dropout_fraction': 0.0,
    },
  )
  state, want_state = np.int32(1), np.int32(1)
  data = [np.int32(10 + number) for number in range(5)]
  for number in (1, 2):
    cohort = remote.select(number)
    assert cohort == list(deployments.NAMES)
    result = remote.run(state, cohort)
    want = _weighted_sum(want_state, data)
    cases.assert_same(result.state, want[0])
    assert result.survivors == 5
    state, want_state = result.state, want[0]
  deployment.close()
  assert [client.join() for client in clients] == [2] * 5


def served_of(waiting, clients):
  """Rounds for which these clients wait, and no session is run."""

  def gather(expected, minimum, among=None):
    return waiting if among is None else waiting & among

  return served_rounds.ServedRounds(
    form=None,
    coordinator=types.SimpleNamespace(
      gather=gather, standing=Standing(), served=lambda found: dict.fromkeys(found, 0)
    ),
    book=RoundBook('unused.json'),
    ids={f'client {number}': number for number in sorted(waiting)},
    clients=clients,
    session={'task': 'numbers', 'minimum_clients': 8, 'colluding_fraction': 0.0},
  )


def test_a_round_has_no_more_clients_than_it_is_for():
  remote = served_of(frozenset(range(20)), 10)
  cohorts = [frozenset(remote.select(1)) for _ in range(50)]
  assert all(len(cohort) == 10 for cohort in cohorts)
  # Nobody is left out for good: 2^-50 a client.
  assert frozenset.union(*cohorts) == frozenset(remote.client_ids)
  remote = dataclasses.replace(remote, clients=25)
  assert remote.select(1) == remote.client_ids


def test_whom_the_participation_cap_excludes_is_not_asked():
  remote = served_of(frozenset(range(20)), 20)
  assert remote.select(1, remote.client_ids[:9]) == remote.client_ids[:9]
  with pytest.raises(ConfigurationError, match='needs 8 clients; the participation cap leaves 7'):
    remote.select(1, remote.client_ids[:7])


def test_nothing_may_leave_in_the_clear():
  clear = cases.with_state(
    lambda x: tff.federated_zip((tff.federated_secure_sum_bitwidth(x, 8), tff.federated_sum(x)))
  )
  with pytest.raises(secagg.ClearAggregandError):
    served_rounds.form_of(Process(clear), 5)


def test_what_is_no_process_is_refused():
  with pytest.raises(ConfigurationError, match='`initialize` and `next`'):
    served_rounds.form_of(3, 5)


def test_data_that_do_not_fit_the_process(simulation):
  process = tpa.secure_aggregator(weighted=False).create(tff.TensorType(np.float32, [2]))
  form = served_rounds.form_of(process, 5)
  broadcast = form.broadcast_arrays(form.prepare(process.initialize()))
  good = served_rounds.client_work(form, np.ones(2, np.float32))
  assert set(good(broadcast, form.leaves)) == {leaf.name for leaf in form.leaves}
  for data in (tf.data.Dataset.range(3), np.ones(3, np.float32), 'text', None):
    wrong = served_rounds.client_work(form, data)
    with pytest.raises(ConfigurationError, match="client's data as float32"):
      wrong(broadcast, form.leaves)
  with pytest.raises(secagg.ContextMismatch):
    good(broadcast, form.leaves[:1])
  # Not of the data, where the server sends something else.
  for sent in (
    broadcast[1:],
    [*broadcast, 1],
    [np.zeros((1, *np.shape(one))) for one in broadcast],
  ):
    with pytest.raises(secagg.ContextMismatch, match='which this client computes with'):
      good([np.asarray(one) for one in sent], form.leaves)


def test_a_dataset_of_other_elements(simulation):
  process = tff.learning.algorithms.build_unweighted_fed_avg(
    _model,
    tff.learning.optimizers.build_sgdm(0.1),
    model_aggregator=tpa.secure_aggregator(weighted=False),
    metrics_aggregator=tpa.no_metrics,
  )
  form = served_rounds.form_of(process, 5)
  broadcast = form.broadcast_arrays(form.prepare(process.initialize()))
  wrong = tf.data.Dataset.from_tensor_slices({'x': np.ones([4, 3], np.float32)}).batch(2)
  with pytest.raises(ConfigurationError, match='they are'):
    served_rounds.client_work(form, wrong)(broadcast, form.leaves)


def _model():
  model = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[2]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=OrderedDict(
      x=tf.TensorSpec([None, 2], tf.float32), y=tf.TensorSpec([None, 1], tf.float32)
    ),
  )

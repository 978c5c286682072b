"""Computations in this process give what a TFF worker gives, anew in each call.

Bit for bit, as long as every operation is exact or rounds correctly: the worker is another build of
TensorFlow, whose exponentials and fused multiplications differ from ours in the last bit.
"""

import concurrent.futures
import os
from collections import OrderedDict

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff
from secagg_cases import assert_same

from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError
from tff_privacy_agg.numerics import entropy
from tff_privacy_agg.runtime import InProcessContext, use

BATCH = OrderedDict(x=tf.TensorSpec([None, 2], tf.float32), y=tf.TensorSpec([None, 1], tf.float32))
SEQUENCE = tff.SequenceType(tff.types.tensorflow_to_type(BATCH))
SERVER_NUMBER = tff.FederatedType(np.float32, tff.SERVER)
CLIENT_NUMBERS = tff.FederatedType(np.float32, tff.CLIENTS)


@pytest.fixture(scope='module')
def here():
  with InProcessContext(concurrency=2, worker=False) as context:
    yield context


@pytest.fixture
def both(here, simulation_worker):
  """Calls a function in this process and on a worker; asserts that they agree, returns one."""

  def run(call):
    with use(here):
      got = call()
    with use(simulation_worker):
      want = call()
    assert_same(got, want)
    return got

  return run


def dataset(seed):
  """Small integers, and a power of two of them: gradients are exact."""
  random = np.random.default_rng(seed)
  data = OrderedDict(
    x=random.integers(-2, 3, [8, 2]).astype(np.float32),
    y=random.integers(-2, 3, [8, 1]).astype(np.float32),
  )
  return tf.data.Dataset.from_tensor_slices(data).batch(8)


def linear_model():
  model = tf.keras.Sequential(
    [tf.keras.layers.InputLayer([2]), tf.keras.layers.Dense(1, kernel_initializer='ones')]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=BATCH,
    metrics=[tf.keras.metrics.MeanSquaredError()],
  )


def test_federated_averaging_is_the_workers_bit_for_bit(both):
  sgd = tff.learning.optimizers.build_sgdm(2.0**-4)
  process = tff.learning.algorithms.build_unweighted_fed_avg(linear_model, sgd)
  state = both(process.initialize)
  data = [dataset(client) for client in range(4)]
  for _ in range(2):
    output = both(lambda: process.next(state, data))  # noqa: B023
    assert isinstance(output, tff.learning.templates.LearningProcessOutput)
    state = output.state
  weights = both(lambda: process.get_model_weights(state)).trainable[0]
  assert weights.shape == (2, 1)
  assert not np.array_equal(weights, np.ones([2, 1]))


@tff.tensorflow.computation(tff.SequenceType(np.int64))
def in_order(data):
  return data.reduce(np.int64(0), lambda total, one: 10 * total + one)


def test_a_shuffled_dataset_is_read_from_its_beginning_each_time(both):
  data = tf.data.Dataset.range(9).shuffle(9, seed=3)
  orders = [both(lambda: in_order(data)) for _ in range(2)]
  assert orders[0] == orders[1] != 12345678


def test_evaluation_is_the_workers_bit_for_bit(both):
  process = tff.learning.algorithms.build_fed_eval(linear_model)
  state = both(process.initialize)
  output = both(lambda: process.next(state, [dataset(client) for client in range(4)]))
  assert output.metrics['client_work']['eval']['current_round_metrics']['num_examples'] == 32


@tff.tensorflow.computation(np.int32, (np.str_, tff.TensorType(np.bool_, [2])))
def containers(number, pair):
  return OrderedDict(z=number + 1, a=[pair[0], {'b': tf.logical_not(pair[1]), 'n': ()}])


@tff.tensorflow.computation(SEQUENCE)
def batches(data):
  return data.reduce(np.int64(0), lambda total, _: total + 1)


@tff.federated_computation(SERVER_NUMBER, CLIENT_NUMBERS, tff.FederatedType(np.int32, tff.CLIENTS))
def many_intrinsics(at_server, values, others):
  both_values = tff.federated_zip((values, tff.federated_broadcast(at_server)))
  product = tff.federated_map(
    tff.tensorflow.computation(lambda x, y: x * y, (np.float32, np.float32)), both_values
  )
  one = tff.federated_value(np.float32(1), tff.CLIENTS)
  return (
    tff.federated_sum(product),
    tff.federated_mean(values, weight=product),
    tff.federated_sum(tff.federated_zip(OrderedDict(b=others, a=one))),
    tff.federated_eval(tff.tensorflow.computation(lambda: tf.constant(2)), tff.SERVER),
    product,
    tff.federated_broadcast(at_server),
  )


@tff.federated_computation(tff.FederatedType(np.int32, tff.CLIENTS))
def simulated_secure_sum(values):
  return tff.federated_secure_sum_bitwidth(values, 8)


CALLS = {
  'containers': lambda: containers(1, ('text', [True, False])),
  'a list as a dataset': lambda: batches(
    [OrderedDict(x=np.ones([1, 2], np.float32), y=np.ones([1, 1], np.float32))] * 3
  ),
  'intrinsics': lambda: many_intrinsics(np.float32(0.1), [0.3, 0.7, 1.1], [1, 2, 3]),
  'secure sum': lambda: simulated_secure_sum([1, 2, 30]),
}


@pytest.mark.parametrize('name', CALLS)
def test_results_and_containers_are_the_workers(both, name):
  both(CALLS[name])


@tff.tensorflow.computation
def random_number():
  return tf.random.uniform([]), tf.io.read_file('/proc/sys/kernel/random/uuid')


@tff.tensorflow.computation(np.int32)
def counts(number):
  variable = tf.Variable(0, name='total')
  with tf.control_dependencies([variable.assign_add(number)]):
    return variable.read_value()


@tff.tensorflow.computation(np.int64)
def remembers(key):
  table = tf.lookup.experimental.MutableHashTable(np.int64, np.int64, -1)
  handle = tf.raw_ops.MutableHashTableV2(
    key_dtype=tf.int64, value_dtype=tf.int64, shared_name='shared'
  )
  del table
  insert = tf.raw_ops.LookupTableInsertV2(table_handle=handle, keys=[key], values=[key])
  with tf.control_dependencies([insert]):
    return tf.raw_ops.LookupTableSizeV2(table_handle=handle)


@tff.tensorflow.computation(np.int32)
def secret_key(unfoldable):
  return entropy.operating_system_key(unfoldable)


def test_stateful_operations_run_anew_in_each_call(here):
  with use(here):
    keys = {secret_key(1).tobytes() for _ in range(10)}
    assert len(keys) == 10
    first, second = random_number(), random_number()
    assert first[0] != second[0]
    assert first[1] != second[1]
    assert [counts(2), counts(3)] == [2, 3]
    assert [remembers(1), remembers(2)] == [1, 1]


def test_calls_at_once_do_not_share_variables(here):
  def call(number):
    with use(here):
      return counts(number)

  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    assert list(pool.map(call, range(200))) == list(range(200))


WRONG = {
  'a float for an integer': lambda: counts(1.5),
  'too large': lambda: counts(2**40),
  'another shape': lambda: containers(1, ('text', [True])),
  'another dataset': lambda: batches(tf.data.Dataset.range(3)),
  'no list of clients': lambda: simulated_secure_sum(3),
}


@pytest.mark.parametrize('name', WRONG)
def test_an_argument_of_another_type_is_refused(here, name):
  with use(here), pytest.raises(TypeError):
    WRONG[name]()


def test_clients_must_be_as_many_in_all_arguments(here):
  with use(here), pytest.raises(ValueError, match='give each as many'):
    many_intrinsics(np.float32(1), [1.0, 2.0], [1])


@tff.tensorflow.computation(SEQUENCE)
def gives_a_dataset(data):
  return data.take(1)


def test_what_a_worker_alone_runs_starts_one_or_is_refused(here):
  with use(here), pytest.raises(RuntimeUnavailableError, match='a party of a deployment starts'):
    gives_a_dataset(dataset(1))
  with InProcessContext() as context:
    assert context._worker is None
    assert len(list(gives_a_dataset(dataset(1)))) == 1
    pid = context._worker._worker.pid
    assert os.path.exists(f'/proc/{pid}')
  assert not os.path.exists(f'/proc/{pid}')


def test_a_closed_context_refuses_to_run():
  before = tff.framework.get_context_stack().current
  with InProcessContext() as context:
    assert tff.framework.get_context_stack().current is context
    assert counts(1) == 1
  assert tff.framework.get_context_stack().current is before
  with use(context), pytest.raises(RuntimeUnavailableError, match='is closed'):
    counts(1)


def test_a_forked_child_refuses_the_context(here):
  with use(here):
    pid = os.fork()
    if pid == 0:
      code = 1
      try:
        counts(1)
      except RuntimeUnavailableError as error:
        code = 0 if 'fork' in str(error) else 2
      finally:
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize('concurrency', [0, 1.5, True])
def test_refuses_other_concurrency(concurrency):
  with pytest.raises(ConfigurationError, match='concurrency'):
    InProcessContext(concurrency=concurrency)

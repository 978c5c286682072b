import threading
import time
import warnings

import numpy as np
import pytest
import tensorflow_federated as tff
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from tff_privacy_agg import runtime
from tff_privacy_agg._tff import error_hints
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError


def create():
  """Stands for the method of a factory that calls the check."""
  runtime.warn_if_secure_sums_cannot_run()


@pytest.mark.parametrize(
  'native',
  [
    tff.backends.native.create_sync_local_cpp_execution_context,
    tff.backends.native.create_async_local_cpp_execution_context,
  ],
)
def test_warns_in_a_native_context_at_the_users_line(native):
  tff.framework.set_default_context(native())
  with pytest.warns(UserWarning, match=r'runtime.simulation_context\(\)') as caught:
    create()
  assert caught[0].filename == __file__


def test_does_not_warn_where_secure_sums_run():
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    with runtime.simulation_context():
      create()
    tff.backends.test.set_sync_test_cpp_execution_context()
    create()


def test_native_context_is_explained(modular_sum):
  tff.backends.native.set_sync_local_cpp_execution_context()
  with (
    pytest.raises(RuntimeUnavailableError, match=r'runtime.simulation_context\(\)') as caught,
    runtime.explained(),
  ):
    modular_sum([1, 2])
  assert 'Cannot embed a federated value' in str(caught.value.__cause__)


def test_thread_without_a_context_is_explained(modular_sum):
  caught = []

  def call():
    try:
      modular_sum([1])
    except RuntimeError as error:
      caught.append(error)

  thread = threading.Thread(target=call)
  thread.start()
  thread.join()
  assert 'in this thread' in runtime.explain(caught[0])


def test_nesting_beyond_protobufs_limit_is_explained():
  value = struct_pb2.Value()
  innermost = value
  for _ in range(200):
    innermost = innermost.list_value.values.add()
  with pytest.raises(DecodeError) as caught:
    struct_pb2.Value.FromString(value.SerializeToString())
  assert '100 nested' in runtime.explain(caught.value)


def test_causes_are_searched_and_circles_end():
  inner = RuntimeError('Cannot embed a federated value.')
  outer = ValueError('round failed')
  outer.__cause__ = inner
  assert 'secure sum' in runtime.explain(outer)
  inner.__cause__ = outer
  inner.args = ('other',)
  assert runtime.explain(outer) is None


@pytest.mark.parametrize('error', [KeyError('x'), ConfigurationError('`x` must be 1.')])
def test_other_errors_pass_unchanged(error):
  with pytest.raises(type(error)) as caught, runtime.explained():
    raise error
  assert caught.value is error


def test_lost_worker_keeps_its_own_message(modular_sum):
  with runtime.simulation_context() as context:
    pass
  tff.framework.set_default_context(context)
  with pytest.raises(RuntimeUnavailableError, match='closed'), runtime.explained():
    modular_sum(np.int32([1]))


def test_values_that_one_message_cannot_hold_are_refused_at_once():
  """2.2 GiB that take no memory: the refusal comes before anything is serialized."""
  value = np.broadcast_to(np.float32(0), [300_000_000])
  process = tff.aggregators.SumFactory().create(tff.TensorType(np.float32, value.shape))
  with runtime.simulation_context():
    state = process.initialize()
    began = time.monotonic()
    with pytest.raises(RuntimeUnavailableError, match=r'2\.2 GiB.*client by client.*SecAggContext'):
      process.next(state, [value, value])
    assert time.monotonic() - began < 1


def test_arrays_are_measured_in_every_structure():
  part = np.zeros([10], np.float32)
  nested = [{'a': part, 'b': (part, part)}, tff.structure.Struct([('c', part), (None, 3)])]
  assert error_hints._number_bytes(nested) == 160
  error_hints.refuse_too_large(nested)


def test_long_work_is_announced_while_it_runs():
  lines = []
  with runtime.announced(lines.append, 'first round', every=0.01):
    while len(lines) < 2:
      time.sleep(0.001)
  assert lines[0] == 'first round: 0 s so far'
  assert lines[-1].startswith('first round: done in ')
  lines.clear()
  with runtime.announced(lines.append, 'short', closing=False):
    pass
  assert lines == []
  count = threading.active_count()
  with pytest.raises(ZeroDivisionError), runtime.announced(lines.append, 'it fails'):
    raise ZeroDivisionError
  assert threading.active_count() == count
  assert not any('it fails' in line for line in lines)

import threading
import warnings

import numpy as np
import pytest
import tensorflow_federated as tff
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from tff_privacy_agg import runtime
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

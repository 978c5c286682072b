import concurrent.futures
import os
import pathlib
import signal
import socket
import stat
import tempfile
import threading

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compilation
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError
from tff_privacy_agg.runtime import simulation, simulation_context, tff_worker

CLIENT_INTEGERS = tff.FederatedType(np.int32, tff.CLIENTS)
SECURE_SUMS = {
  'sum': (lambda x: tff.federated_secure_sum(x, 100), 33),
  'bitwidth': (lambda x: tff.federated_secure_sum_bitwidth(x, 8), 33),
  'modular': (lambda x: tff.backends.mapreduce.federated_secure_modular_sum(x, 8), 1),
}


def current_context():
  return tff.framework.get_context_stack().current


def is_gone(pid):
  return not pathlib.Path(f'/proc/{pid}').exists()


@pytest.mark.parametrize('name', SECURE_SUMS)
def test_a_simulated_secure_sum_is_the_sum(name):
  body, want = SECURE_SUMS[name]
  with simulation_context():
    assert tff.federated_computation(body, CLIENT_INTEGERS)([1, 2, 30]) == want


def test_plain_call_installs_until_closed(modular_sum):
  context = simulation_context()
  assert current_context() is context
  assert modular_sum([7, 7]) == 6
  context.close()
  with pytest.raises(RuntimeUnavailableError, match=r'closed. Call `simulation_context\(\)`'):
    modular_sum([7, 7])
  context.close()


def test_with_restores_the_context_before_it_and_ends_its_worker(modular_sum):
  before = current_context()
  with simulation_context() as outer:
    with simulation_context(concurrency=1) as inner:
      assert current_context() is inner
      assert modular_sum([1, 2, 3]) == 6
    assert current_context() is outer
    assert is_gone(inner._worker.pid)
    assert modular_sum([1, 2, 3]) == 6
  assert current_context() is before
  assert is_gone(outer._worker.pid)


def test_with_restores_after_an_error():
  before = current_context()
  with pytest.raises(KeyError), simulation_context() as context:
    raise KeyError
  assert current_context() is before
  assert is_gone(context._worker.pid)


def test_uninstalled_context_can_be_installed_by_tff(modular_sum):
  before = current_context()
  with simulation_context(install=False) as context:
    assert current_context() is before
    with tff.framework.get_context_stack().install(context):
      assert modular_sum([3]) == 3
    tff.framework.set_default_context(context)
    assert modular_sum([3]) == 3


def test_plain_calls_in_a_row_leave_one_worker(modular_sum):
  first = simulation_context()._worker
  second = simulation_context()._worker
  assert modular_sum([1]) == 1
  assert is_gone(first.pid)
  assert not is_gone(second.pid)


def test_plain_call_is_put_back_after_with(modular_sum):
  simulation_context()
  with simulation_context():
    assert modular_sum([1]) == 1
  assert modular_sum([2]) == 2


def test_dropped_context_ends_its_worker():
  context = simulation_context(install=False)
  pid = context._worker.pid
  del context
  assert is_gone(pid)


def test_compiles_a_computation_once(modular_sum, monkeypatch):
  compiled = []

  def compile_and_count(computation, compile_=compilation.compile_native):
    compiled.append(computation)
    return compile_(computation)

  monkeypatch.setattr(compilation, 'compile_native', compile_and_count)
  with simulation_context():
    # Another number of clients is another executor, not another compilation.
    assert [modular_sum(x) for x in ([1], [2], [1, 2])] == [1, 2, 3]
  assert len(compiled) == 1


def test_keeps_arguments_that_are_tensors_and_result_containers():
  @tff.tensorflow.computation(np.int32)
  def pair(x):
    return {'b': x, 'a': x + 1}

  with simulation_context():
    assert list(pair(np.int32(1)).items()) == [('b', 1), ('a', 2)]


def test_worker_outlives_the_thread_that_asked_for_it(modular_sum):
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    context = pool.submit(simulation_context, install=False).result()
  with context, tff.framework.get_context_stack().install(context):
    assert modular_sum([1, 2]) == 3


def test_lost_worker_is_an_error_that_says_so(modular_sum):
  with simulation_context() as context:
    assert modular_sum([1, 2]) == 3
    os.kill(context._worker.pid, signal.SIGKILL)
    for _ in range(2):
      with pytest.raises(RuntimeUnavailableError, match=r'code -9 .*lack of memory'):
        modular_sum([1, 2])


def test_forked_child_refuses_the_context_and_leaves_the_worker_alone(modular_sum):
  with simulation_context() as context:
    pid = os.fork()
    if pid == 0:
      code = 1
      try:
        modular_sum([1])
      except RuntimeUnavailableError as error:
        code = 0 if 'fork' in str(error) else 2
      finally:
        context.close()
        os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert modular_sum([1, 2]) == 3


def test_call_cut_short_by_close_says_so():
  @tff.tensorflow.computation
  def endless():
    return tf.while_loop(lambda i: i >= 0, lambda i: (i + 1) % 1000, [tf.constant(0)])

  with simulation_context() as context:
    threading.Timer(1.0, context.close).start()
    with pytest.raises(RuntimeUnavailableError, match='ended by its owner'):
      endless()


@pytest.fixture
def worker_program(tmp_path, monkeypatch):
  """Replaces the worker's program by a shell script."""

  def replace(script):
    program = tmp_path / 'worker_binary'
    program.write_text(f'#!/bin/sh\n{script}\n')
    program.chmod(0o700)
    monkeypatch.setattr(tff_worker, '_program', lambda: str(program))

  return replace


def test_worker_that_fails_is_quoted(worker_program):
  worker_program('echo no such thing >&2; exit 3')
  with pytest.raises(RuntimeUnavailableError, match=r'ended with code 3; .*no such thing'):
    simulation_context()


def test_worker_that_never_serves_is_ended(worker_program, monkeypatch, tmp_path):
  worker_program(f'echo $$ > {tmp_path}/pid; exec sleep 60')
  monkeypatch.setattr(simulation, '_READY_SECONDS', 0.5)
  with pytest.raises(RuntimeUnavailableError, match='does not answer'):
    simulation_context()
  assert is_gone(int((tmp_path / 'pid').read_text()))


def test_missing_program_is_named(monkeypatch):
  monkeypatch.setattr(tff_worker.tff, '__file__', '/nowhere/__init__.py')
  with pytest.raises(RuntimeUnavailableError, match='Reinstall tensorflow-federated'):
    simulation_context()


def test_log_file_is_appended_to(worker_program, monkeypatch, tmp_path):
  worker_program('echo second; exit 1')
  log = tmp_path / 'log'
  log.write_text('first\n')
  with pytest.raises(RuntimeUnavailableError):
    simulation_context(log_file=log)
  assert log.read_text() == 'first\nsecond\n'


def test_port_is_held_while_a_worker_without_a_namespace_lives(monkeypatch):
  monkeypatch.setattr(tff_worker.Worker, '_start_relay', lambda self: None)
  with (
    simulation_context(install=False) as context,
    socket.socket() as other,
    pytest.raises(OSError, match='in use'),
  ):
    other.bind(('', context._worker.port))


def test_an_isolated_worker_is_reached_by_its_owner_only():
  with simulation_context(install=False) as context:
    if not context.isolated:
      pytest.skip('this system allows no network namespace')
    path = pathlib.Path(context._worker.address.removeprefix('unix:'))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    namespaces = {
      os.readlink(f'/proc/{pid}/ns/net')
      for pid in (context._worker.pid, context._worker._relay.process.pid)
    }
    assert len(namespaces) == 1
    assert namespaces != {os.readlink('/proc/self/ns/net')}
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
      other.connect(('127.0.0.1', context._worker.port))
  assert not path.parent.exists()


def test_a_lost_relay_is_an_error_that_says_so(modular_sum):
  with simulation_context() as context:
    if not context.isolated:
      pytest.skip('this system allows no network namespace')
    os.kill(context._worker._relay.process.pid, signal.SIGKILL)
    with pytest.raises(RuntimeUnavailableError, match='relay'):
      modular_sum([1, 2])


def test_a_long_temporary_directory_does_not_matter(monkeypatch, tmp_path, modular_sum):
  long = tmp_path / ('x' * 100)
  long.mkdir()
  monkeypatch.setattr(tempfile, 'tempdir', str(long))
  with simulation_context():
    assert modular_sum([1, 2]) == 3


@pytest.mark.parametrize('concurrency', [0, 1.5, True])
def test_refuses_other_concurrency(concurrency):
  with pytest.raises(ConfigurationError, match='concurrency'):
    simulation_context(concurrency=concurrency)

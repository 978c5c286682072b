"""Clients' work on several processes."""

import functools
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import warnings
from collections import OrderedDict

import numpy as np
import pytest
import secagg_cases as cases
import tensorflow as tf
import tensorflow_federated as tff
from process_ends import are_gone, wait_for

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError
from tff_privacy_agg.runtime import (
  Cluster,
  InProcessContext,
  SecAggContext,
  WorkerPool,
  pool,
  pool_worker,
  use,
)

SEQUENCES = tff.FederatedType(tff.SequenceType(np.int32), tff.CLIENTS)


@tff.tensorflow.computation(tff.SequenceType(np.int32), np.int32)
def _reduced(dataset, state):
  return dataset.reduce(np.int32(0), lambda total, x: total + x) * state


@tff.federated_computation(cases.STATE, SEQUENCES)
def _sums_of_datasets(state, datasets):
  values = tff.federated_map(_reduced, (datasets, tff.federated_broadcast(state)))
  return state, tff.federated_secure_sum_bitwidth(values, 16)


class InThreads(pool.PartsExecutor):
  """Parts run in this process, some of them badly."""

  def __init__(self, fate=lambda part: None):
    self._fate = fate
    self.ran = []
    self.bytes_in_common = []

  def workers(self):
    return 3

  def submit(self, slot, digest, common, data):
    self.ran.append(len(data))
    self.bytes_in_common.append(sum(map(len, common or ())))
    self._fate(self)
    return pool_worker.run_part(digest, common, data)

  def close(self):
    pass


@pytest.fixture
def run_in_threads(monkeypatch):
  made = []
  monkeypatch.setattr(pool_worker, '_rounds', pool_worker._Rounds())
  with InProcessContext() as of_workers:
    monkeypatch.setattr(pool_worker, '_context', lambda: of_workers)

    def make(fate=lambda executor: None):
      made.append(SecAggContext(executor=InThreads(fate)))
      return made[-1]

    yield make
    for context in made:
      context.close()


def datasets(clients):
  return [tf.data.Dataset.range(index, output_type=tf.int32) for index in range(clients)]


def want(clients):
  return sum(index * (index - 1) // 2 for index in range(clients))


def test_sums_are_the_same_and_every_client_is_run(run_in_threads):
  context = run_in_threads()
  with use(context):
    assert _sums_of_datasets(np.int32(2), datasets(30)) == (2, 2 * want(30))
  assert sum(context._executor.ran) == 30
  assert max(context._executor.ran) <= 3  # four parts for each of three workers
  assert context.last_round.survivors == tuple(range(30))


def test_structures_come_back_from_workers_as_they_were(run_in_threads, simulation):
  computation = cases.with_state(cases.modular, cases.DATA)
  data = cases.values(9)
  expected = computation(np.int32(1), data)
  with use(run_in_threads()):
    cases.assert_same(computation(np.int32(1), data), expected)


@tff.tensorflow.computation(
  tff.SequenceType(OrderedDict(b=np.int32, a=np.int32)), tff.TensorType(np.int32)
)
def _digits(dataset, state):
  return dataset.reduce(np.int32(0), lambda total, x: total + 100 * x['b'] + x['a']) * state


@tff.federated_computation(
  cases.STATE, tff.FederatedType(_digits.type_signature.parameter[0], tff.CLIENTS)
)
def _sums_of_digits(state, datasets):
  values = tff.federated_map(_digits, (datasets, tff.federated_broadcast(state)))
  return state, tff.federated_secure_sum_bitwidth(values, 16)


@pytest.mark.parametrize('serialized', [True, False])
def test_elements_keep_their_names_in_an_order_that_is_not_the_alphabet(
  run_in_threads, monkeypatch, serialized
):
  monkeypatch.setattr(InProcessContext, 'runs', lambda self, comp: serialized)
  data = [
    tf.data.Dataset.from_tensor_slices(OrderedDict(b=[1, 2], a=[client, 0])).map(
      lambda x: OrderedDict(b=tf.cast(x['b'], tf.int32), a=tf.cast(x['a'], tf.int32))
    )
    for client in range(8)
  ]
  with use(run_in_threads()):
    assert _sums_of_digits(np.int32(1), data)[1] == 8 * 300 + sum(range(8))


def test_computation_and_model_go_to_a_worker_once_a_round(run_in_threads):
  context = run_in_threads()
  with use(context):
    for state in (1, 2, 3):
      context._executor.bytes_in_common.clear()
      assert _sums_of_datasets(np.int32(state), datasets(30))[1] == state * want(30)
      sent = [size for size in context._executor.bytes_in_common if size]
      # Three slots; a slot that found no part left was sent nothing.
      assert len(context._executor.bytes_in_common) == 10
      assert 1 <= len(sent) <= 3
  assert len(pool_worker._rounds._rounds) == 2
  assert len(pool_worker._rounds._works) == 1


def test_a_worker_that_took_the_place_of_another_is_sent_the_round(run_in_threads):
  forgot = []

  def fate(executor):
    if len(executor.ran) == 6:
      forgot.append(pool_worker._rounds)
      pool_worker._rounds = pool_worker._Rounds()

  context = run_in_threads(fate)
  with use(context):
    assert _sums_of_datasets(np.int32(1), datasets(30))[1] == want(30)
  assert forgot
  assert context.last_round.survivors == tuple(range(30))


def test_a_part_whose_worker_is_lost_runs_again(run_in_threads):
  def fate(executor):
    if len(executor.ran) in (2, 5):
      raise pool.WorkerLostError('on purpose')

  context = run_in_threads(fate)
  with use(context), warnings.catch_warnings():
    warnings.simplefilter('error')
    assert _sums_of_datasets(np.int32(1), datasets(30))[1] == want(30)
  assert sum(context._executor.ran) > 30


def test_a_part_that_is_always_lost_has_dropped_out_aloud(run_in_threads):
  lock, lost = threading.Lock(), []

  def fate(executor):
    with lock:
      if len(lost) < 3 and executor.ran[-1] == 1:
        lost.append(executor.ran[-1])
        raise pool.WorkerLostError('on purpose')

  context = run_in_threads(fate)
  # 25 clients in parts of three: the last part is one client.
  with use(context), pytest.warns(RuntimeWarning, match='1 client dropped out'):
    assert _sums_of_datasets(np.int32(1), datasets(25))[1] == want(24)
  assert context.last_round.dropped == {2: (24,)}


def test_an_error_of_the_work_is_raised(run_in_threads):
  def fate(executor):
    raise ZeroDivisionError('on purpose')

  with use(run_in_threads(fate)), pytest.raises(ZeroDivisionError):
    _sums_of_datasets(np.int32(1), datasets(9))


def threads_of_work():
  """All threads but those that talk to the clients' processes, which end with the context."""
  return {one for one in threading.enumerate() if not one.name.startswith('parties')}


@pytest.mark.parametrize('clients', [10, 40])  # in this process, and in processes
def test_a_session_that_ends_early_leaves_no_thread(clients, run_in_threads):
  context = run_in_threads()
  before = threads_of_work()
  computation = cases.with_state(functools.partial(tff.federated_secure_sum, max_input=np.int32(3)))
  with use(context), pytest.raises(secagg.InputOutOfRange):
    computation(np.int32(1), [5] * clients)
  assert wait_for(lambda: threads_of_work() <= before, 5)


@pytest.mark.parametrize('workers', [0, 1.5, True])
def test_refuses_other_numbers_of_workers(workers):
  with pytest.raises(ConfigurationError, match='workers'):
    WorkerPool(workers)


def test_a_cluster_without_dask_is_refused_in_a_sentence(monkeypatch):
  monkeypatch.setitem(sys.modules, 'distributed', None)
  with pytest.raises(RuntimeUnavailableError, match='make env-dask'):
    Cluster('tcp://127.0.0.1:1')


def test_what_a_scheduler_imports_is_small():
  code = (
    'import sys, tff_privacy_agg.runtime.cluster_task\n'
    'print([name for name in ("numpy", "tensorflow") if name in sys.modules])'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  assert done.stdout == '[]\n', done.stderr


def processes_of(executor):
  return [pid for slot in executor._slots if slot is not None for pid in slot._processes]


@pytest.mark.slow
def test_worker_processes_do_not_hear_an_interrupt_while_they_start():
  executor, over = WorkerPool(2), threading.Event()

  def interrupt():
    while not over.wait(0.02):
      for pid in processes_of(executor):
        os.kill(pid, signal.SIGINT)

  thread = threading.Thread(target=interrupt)
  thread.start()
  context = SecAggContext(executor=executor)
  with use(context), warnings.catch_warnings():
    warnings.simplefilter('error')
    assert _sums_of_datasets(np.int32(1), datasets(20))[1] == want(20)
  over.set()
  thread.join()
  context.close()


@pytest.mark.slow
def test_worker_processes_one_of_which_is_killed():
  executor = WorkerPool(2)
  context = SecAggContext(executor=executor)
  with use(context):
    assert _sums_of_datasets(np.int32(1), datasets(20))[1] == want(20)
    first = processes_of(executor)
    assert len(first) == 2
    os.kill(first[0], signal.SIGKILL)
    assert _sums_of_datasets(np.int32(1), datasets(20))[1] == want(20)
    second = processes_of(executor)
    assert len(set(first) & set(second)) == 1
    assert context.last_round.survivors == tuple(range(20))
  context.close()
  assert are_gone(first + second, 10)
  with use(context), pytest.raises(RuntimeUnavailableError, match='closed'):
    _sums_of_datasets(np.int32(1), datasets(20))


PROGRAM = """
import os, signal, sys
sys.path[:0] = {here!r}
if __name__ == '__main__':
  import numpy as np
  import test_pool as tests
  executor = tests.WorkerPool(1)
  with tests.use(tests.SecAggContext(executor=executor)):
    tests._sums_of_datasets(np.int32(1), tests.datasets(4))
  print(*tests.processes_of(executor), flush=True)
  os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
  file = tmp_path / 'program.py'
  file.write_text(
    PROGRAM.format(here=[str(pathlib.Path(one).parent) for one in (__file__, cases.__file__)])
  )
  done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, timeout=120)
  assert done.returncode == -signal.SIGKILL, done.stderr
  pids = [int(pid) for pid in done.stdout.split()]
  assert len(pids) == 1
  assert are_gone(pids, 10)


@pytest.mark.slow
def test_a_cluster_of_dask_gives_the_same_sum_when_a_worker_is_killed():
  distributed = pytest.importorskip('distributed')
  with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local:
    executor = Cluster(local.scheduler_address)
    assert executor.workers() == 2
    context = SecAggContext(executor=executor)
    with use(context):
      assert _sums_of_datasets(np.int32(1), datasets(20))[1] == want(20)
      submit = executor.submit

      def submit_and_kill(*part):
        if not killed:
          killed.append(next(iter(local.workers.values())).pid)
          os.kill(killed[0], signal.SIGKILL)
        return submit(*part)

      killed, executor.submit = [], submit_and_kill
      assert _sums_of_datasets(np.int32(1), datasets(40))[1] == want(40)
      assert context.last_round.survivors == tuple(range(40))
    context.close()
    assert killed


class Scheduler:
  """A scheduler in a process of its own, with a worker."""

  def __init__(self, directory):
    file = str(directory / 'scheduler.json')
    common = ['--scheduler-file', file, '--no-dashboard']
    self._processes = [
      subprocess.Popen(
        [sys.executable, '-m', f'distributed.cli.dask_{name}', *common, *more],
        cwd=directory,
        env=os.environ | {'PYTHONPATH': os.pathsep.join(map(os.path.abspath, sys.path))},
        stderr=subprocess.DEVNULL,
      )
      for name, more in [
        ('scheduler', ['--host', '127.0.0.1', '--port', '0']),
        ('worker', ['--nworkers', '1', '--nthreads', '1']),
      ]
    ]
    assert wait_for(lambda: pathlib.Path(file).exists(), 30)
    self.address = json.loads(pathlib.Path(file).read_text())['address']

  def kill(self):
    for process in self._processes:
      process.kill()
      process.wait()


@pytest.mark.slow
def test_a_scheduler_that_is_lost_in_a_round_is_told_in_a_sentence(tmp_path):
  pytest.importorskip('distributed')
  scheduler = Scheduler(tmp_path)
  executor = Cluster(scheduler.address)
  executor._client.wait_for_workers(1, timeout=60)
  context = SecAggContext(executor=executor)
  with use(context):
    assert _sums_of_datasets(np.int32(1), datasets(20))[1] == want(20)
    submit = executor.submit

    def submit_and_kill(*part):
      scheduler.kill()
      return submit(*part)

    executor.submit = submit_and_kill
    for _ in range(2):  # in the round, and before the next
      with pytest.raises(RuntimeUnavailableError, match='has gone'):
        _sums_of_datasets(np.int32(1), datasets(40))
  context.close()


def test_a_scheduler_that_does_not_answer():
  pytest.importorskip('distributed')
  with pytest.raises(RuntimeUnavailableError, match='does not answer'):
    Cluster('tcp://127.0.0.1:1')

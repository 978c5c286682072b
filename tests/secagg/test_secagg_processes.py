"""Sessions whose clients are in processes of their own."""

import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from process_ends import are_gone, is_gone
from secagg_sessions import LEAF, MODES, assert_sum, body_of, params, random_inputs, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError
from tff_privacy_agg.secagg.local import processes as module
from tff_privacy_agg.secagg.local.parties import Group, LocalParties
from tff_privacy_agg.secagg.local.processes import PartyProcesses
from tff_privacy_agg.secagg.local.session import LocalSession

DROPS = {1: 0, 4: 1, 7: 2, 10: 3, 13: 4, 16: 5}


@pytest.fixture(scope='module')
def pool():
  made = PartyProcesses(2)
  yield made
  made.close()


def ids(processes):
  return [one.pid for one in processes._processes]


def of_size(dim, **changes):
  return params(leaves=[secagg.Leaf('x', (dim,), 20)], **changes)


def run(pool, session_params, inputs, drops=None):
  session = LocalSession(session_params, list(inputs), drops, parties=pool.parties)
  return session.run(lambda asked: ((client, inputs[client]) for client in asked))


@pytest.mark.parametrize('mode', MODES)
def test_a_session_is_that_of_one_process(mode, pool):
  session_params = params(mode=mode, verify='mac', dropout_fraction=0.4)
  inputs = random_inputs(session_params, range(20))
  want = secagg.run_in_memory(session_params, inputs, DROPS)
  got = run(pool, session_params, inputs, DROPS)
  assert_sum(got.values, inputs, got.survivors, [LEAF])
  for name in ('survivors', 'silent', 'left', 'refused', 'verdicts', 'bytes_up', 'bytes_down'):
    assert getattr(got, name) == getattr(want, name), name
  assert all(got.verdicts.values())
  assert {client for client, seconds in got.seconds_client.items() if seconds} == set(inputs) - {1}


def test_two_sessions_at_once_do_not_meet(pool):
  inputs = random_inputs(params(), range(12))
  sessions = [LocalSession(params(), list(inputs), parties=pool.parties) for _ in range(2)]
  other = []

  def inputs_of(asked):
    other.append(sessions[1].run(lambda those: ((one, inputs[one]) for one in those if one)))
    yield from ((one, inputs[one]) for one in asked)

  result = sessions[0].run(inputs_of)
  for one, survivors in ((result, range(12)), (other[0], range(1, 12))):
    assert one.survivors == tuple(survivors)
    assert_sum(one.values, inputs, survivors, [LEAF])


def test_a_client_that_brings_no_input_is_silent(pool):
  inputs = random_inputs(params(), range(12))
  session = LocalSession(params(), list(inputs), parties=pool.parties)
  result = session.run(lambda asked: ((one, inputs[one]) for one in asked if one != 5))
  assert result.silent == {5: secagg.Round.MASKED}
  assert 5 not in result.survivors


def test_an_input_that_does_not_fit_is_refused_as_in_one_process(pool):
  inputs = random_inputs(params(), range(8)) | {3: {'v': np.full(70, 2**20)}}
  with pytest.raises(secagg.InputOutOfRange) as there:
    run(pool, params(), inputs)
  with pytest.raises(secagg.InputOutOfRange) as here:
    secagg.run_in_memory(params(), inputs)
  assert str(there.value) == str(here.value)
  inputs = random_inputs(params(), range(8))
  assert run(pool, params(), inputs).survivors == tuple(range(8))  # nothing is left behind


def test_a_client_that_leaves_says_why(pool, monkeypatch):
  inputs = random_inputs(params(), range(20))
  session = LocalSession(params(), list(inputs), parties=pool.parties)
  close_round = session._server.close_round

  def corrupted():
    messages = close_round()
    if session._server.round == secagg.Round.MASKED:
      body = body_of(messages[6])
      messages[6] = rewrap(messages[6], body[:-2000] + bytes(2000))
    return messages

  monkeypatch.setattr(session._server, 'close_round', corrupted)
  result = session.run(lambda asked: ((client, inputs[client]) for client in asked))
  assert isinstance(result.left[6], secagg.SecAggError)
  assert str(result.left[6])
  assert result.silent == {6: secagg.Round.MASKED}
  assert 6 not in result.survivors


def test_a_process_that_dies_ends_its_round_alone(pool):
  inputs = random_inputs(params(), range(12))

  def inputs_of(asked):
    os.kill(ids(pool)[0], signal.SIGKILL)
    yield from ((client, inputs[client]) for client in asked)

  with pytest.raises(RuntimeUnavailableError, match='Run the round again'):
    LocalSession(params(), list(inputs), parties=pool.parties).run(inputs_of)
  before = ids(pool)
  assert run(pool, params(), inputs).survivors == tuple(inputs)
  assert before[1] in ids(pool)
  assert before[0] not in ids(pool)


@pytest.mark.skipif(not pathlib.Path('/proc/self/maps').exists(), reason='reads /proc')
def test_a_process_has_no_tensorflow_and_no_port(pool):
  run(pool, params(), random_inputs(params(), range(4)))
  for pid in ids(pool):
    assert 'tensorflow' not in pathlib.Path(f'/proc/{pid}/maps').read_text()
    own = [one for one in pathlib.Path(f'/proc/{pid}/fd').iterdir() if int(one.name) > 2]
    numbers = [name[8:-1] for name in map(os.readlink, own) if name.startswith('socket:')]
    assert len(numbers) == 1
    unnamed = pathlib.Path('/proc/net/unix').read_text()
    assert any(line.split()[6:] == numbers for line in unnamed.splitlines())


def test_close_ends_the_processes():
  pool = PartyProcesses(2)
  run(pool, params(), random_inputs(params(), range(4)))
  pids = ids(pool)
  assert not any(map(is_gone, pids))
  pool.close()
  assert are_gone(pids, 20)


def test_a_process_that_was_stopped_ends_too():
  pool = PartyProcesses(1)
  run(pool, params(), random_inputs(params(), range(4)))
  os.kill(ids(pool)[0], signal.SIGSTOP)
  pids = ids(pool)
  pool.close()
  assert are_gone(pids, 20)


def test_an_interrupt_is_not_heard_while_a_process_starts():
  """From its first moment: a ctrl-C then ended in its traceback, next to what its parent says."""
  made = module._Process()
  os.kill(made.pid, signal.SIGINT)
  group = Group(params(), [1], None, None)
  assert made.ask(0, group).result(20) is None
  assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
  made.close()


def test_the_end_of_a_process_may_come_in_its_own_thread():
  made = module._Process()
  assert made._thread.submit(made._end).result(20) is None
  made.close()


SCRIPT = """
import os, sys
sys.path[:0] = {path!r}
from secagg_sessions import params, random_inputs
from tff_privacy_agg.secagg.local.processes import PartyProcesses
from tff_privacy_agg.secagg.local.session import LocalSession
pool, inputs = PartyProcesses(2), random_inputs(params(), range(4))

def inputs_of(asked):
  for client in asked:
    yield client, inputs[client]
    print(*[one.pid for one in pool._processes], flush=True)
    {then}

LocalSession(params(), list(inputs), parties=pool.parties).run(inputs_of)
"""


@pytest.mark.parametrize('then', ['pass', 'os.kill(os.getpid(), 9)', 'raise SystemExit(3)'])
def test_processes_end_with_a_program_however_it_ends(then, tmp_path):
  # A script without `if __name__ == '__main__'`, from a folder in which nothing can be imported.
  path = [str(pathlib.Path(__file__).parent), str(pathlib.Path(secagg.__file__).parents[2])]
  (tmp_path / 'script.py').write_text(SCRIPT.format(path=path, then=then))
  found = subprocess.run(
    [sys.executable, 'script.py'], cwd=tmp_path, capture_output=True, text=True, timeout=60
  )
  pids = [int(pid) for pid in found.stdout.splitlines()[0].split()]
  assert len(pids) == 2
  assert are_gone(pids, 20)
  if then == 'pass':
    assert (found.returncode, found.stderr) == (0, '')


def test_the_default_takes_processes_only_where_they_gain(monkeypatch):
  taken = []
  monkeypatch.setattr(module, '_Process', lambda: taken.append(1))
  monkeypatch.setattr(module, '_RemoteParties', lambda number, group, processes: len(processes))

  def parties(clients, dim, cores=4):
    monkeypatch.setattr(module.parallel, 'cores', lambda: cores)
    return PartyProcesses().parties(Group(of_size(dim), range(clients), None, None))

  assert parties(200, 1000) == 4
  assert parties(200, 1000, cores=100) == 16
  for few in (parties(200, 1000, cores=1), parties(20, 1000), parties(200, 10**6), parties(2, 9)):
    assert isinstance(few, LocalParties)
  assert len(taken) == 20
  impossible = of_size(9, dropout_fraction=0.6, colluding_fraction=0.5)
  with pytest.raises(secagg.UnsafeParameters):
    secagg.thresholds.session_parameters(impossible, 200)
  assert isinstance(
    PartyProcesses().parties(Group(impossible, range(200), None, None)), LocalParties
  )


@pytest.mark.parametrize('count', [-1, 1.5, True])
def test_a_number_of_processes_that_is_none_is_refused(count):
  with pytest.raises(ConfigurationError, match='processes'):
    PartyProcesses(count)

"""Every party a process of its own, killed in every round; and the example with ctrl-C."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from deployments import NAMES

pytestmark = pytest.mark.slow

HERE = pathlib.Path(__file__).parent
EXAMPLE = HERE.parents[1] / 'examples' / 'hospitals' / 'run.py'


@pytest.fixture
def start(keys, tmp_path):
  """Starts a party; all end with the test."""
  started = []

  def run(kind, address, **options):
    arguments = [kind, str(keys), str(tmp_path), address, json.dumps(options)]
    started.append(
      subprocess.Popen(
        [sys.executable, str(HERE / 'party.py'), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
    return started[-1]

  yield run
  for process in started:
    process.kill()
    process.communicate()


def start_all(start, server_options, client_options):
  server = start('server', '127.0.0.1:0', clients=len(client_options), **server_options)
  address = server.stdout.readline().strip()
  return (
    server,
    address,
    {
      name: start('client', address, name=name, **options)
      for name, options in client_options.items()
    },
  )


def told(process, code=0):
  out, err = process.communicate(timeout=60)
  assert process.returncode == code, err
  return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize('mode', ['semi_honest', 'authenticated'])
@pytest.mark.parametrize('at', range(6))
def test_a_training_goes_on_after_a_client_is_killed(at, mode, start):
  if mode == 'semi_honest' and at == 3:
    return  # There is no such round.
  options = {name: {} for name in NAMES}
  options['west'] = {'kill_in': at}
  limits = {'work': 2, 'round': 2, 'join': 20}
  server, _, clients = start_all(start, {'mode': mode, 'sessions': 1, 'deadlines': limits}, options)
  (result,) = told(server)
  assert result['count'] == (4 if at < 3 else 5)
  assert (3 in result['survivors']) == (at >= 3)
  for name, client in clients.items():
    if name == 'west':
      assert client.wait(20) == -signal.SIGKILL
    else:
      assert told(client) == [{'name': name, 'done': 1, 'failed': []}]


@pytest.mark.parametrize('at', [0, 1, 2, 3, 4])
def test_the_server_is_killed_and_comes_back(at, start):
  options = {name: {} for name in NAMES}
  server, address, clients = start_all(
    start, {'mode': 'authenticated', 'sessions': 1, 'kill_in': at}, options
  )
  assert server.wait(60) == -signal.SIGKILL
  again = start('server', address, clients=5, sessions=1, mode='authenticated')
  assert again.stdout.readline().strip() == address
  (result,) = told(again)
  # Another number: what the clients sent to the dead server is of no use to this one.
  assert result == {'round': 2, 'survivors': [0, 1, 2, 3, 4], 'count': 5}
  for name, client in clients.items():
    (one,) = told(client)
    assert one['done'] == 1
    assert len(one['failed']) == 1, name
    assert 'SessionAborted' in one['failed'][0] or 'RoundTimeout' in one['failed'][0]


def test_a_server_that_stays_away_is_waited_for_with_a_deadline(start):
  server, _, clients = start_all(
    start, {'sessions': 1, 'kill_in': 1}, {name: {'patience': 2} for name in NAMES}
  )
  assert server.wait(60) == -signal.SIGKILL
  for client in clients.values():
    _, err = client.communicate(timeout=60)
    assert client.returncode == 1
    assert 'RoundTimeout' in err


def children_of(pid):
  found = []
  for entry in pathlib.Path('/proc').iterdir():
    try:
      if int((entry / 'stat').read_text().rsplit(')', 1)[1].split()[1]) == pid:
        found += [int(entry.name), *children_of(int(entry.name))]
    except (OSError, ValueError):
      continue
  return found


def run_example(directory, rounds):
  return subprocess.Popen(
    [sys.executable, str(EXAMPLE), '--rounds', str(rounds), '--directory', str(directory)],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


@pytest.mark.timeout(300)
def test_the_hospitals_train_are_interrupted_and_resume(tmp_path):
  first = run_example(tmp_path / 'run', 100_000)
  try:
    for line in first.stdout:
      if 'round      2/' in line:
        break
    assert len(children_of(first.pid)) >= 4
    family = children_of(first.pid)
    first.send_signal(signal.SIGINT)
    out, _ = first.communicate(timeout=60)
    assert first.returncode == 130, out
    assert 'Traceback' not in out, out
    time.sleep(1)
    assert not [pid for pid in family if pathlib.Path(f'/proc/{pid}').exists()]
  finally:
    first.kill()
  lines = (tmp_path / 'run' / 'run' / 'metrics.csv').read_text().splitlines()
  done = len(lines) - 1
  second = run_example(tmp_path / 'run', done + 2)
  out, _ = second.communicate(timeout=120)
  assert second.returncode == 0, out
  assert f'resuming after round {done}' in out
  assert f'round {done + 2}/{done + 2}' in out
  assert f'trained {done + 2} rounds' in out
  last = (tmp_path / 'run' / 'run' / 'metrics.csv').read_text().splitlines()[-1].split(',')
  header = lines[0].split(',')
  assert float(last[header.index('accuracy')]) > 0.9

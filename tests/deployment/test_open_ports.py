"""No party opens a port next to its data: only the coordinator listens, where it was told to."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_federated as tff

from tff_privacy_agg.runtime import SecAggContext, WorkerPool, simulation_context, tff_worker, use

pytestmark = pytest.mark.integration

EXAMPLE = pathlib.Path(__file__).parents[2] / 'examples' / 'hospitals' / 'run.py'
CLIENTS = tff.FederatedType(np.int32, tff.CLIENTS)
# An IPv6 socket that is bound to an IPv4 address.
MAPPED = '0000000000000000FFFF0000'
STATE = tff.FederatedType(np.int32, tff.SERVER)


@tff.federated_computation(STATE, CLIENTS)
def count(state, values):
  return state, tff.federated_secure_sum_bitwidth(values, 4)


def family(pid):
  """A process and its descendants."""
  children = {}
  for entry in pathlib.Path('/proc').iterdir():
    try:
      parent = (entry / 'stat').read_text().rsplit(')', 1)[1].split()[1]
      children.setdefault(int(parent), []).append(int(entry.name))
    except (OSError, ValueError):
      continue  # Not a process, or none any more.
  found = [pid]
  for one in found:
    found += children.get(one, [])
  return found


def program_of(pid):
  try:
    return pathlib.Path(f'/proc/{pid}/cmdline').read_bytes()
  except OSError:
    return b''


def inodes_of(pid):
  found = set()
  try:
    for entry in pathlib.Path(f'/proc/{pid}/fd').iterdir():
      link = os.readlink(entry)
      if link.startswith('socket:['):
        found.add(link[8:-1])
  except OSError:
    pass  # It ended, or the descriptor was closed, while being looked at.
  return found


def listening(pids):
  """'address:port', as the kernel writes it, of TCP sockets that listen in this namespace."""
  inodes = set().union(*(inodes_of(pid) for pid in pids))
  found = set()
  for table in ('tcp', 'tcp6'):
    for line in pathlib.Path('/proc/self/net', table).read_text().splitlines()[1:]:
      fields = line.split()
      if fields[3] == '0A' and fields[9] in inodes:
        found.add(fields[1].removeprefix(MAPPED))
  return found


def test_the_reading_of_sockets_sees_what_is_there():
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
    assert f'0100007F:{port:04X}' in listening([os.getpid()])
  with socket.create_server(('::1', 0), family=socket.AF_INET6) as server:
    port = server.getsockname()[1]
    assert any(one.endswith(f':{port:04X}') for one in listening([os.getpid()]))
  assert not any(one.endswith(f':{port:04X}') for one in listening([os.getpid()]))


def test_a_served_training_opens_the_coordinators_port_only(tmp_path):
  run = subprocess.Popen(
    [sys.executable, str(EXAMPLE), '--rounds', '3', '--directory', str(tmp_path)],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  seen, programs = set(), set()
  try:
    while run.poll() is None:
      pids = family(run.pid)
      seen |= listening(pids)
      programs |= {program_of(pid) for pid in pids}
      time.sleep(0.02)
    out = run.communicate()[0]
  finally:
    for pid in family(run.pid) if run.poll() is None else ():
      os.kill(pid, signal.SIGKILL)
  assert run.returncode == 0, out
  assert 'trained 3 rounds' in out
  configured = (tmp_path / 'server.toml').read_text().split('listen = "127.0.0.1:')[1]
  port = int(configured.split('"')[0])
  assert seen == {f'0100007F:{port:04X}'}
  assert not any(b'worker_binary' in program for program in programs)


CONTEXTS = {
  'simulation': lambda: simulation_context(install=False),
  'protocol': SecAggContext,
  'protocol, two processes': lambda: SecAggContext(executor=WorkerPool(2)),
}


@pytest.mark.parametrize('name', CONTEXTS)
def test_a_simulated_training_opens_none(name):
  before = listening(family(os.getpid()))
  context = CONTEXTS[name]()
  try:
    with use(context):
      for _ in range(2):
        assert count(np.int32(0), [1, 2, 4, 5])[1] == 12
        assert listening(family(os.getpid())) <= before
  finally:
    context.close()


def test_it_is_noticed_if_a_worker_is_in_the_hosts_namespace(monkeypatch):
  monkeypatch.setattr(tff_worker.Worker, '_start_relay', lambda self: None)
  with simulation_context(install=False) as context:
    port = context._worker.port
    assert any(one.endswith(f':{port:04X}') for one in listening([context._worker.pid]))

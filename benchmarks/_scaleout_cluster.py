"""The processes of `scaleout.py`, and what a round takes of each."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time

import _scaleout_net as net

PARTY = str(pathlib.Path(__file__).parent / '_scaleout_party.py')
LINK = {'megabits': 100, 'milliseconds': 5}
# Linux: the number of another process's CPU clock is made of its id and this.
_SCHEDULED = 2


def cpu_of(process):
  """User and system time of a process so far, by its CPU clock."""
  return time.clock_gettime((~process.pid << 3) | _SCHEDULED)


def busy_seconds():
  """CPU seconds of the whole machine so far."""
  line = pathlib.Path('/proc/stat').read_text(encoding='utf-8').splitlines()[0]
  user, nice, system, _, _, irq, soft, *_ = map(int, line.split()[1:])
  return (user + nice + system + irq + soft) / os.sysconf('SC_CLK_TCK')


class Machines:
  """A head with Dask's scheduler, and hosts with a worker each."""

  def __init__(self, log):
    net.bridge()
    self.log = log
    self.head = net.Host(0)
    self.hosts, self.workers = [self.head], []
    self.scheduler = self._dask(
      self.head, 'scheduler', '--host', net.HEAD, '--port', str(net.SCHEDULER_PORT)
    )

  def add(self, count):
    """Starts workers on hosts of their own."""
    for _ in range(count):
      host = net.Host(len(self.hosts))
      self.hosts.append(host)
      self.workers.append(
        self._dask(
          host,
          'worker',
          f'tcp://127.0.0.1:{net.SCHEDULER_PORT}',
          *('--nthreads', '1', '--no-nanny', '--memory-limit', '0'),
          *('--listen-address', f'tcp://0.0.0.0:{net.WORKER_PORT}'),
          *('--contact-address', f'tcp://{host.address}:{net.CONTACT_PORT}'),
        )
      )

  def _dask(self, host, what, *options):
    command = [sys.executable, '-m', f'distributed.cli.dask_{what}', *options, '--no-dashboard']
    return host.start(command, stdout=self.log, stderr=self.log)

  @contextlib.contextmanager
  def coordinator(self):
    """A new one on the head; what it yields is asked for rounds."""
    for host in self.hosts:
      host.limit(**LINK)
    address = f'tcp://{net.HEAD}:{net.SCHEDULER_PORT}'
    with Coordinator(self.head.start, address, self.log) as coordinator:
      yield coordinator

  def cell(self, coordinator, clients, megabits, milliseconds, version=0, kill_after=None):
    """Runs one round and measures every process of it.

    Args:
      version: Of the protocol; 0 for the clients' work without it.
      kill_after: Bytes from the workers after which one of them is killed. What it did is not
        in the workers' CPU time.
    """
    for host in self.hosts:
      host.limit(megabits, milliseconds)
    asked = len(self.workers)
    killed = None if kill_after is None else self.workers.pop()
    memory = net.forget_high_water(self.scheduler.pid)
    before = self._counters(coordinator)
    coordinator.ask(clients, version)
    if killed is not None:
      while self.head.bytes_moved()[0] - before['up'] < kill_after:
        time.sleep(0.005)
      killed.kill()
    found = coordinator.answer()
    if found['workers'] != len(self.workers):
      raise SystemExit(f'{found["workers"]} workers have worked, not {len(self.workers)}.')
    spent = {name: one - before[name] for name, one in self._counters(coordinator).items()}
    ours = spent['coordinator'] + spent['scheduler'] + spent['work'] + spent['relays']
    others = max(0.0, spent['machine'] - ours) / found['wall']
    return {
      'clients': clients,
      'version': version,
      'workers': asked,
      'megabits': megabits,
      'milliseconds': milliseconds,
      'wall_seconds': round(found['wall'], 2),
      'cores_left_by_other_work': round(len(os.sched_getaffinity(0)) - others, 2),
      'cpu_ms_a_client': {
        'workers': round(1e3 * spent['work'] / clients, 3),
        'scheduler': round(1e3 * spent['scheduler'] / clients, 3),
        'coordinator, while clients work': round(1e3 * found['cpu_work'] / clients, 3),
        'coordinator, before and after': round(1e3 * found['cpu_rest'] / clients, 3),
        'relays': round(1e3 * spent['relays'] / clients, 3),
      },
      'kilobytes_a_client': {
        'to workers': round(spent['down'] / clients / 1e3, 2),
        'from workers': round(spent['up'] / clients / 1e3, 2),
      },
      'memory_kilobytes_a_client': {
        'scheduler': round((net.high_water(self.scheduler.pid) - memory) / clients / 1e3, 1),
        'coordinator': round(found['memory'] / clients / 1e3, 1),
      },
      'scheduler_megabytes': round(net.high_water(self.scheduler.pid) / 1e6, 1),
      **{name: found[name] for name in ('model', 'survivors') if name in found},
    }

  def _counters(self, coordinator):
    up, down = self.head.bytes_moved()
    return {
      'up': up,
      'down': down,
      'machine': busy_seconds(),
      'coordinator': cpu_of(coordinator.process),
      'scheduler': cpu_of(self.scheduler),
      'work': sum(map(cpu_of, self.workers)),
      'relays': sum(cpu_of(host.relay) for host in self.hosts),
    }


class Coordinator:
  """A process that runs rounds when it is asked."""

  def __init__(self, start, address, log):
    self.process = start(
      [sys.executable, PARTY, address],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=log,
      text=True,
    )

  def __enter__(self):
    if self.process.stdout.readline() != 'ready\n':
      raise SystemExit('The coordinator has failed; see the log.')
    return self

  def __exit__(self, *_):
    self.process.stdin.close()
    self.process.wait()

  def ask(self, clients, version):
    self.process.stdin.write(f'{clients} {version}\n')
    self.process.stdin.flush()

  def answer(self):
    line = self.process.stdout.readline()
    if not line:
      raise SystemExit('The coordinator has failed; see the log.')
    return json.loads(line)

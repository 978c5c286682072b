"""Hosts of `scaleout.py`: network namespaces on a bridge, each link with a rate and a latency.

A rate is a token bucket (`tbf`) at both ends of a host's link. A latency is a relay in the worker's
namespace, through which the worker and the scheduler talk: it hands on each chunk later by as much.

python benchmarks/_scaleout_net.py ADDRESS    # the relay; a line of standard input sets the seconds
"""

import asyncio
import contextlib
import os
import pathlib
import subprocess
import sys
import time

SCHEDULER_PORT, CONTACT_PORT, WORKER_PORT = 8786, 9000, 9001
HEAD = '10.9.0.1'
_CHUNK = 2**18


def enter() -> None:
  """Runs this program again as root of user, network and process namespaces of its own."""
  if os.environ.get('SCALEOUT_INSIDE'):
    return
  os.environ['SCALEOUT_INSIDE'] = '1'
  own = ['--user', '--map-root-user', '--net', '--pid', '--fork', '--kill-child', '--mount-proc']
  os.execvp('unshare', ['unshare', *own, sys.executable, *sys.argv])


def call(*command: str) -> None:
  subprocess.run(command, check=True)


class Host:
  """A network namespace with one link to the bridge.

  Args:
    index: 0 is the head.

  Attributes:
    address: On the bridge.
    relay: The process that holds the namespace, and adds the latency.
  """

  def __init__(self, index: int):
    self.address = f'10.9.{index}.1'
    self._link = f'link{index}'
    self.relay = subprocess.Popen(
      ['unshare', '--net', sys.executable, __file__, self.address], stdin=subprocess.PIPE, text=True
    )
    mine = os.readlink('/proc/self/ns/net')
    while os.readlink(f'/proc/{self.relay.pid}/ns/net') == mine:
      time.sleep(0.01)
    pid = str(self.relay.pid)
    call('ip', 'link', 'add', self._link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', pid)
    call('ip', 'link', 'set', self._link, 'master', 'bridge', 'up')
    for command in (
      'link set lo up',
      f'address add {self.address}/16 dev eth0',
      'link set eth0 up',
    ):
      self._inside('ip', *command.split())

  def start(self, command: list[str], **options) -> subprocess.Popen:
    """Starts a program on this host; its id is that of the process."""
    return subprocess.Popen([*self._enter, *command], **options)

  def limit(self, megabits: float, milliseconds: float) -> None:
    """Sets the rate of the link in each direction, and the latency of the relay."""
    bucket = f'root tbf rate {megabits}mbit burst 64kb latency 200ms'.split()
    call('tc', 'qdisc', 'replace', 'dev', self._link, *bucket)
    self._inside('tc', 'qdisc', 'replace', 'dev', 'eth0', *bucket)
    self.relay.stdin.write(f'{milliseconds / 1e3}\n')
    self.relay.stdin.flush()

  def bytes_moved(self) -> tuple[int, int]:
    """Bytes that the link has brought to the host, and taken from it."""
    text = pathlib.Path(f'/proc/{self.relay.pid}/net/dev').read_text(encoding='utf-8')
    for line in text.splitlines():
      if line.strip().startswith('eth0:'):
        fields = line.split(':')[1].split()
        return int(fields[0]), int(fields[8])
    raise SystemExit('A host has lost its link.')

  @property
  def _enter(self) -> list[str]:
    return ['nsenter', '--target', str(self.relay.pid), '--net']

  def _inside(self, *command: str) -> None:
    call(*self._enter, *command)


def bridge() -> None:
  """The switch between the hosts."""
  call('ip', 'link', 'set', 'lo', 'up')
  call('ip', 'link', 'add', 'bridge', 'type', 'bridge')
  call('ip', 'link', 'set', 'bridge', 'up')


def high_water(pid: int | str = 'self') -> int:
  """Most bytes of memory that a process has had since `forget_high_water`."""
  for line in pathlib.Path(f'/proc/{pid}/status').read_text(encoding='utf-8').splitlines():
    if line.startswith('VmHWM'):
      return 1024 * int(line.split()[1])
  raise SystemExit('This system does not say how much memory a process has had.')


def forget_high_water(pid: int | str = 'self') -> int:
  """Starts the count anew; returns bytes of memory now."""
  pathlib.Path(f'/proc/{pid}/clear_refs').write_text('5', encoding='utf-8')
  return high_water(pid)


class _Relay:
  def __init__(self) -> None:
    self.seconds = 0.0

  async def listen(self, address: str, port: int, to: tuple[str, int]) -> None:
    async def serve(reader, writer):
      try:
        back, there = await asyncio.open_connection(*to, limit=_CHUNK)
      except OSError:
        writer.close()
        return
      await asyncio.gather(self._carry(reader, there), self._carry(back, writer))

    while True:
      try:
        await asyncio.start_server(serve, address, port, limit=_CHUNK)
        return
      except OSError:  # The link has no address yet.
        await asyncio.sleep(0.05)

  async def _carry(self, reader, writer) -> None:
    """Hands chunks on in their order, each when its time has come."""
    loop, chunks = asyncio.get_running_loop(), asyncio.Queue()

    async def write() -> None:
      while (one := await chunks.get()) is not None:
        due, chunk = one
        if (left := due - loop.time()) > 0:
          await asyncio.sleep(left)
        writer.write(chunk)
        await writer.drain()

    writing = asyncio.create_task(write())
    with contextlib.suppress(OSError):
      while chunk := await reader.read(_CHUNK):
        chunks.put_nowait((loop.time() + self.seconds, chunk))
    chunks.put_nowait(None)
    with contextlib.suppress(OSError):
      await writing
    writer.close()


async def _relay(address: str) -> None:
  relay = _Relay()
  if address != HEAD:
    await relay.listen('127.0.0.1', SCHEDULER_PORT, (HEAD, SCHEDULER_PORT))
    await relay.listen(address, CONTACT_PORT, ('127.0.0.1', WORKER_PORT))
  while line := await asyncio.to_thread(sys.stdin.readline):
    relay.seconds = float(line)
  os._exit(0)  # With whatever is on its way.


if __name__ == '__main__':
  asyncio.run(_relay(sys.argv[1]))

"""One TFF C++ worker process, tied to the life of this Python process.

The worker never outlives its owner: it is ended by `Worker.end`, and the kernel
kills it (PR_SET_PDEATHSIG) when the owner dies without a chance to do so.

The worker serves gRPC without encryption or authentication on all addresses, and runs any
computation that it is sent, with its owner's rights; its program has no flag for that. So it runs
alone in a network namespace, and is reached over a Unix socket that its owner alone may open.
Where the system allows no such namespace its port is open to whoever reaches the host: that is
said once, on standard error.
"""

import concurrent.futures
import functools
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from typing import IO, Any

import tensorflow_federated as tff

from tff_privacy_agg.errors import RuntimeUnavailableError

# The worker's many threads otherwise each fill an arena of their own, and the worker grows by
# tens of kilobytes a round for a thousand rounds. The environment's own setting wins.
_ALLOCATOR = {'MALLOC_ARENA_MAX': '2'}

_LAUNCHER = str(pathlib.Path(__file__).with_name('worker_launcher.py'))
# In a namespace of its own nobody else can have taken it.
_ISOLATED_PORT = 8000
# A Unix socket's path has at most 107 bytes.
_LONGEST_DIRECTORY = 80
_LOG_BYTES = 4096
_LOG_LINES = 5


def exposure(reason: str) -> str:
  """Describes in one line what a worker outside of a namespace opens to others.

  Args:
    reason: Why it has none.
  """
  return (
    f'tff_privacy_agg: this system allows no network namespace ({reason}), so the TFF worker of a '
    'simulation listens on all network interfaces without authentication and runs any computation '
    'that it is sent, with your rights; keep its host out of reach of others.'
  )


@functools.cache
def tell_exposure(reason: str) -> None:
  """Writes `exposure` to standard error, once in this process."""
  print(exposure(reason), file=sys.stderr, flush=True)


def _program() -> str:
  path = pathlib.Path(tff.__file__).parent / 'data' / 'worker_binary'
  if not path.is_file():
    raise RuntimeUnavailableError(
      f"The program of TFF's worker is missing: {path} does not exist. Reinstall "
      'tensorflow-federated.'
    )
  return str(path)


def _reserve_port() -> socket.socket:
  """Returns a socket that holds a free port for as long as it is open.

  The worker's gRPC server listens with SO_REUSEPORT, so two workers that pick
  the same port would both start and silently share its connections. A bound
  socket that never listens keeps the port from every other search for a free
  one, while the worker may join it.
  """
  family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
  holder = socket.socket(family, socket.SOCK_STREAM)
  if family == socket.AF_INET6:
    holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
  holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
  holder.bind(('', 0))
  return holder


class _Child:
  """A process of the launcher that ends with this one."""

  def __init__(self, arguments: list[str], **options: Any):
    command = [sys.executable, '-I', '-S', _LAUNCHER, *arguments]
    started: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()
    # The kernel's "parent" is the thread that starts a process. This thread lives as long as the
    # child, whichever thread asked for it.
    self._keeper = threading.Thread(
      target=self._keep, args=(command, options, started), name='tff-worker-keeper', daemon=True
    )
    self._keeper.start()
    self.process = started.result()

  def _keep(
    self, command: list[str], options: dict[str, Any], started: concurrent.futures.Future
  ) -> None:
    try:
      # A ctrl-C at the terminal reaches the whole session: children are ended in order, by
      # their owner.
      process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, **options
      )
    except BaseException as error:
      started.set_exception(error)
      return
    started.set_result(process)
    process.wait()

  @property
  def alive(self) -> bool:
    return self._keeper.is_alive()

  def end(self) -> None:
    self.process.kill()
    self._keeper.join()


class Worker:
  """A running worker process.

  Attributes:
    owner: Process id of the Python process that started the worker.
    isolated: Whether it runs in a network namespace of its own.
    address: Where it is reached, as gRPC takes it, now or soon.
    port: Its TCP port, of its namespace or of the host.
  """

  def __init__(self, *, concurrency: int, log_file: str | os.PathLike[str] | None = None):
    """Starts the worker.

    Args:
      concurrency: How many calls of one computation run at once.
      log_file: File that the worker's output is appended to. By default it is
        kept out of sight, and quoted when the worker fails.

    Raises:
      RuntimeUnavailableError: If the worker's program is not installed.
    """
    program = _program()
    self.owner = os.getpid()
    self._ended = False
    self._log: IO[bytes] = (
      tempfile.TemporaryFile() if log_file is None else open(log_file, 'a+b')  # noqa: SIM115
    )
    self._directory = _private_directory()
    self._relay = self._start_relay()
    self.isolated = self._relay is not None
    self._port_holder: socket.socket | None = None
    if self._relay is None:
      self._port_holder = _reserve_port()
      self.port: int = self._port_holder.getsockname()[1]
      self.address = f'127.0.0.1:{self.port}'
    else:
      self.port = _ISOLATED_PORT
      self.address = f'unix:{self._socket}'
    relay_pid = 0 if self._relay is None else self._relay.process.pid
    self._child = _Child(
      [
        'worker',
        str(self.owner),
        str(relay_pid),
        program,
        f'--port={self.port}',
        f'--max_concurrent_computation_calls={concurrency}',
      ],
      stdout=self._log,
      stderr=self._log,
      env=_ALLOCATOR | os.environ,
    )

  @property
  def _socket(self) -> str:
    return os.path.join(self._directory, 'worker')

  def _start_relay(self) -> _Child | None:
    """The relay, or None, with a line that says so, where it can have no namespace."""
    arguments = ['relay', str(self.owner), self._socket, str(_ISOLATED_PORT)]
    relay = _Child(arguments, stdout=subprocess.PIPE, stderr=self._log)
    output = relay.process.stdout
    said = '' if output is None else output.readline().decode(errors='replace').strip()
    if output is not None:
      output.close()
    if said == 'ready':
      return relay
    relay.end()
    tell_exposure(said or 'the relay failed')
    return None

  @property
  def pid(self) -> int:
    """Process id of the worker."""
    return self._child.process.pid

  @property
  def alive(self) -> bool:
    """Whether the worker process runs, and can be reached."""
    return self._child.alive and (self._relay is None or self._relay.alive)

  def failure(self) -> str:
    """Returns what is known of a worker that does not serve, as one sentence."""
    if self._ended:
      return 'it was ended by its owner.'
    if self.alive:
      found = 'it runs but does not answer'
    elif self._child.alive:
      found = 'the relay that leads to it has ended'
    else:
      code = self._child.process.returncode
      found = f'it ended with code {code}'
      if code == -9:
        found += ' (killed; the usual cause is a lack of memory)'
    # pread leaves the file's position, which the worker writes at, alone.
    descriptor = self._log.fileno()
    start = max(0, os.fstat(descriptor).st_size - _LOG_BYTES)
    text = os.pread(descriptor, _LOG_BYTES, start).decode(errors='replace')
    lines = [line for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    return f'{found}; its last log lines: {" | ".join(lines) or "none"}.'

  def end(self) -> None:
    """Ends the worker and waits until it is gone. May be called again."""
    if os.getpid() != self.owner:
      return  # A forked child holds a copy; the worker is its parent's.
    self._ended = True  # first: a call that fails meanwhile asks why
    self._child.end()
    if self._relay is not None:
      self._relay.end()
    shutil.rmtree(self._directory, ignore_errors=True)
    if self._port_holder is not None:
      self._port_holder.close()
    self._log.close()


def _private_directory() -> str:
  """A new directory of mode 0700 whose path is short enough for a Unix socket."""
  base = tempfile.gettempdir()
  return tempfile.mkdtemp(
    prefix='tff-worker-', dir=base if len(os.fsencode(base)) <= _LONGEST_DIRECTORY else '/tmp'
  )

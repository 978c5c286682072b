"""One TFF C++ worker process, tied to the life of this Python process.

The worker never outlives its owner: it is ended by `Worker.end`, and the kernel
kills it (PR_SET_PDEATHSIG) when the owner dies without a chance to do so.

The worker serves gRPC without encryption or authentication on all of the
host's addresses; its program has no flag for that. `tell_exposure` says so.
"""

import concurrent.futures
import functools
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
from typing import IO

import tensorflow_federated as tff

from tff_privacy_agg.errors import RuntimeUnavailableError

# The worker's many threads otherwise each fill an arena of their own, and the worker grows by
# tens of kilobytes a round for a thousand rounds. The environment's own setting wins.
_ALLOCATOR = {'MALLOC_ARENA_MAX': '2'}

# Runs in a fresh interpreter between this process and the worker program, since
# code that runs after a fork of a process with TensorFlow's and gRPC's threads
# can deadlock. It costs about 20 ms. The worker keeps the setting (1 is
# PR_SET_PDEATHSIG, 9 SIGKILL) across exec; the second look at the parent covers
# one that died before the setting was made.
_LAUNCHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
  os.execv(sys.argv[2], sys.argv[2:])
"""
_LOG_BYTES = 4096
_LOG_LINES = 5


def exposure() -> str:
  """What a running worker opens to others, in one line."""
  return (
    "tff_privacy_agg: TFF's worker listens on all network interfaces without authentication and "
    'runs any computation it is sent, with your rights; keep its host out of reach of others.'
  )


@functools.cache
def tell_exposure() -> None:
  """Writes `exposure` to standard error, once in this process."""
  print(exposure(), file=sys.stderr, flush=True)


def _program() -> str:
  path = pathlib.Path(tff.__file__).parent / 'data' / 'worker_binary'
  if not path.is_file():
    raise RuntimeUnavailableError(
      f'A TFF worker was asked for; its program is not at {path}. Reinstall tensorflow-federated.'
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


class Worker:
  """A running worker process.

  Attributes:
    port: The TCP port that the worker listens on, or is about to.
    owner: Process id of the Python process that started the worker.
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
    self._port_holder = _reserve_port()
    self.port: int = self._port_holder.getsockname()[1]
    command = [sys.executable, '-I', '-S', '-c', _LAUNCHER, str(self.owner)]
    command += [program, f'--port={self.port}', f'--max_concurrent_computation_calls={concurrency}']
    started: concurrent.futures.Future[subprocess.Popen[bytes]] = concurrent.futures.Future()
    # The kernel's "parent" is the thread that starts a process. This thread
    # lives as long as the worker, whichever thread asked for it.
    self._keeper = threading.Thread(
      target=self._keep, args=(command, started), name='tff-worker-keeper', daemon=True
    )
    self._keeper.start()
    self._process = started.result()

  def _keep(self, command: list[str], started: concurrent.futures.Future) -> None:
    try:
      process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=self._log,
        stderr=self._log,
        env=_ALLOCATOR | os.environ,
        # A ctrl-C at the terminal reaches the whole session: the worker is
        # ended in order, by its owner.
        start_new_session=True,
      )
    except BaseException as error:
      started.set_exception(error)
      return
    started.set_result(process)
    process.wait()

  @property
  def pid(self) -> int:
    """Process id of the worker."""
    return self._process.pid

  @property
  def alive(self) -> bool:
    """Whether the worker process runs."""
    return self._keeper.is_alive()

  def failure(self) -> str:
    """Returns what is known of a worker that does not serve, as one sentence."""
    if self._ended:
      return 'it was ended by its owner.'
    if self.alive:
      found = 'it runs but does not answer'
    else:
      found = f'it ended with code {self._process.returncode}'
      if self._process.returncode == -9:
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
    self._process.kill()
    self._keeper.join()
    self._port_holder.close()
    self._log.close()

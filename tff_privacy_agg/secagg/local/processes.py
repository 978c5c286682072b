"""Processes of this machine that hold the clients of a session, so that all cores work for them."""

import collections
import concurrent.futures
import contextlib
import itertools
import signal
import socket
import subprocess
import sys
import weakref
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.secagg import tags, thresholds, wire
from tff_privacy_agg.secagg.errors import SecAggError
from tff_privacy_agg.secagg.local.parties import Answer, Group, LocalParties, Parties, Task
from tff_privacy_agg.secagg.primitives import parallel

# A client takes about a third of a millisecond for each neighbour, a process 0.2 s to start.
_LEAST_KEYS = 1_500
# Larger vectors, as they are packed, are masked by all cores of one process, and would be copied on
# their way.
_MOST_BYTES = 2**20
# The server, which is one process, takes a fifteenth of what its clients take.
_MOST_PROCESSES = 16
# Tasks on their way to a process: one that it works on, and others so that it does not wait.
_AHEAD = 4
# Modules are found where this process finds them; `__main__` is not run again.
_PROGRAM = (
  'import sys; sys.path[:] = sys.argv[2:]; '
  'from tff_privacy_agg.secagg.local.party_process import serve; serve(int(sys.argv[1]))'
)


class PartyProcesses:
  """Processes that hold the clients of sessions, of several at once if need be.

  They start when a session first takes them, import no TensorFlow, open no port, and end with
  `close` or with this process. Clients' secrets do not leave the process that drew them; inputs
  and private identity keys travel to it over a socket that has no name.

  Args:
    count: How many processes; 0 for none. None: one for each core, 16 at most, for sessions that
      gain by it: many pairs of clients, with vectors of at most 1 MiB.
  """

  def __init__(self, count: int | None = None):
    if count is not None:
      _validate.at_least(0, processes=count)
    self._count = count
    self._processes: list[_Process] = []
    self._numbers = itertools.count()

  def parties(self, group: Group) -> Parties:
    """The clients of a session, in these processes or in this one."""
    count = self._count
    if count is None:
      count = min(parallel.cores(), _MOST_PROCESSES) if _gains(group) else 0
    if not count:
      return LocalParties(group)
    self._processes = [one for one in self._processes if one.alive]
    while len(self._processes) < count:
      self._processes.append(_Process())
    return _RemoteParties(next(self._numbers), group, self._processes[:count])

  def close(self) -> None:
    """Ends the processes."""
    for process in self._processes:
      process.close()
    self._processes = []


def _gains(group: Group) -> bool:
  params, clients = group.params, len(group.clients)
  if parallel.cores() == 1 or wire.masked_bytes(tags.wire_leaves(params)) > _MOST_BYTES:
    return False
  try:
    neighbours = thresholds.session_parameters(params, clients).k
  except SecAggError:
    return False  # the session will say why it cannot be
  return clients * neighbours >= _LEAST_KEYS


class _RemoteParties:
  """The clients of one session, dealt out to processes."""

  def __init__(self, number: int, group: Group, processes: list['_Process']):
    self._number, self._processes = number, processes
    self._of: dict[int, _Process] = {}
    for place, process in enumerate(processes):
      own = group.clients[place :: len(processes)]
      self._of.update(dict.fromkeys(own, process))
      identities = group.identities and {client: group.identities[client] for client in own}
      process.ask(number, group._replace(clients=own, identities=identities))

  def answers(self, tasks: Iterable[Task]) -> Iterator[tuple[int, Answer]]:
    """Yields (client, answer) in the order of `tasks`, of which it takes some ahead.

    Raises:
      SecAggError: If an input does not fit its leaf.
      RuntimeUnavailableError: If a process has ended.
    """
    asked: collections.deque[concurrent.futures.Future] = collections.deque()
    for task in tasks:
      asked.append(self._of[task.client].ask(self._number, task))
      if len(asked) >= _AHEAD * len(self._processes):
        yield asked.popleft().result()
    while asked:
      yield asked.popleft().result()

  def close(self) -> None:
    """Lets the clients go, and their secrets with them."""
    for process in self._processes:
      process.ask(self._number, None)


class _Process:
  """One process, and the thread that talks to it."""

  def __init__(self) -> None:
    near, far = socket.socketpair()
    with far, deaf_to_interrupts():
      process = subprocess.Popen(
        [sys.executable, '-c', _PROGRAM, str(far.fileno()), *sys.path],
        stdin=subprocess.DEVNULL,
        pass_fds=[far.fileno()],
      )
    self.alive: bool = True
    self.pid: int = process.pid
    self._connection = Connection(near.detach())
    self._thread = concurrent.futures.ThreadPoolExecutor(1, 'parties')
    self._end = weakref.finalize(self, _end, self._thread, process)

  def ask(self, session: int, request: Group | Task | None) -> concurrent.futures.Future:
    """What the process answers, in the order of requests; see `party_process.serve`."""
    return self._thread.submit(self._exchange, session, request)

  def _exchange(self, session: int, request: Group | Task | None) -> Any:
    try:
      self._connection.send((session, request))
      done, result = self._connection.recv()
    except (EOFError, OSError) as error:
      self.alive = False
      raise RuntimeUnavailableError(
        'A process that held clients of a secure sum has ended, for lack of memory perhaps. Run the '
        'round again; with `processes=0` clients stay in one process.'
      ) from error
    if not done:
      raise result
    return result

  def close(self) -> None:
    """Ends the process."""
    self.alive = False
    self._end()
    self._thread.shutdown()
    self._connection.close()


def _end(thread: concurrent.futures.Executor, process: subprocess.Popen) -> None:
  process.kill()  # one that is stopped hears nothing else
  process.wait()
  # Not waited for: this may run in the thread, with the last reference to the process.
  thread.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
  """Processes that the block starts do not hear a ctrl-C: their parent does, and ends them."""
  before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
  try:
    yield
  finally:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)

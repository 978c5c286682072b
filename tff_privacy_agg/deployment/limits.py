"""What one client, and whoever reaches the port, may take of the coordinator's machine."""

import collections
import contextlib
import os
import time
from collections.abc import Hashable, Iterator

try:
  import resource
except ImportError:  # Windows
  resource = None  # type: ignore[assignment]

CALLS = 8
"""Most open calls of one client: an honest one has one, and what a lost connection left."""

MESSAGES = 2
"""Most messages of one client that are held at once: its own, and the same sent again."""

HELLO_SECONDS = 10.0
"""How long a connection may take for its handshake, and a call to join for its first frame."""

LINES = 20
"""Most events of refusals a minute and client: a flood must not fill the log."""

_STRANGERS = 4096
_PER_CLIENT = 4
_SPARE_FILES = 256
_TOLD_SECONDS = 60.0


class TooMuch(Exception):
  """A client has reached a limit; the text says which."""


class Limits:
  """Counts what each client holds; used by one thread.

  Attributes:
    calls: {client: open calls}.
    held: {client: bytes of its messages that are being read or computed with}.
  """

  def __init__(self) -> None:
    self.calls: collections.Counter[int] = collections.Counter()
    self.held: collections.Counter[int] = collections.Counter()
    self._told: dict[Hashable, tuple[float, int]] = {}

  @contextlib.contextmanager
  def call(self, client: int) -> Iterator[None]:
    """One open call of a client.

    Raises:
      TooMuch: If it has as many as it may.
    """
    with _counted(self.calls, client, 1, CALLS, 'open calls'):
      yield

  @contextlib.contextmanager
  def message(self, client: int, size: int, largest: int) -> Iterator[None]:
    """One message of a client, of `size` bytes, in a session whose largest has `largest`.

    Raises:
      TooMuch: If it has as many bytes in flight as it may.
    """
    with _counted(self.held, client, size, MESSAGES * largest, 'bytes in flight'):
      yield

  def tell(self, what: Hashable, most: int) -> bool:
    """Whether to tell of something again, at most so often a minute."""
    now = time.monotonic()
    since, count = self._told.get(what, (now, 0))
    if now - since >= _TOLD_SECONDS:
      since, count = now, 0
    self._told[what] = since, count + 1
    return count < most


@contextlib.contextmanager
def _counted(
  counter: collections.Counter[int], client: int, amount: int, most: int, what: str
) -> Iterator[None]:
  if counter[client] + amount > most:
    raise TooMuch(f'more than {most} {what}')
  counter[client] += amount
  try:
    yield
  finally:
    counter[client] -= amount
    if not counter[client]:
      del counter[client]


def connections(clients: int) -> int:
  """Most open connections of a server with so many clients, of this process's file descriptors.

  Raises the soft limit of descriptors as far as that needs and the hard limit allows. Files of
  the run keep descriptors of their own: a flood of connections must not stop the ledger.
  """
  wanted = _PER_CLIENT * clients + _STRANGERS
  if resource is None:
    return wanted
  used = _open_files()
  soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
  needed = used + wanted + _SPARE_FILES
  if soft != resource.RLIM_INFINITY and soft < needed:
    soft = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
  if soft == resource.RLIM_INFINITY or soft >= needed:
    return wanted
  free = max(2, soft - used)
  return free - min(_SPARE_FILES, free // 2)


def _open_files() -> int:
  try:
    return len(os.listdir('/proc/self/fd'))
  except OSError:
    return 64

"""A process that holds some clients of a session, and does what it is asked for them."""

import signal
from multiprocessing.connection import Connection
from typing import Any

from tff_privacy_agg.secagg.local.parties import Group, LocalParties, Task


def serve(handle: int) -> None:
  """Answers requests until the other end closes, which the death of its process does too.

  A request is a `Group`, whose clients take the place of all others; a `Task`; or None, which lets
  the clients go. The reply is (whether it was done, the result or the error).

  Args:
    handle: Descriptor of a socket.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other end alone hears a ctrl-C
  connection = Connection(handle)
  parties: LocalParties | None = None
  while True:
    try:
      request = connection.recv()
    except (EOFError, OSError):
      return
    reply: tuple[bool, Any] = (True, None)
    try:
      if isinstance(request, Task) and parties is not None:
        reply = True, next(parties.answers([request]))
      else:
        parties = LocalParties(request) if isinstance(request, Group) else None
    except Exception as error:
      reply = False, error
    connection.send(reply)

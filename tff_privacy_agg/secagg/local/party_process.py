"""A process that holds some clients of sessions, and does what it is asked for them."""

from multiprocessing.connection import Connection
from typing import Any

from tff_privacy_agg.secagg.local.parties import Group, LocalParties, Task


def serve(handle: int) -> None:
  """Answers requests until the other end closes, which the death of its process does too.

  A request is the number of a session, and a `Group`, the clients of it that are held here; a
  `Task`; or None, which lets them go. The reply is (whether it was done, the result or the error).

  Args:
    handle: Descriptor of a socket.
  """
  connection = Connection(handle)
  sessions: dict[int, LocalParties] = {}
  while True:
    try:
      number, request = connection.recv()
    except (EOFError, OSError):
      return
    reply: tuple[bool, Any] = (True, None)
    try:
      if isinstance(request, Group):
        sessions[number] = LocalParties(request)
      elif isinstance(request, Task):
        reply = True, next(sessions[number].answers([request]))
      else:
        sessions.pop(number, None)
    except Exception as error:
      reply = False, error
    connection.send(reply)

"""What a call of the gRPC service carries: frames, read and written while a deadline runs."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import grpc.aio

from tff_privacy_agg.deployment import framing


@contextlib.asynccontextmanager
async def cut_after(seconds: float, context: Any) -> AsyncIterator[None]:
  """Ends the call if what is in the block takes longer."""
  try:
    async with asyncio.timeout(seconds):
      yield
  except TimeoutError:
    await context.abort(grpc.StatusCode.CANCELLED, f'it took longer than {seconds:g} s')


class Frames:
  """The frames of all calls of a server, counted.

  Args:
    seconds: How long a client may take to read an answer.

  Attributes:
    traffic: Bytes of messages, 'received' and 'sent'.
  """

  def __init__(self, seconds: float):
    self._seconds = seconds
    self.traffic = {'received': 0, 'sent': 0}

  async def read(self, context: Any) -> bytes:
    """The next frame of a message that has not ended.

    A connection that breaks looks like the end of the call. It shows nothing of the client, which
    sends its message again, or has dropped out.

    gRPC's iterator over the frames refers to itself: a call that is not read to its end would be
    kept, and would count as one of its connection, until the garbage is collected.
    """
    frame = await context.read()
    if frame is grpc.aio.EOF:
      await context.abort(grpc.StatusCode.CANCELLED, 'the call ended before its message')
    self.traffic['received'] += len(frame)
    return bytes(frame)

  async def write(self, context: Any, head: Mapping[str, Any], payload: bytes = b'') -> None:
    """Writes one message."""
    # Nobody holds a call open by not reading its answer.
    async with cut_after(self._seconds, context):
      for frame in framing.frames(head, payload):
        self.traffic['sent'] += len(frame)
        await context.write(frame)

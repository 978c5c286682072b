"""Framing of a message: a small head, then its bytes in chunks, the total announced first.

One gRPC service of generic handlers over raw bytes: no protobuf, no generated code.

    Join      client: head                     server: head, parameters and broadcast
    Exchange  client: head, round message      server: head, next message, once the round closes

A head is JSON with `bytes`, the length of what follows. The receiver compares it with its own
limit first, and takes not one byte more. The first frame has the head, a line feed and the first
chunk; each other frame one chunk. Every chunk but the last has `CHUNK_BYTES`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc
import grpc.aio

from tff_privacy_agg import secagg
from tff_privacy_agg._wording import counted
from tff_privacy_agg.deployment import limits
from tff_privacy_agg.secagg import InvalidMessage

SERVICE = 'tff_privacy_agg.SecureAggregation'
JOIN, EXCHANGE = 'Join', 'Exchange'
FORMAT = 'tff_privacy_agg/runtime/v2'
CHUNK_BYTES = 2**18
_HEAD_BYTES = 2**16
# Nothing larger is read off the wire.
_LARGEST_FRAME = CHUNK_BYTES + _HEAD_BYTES + 1

_OPTIONS = (
  ('grpc.max_receive_message_length', _LARGEST_FRAME),
  ('grpc.max_send_message_length', _LARGEST_FRAME),
  # A peer that vanished without closing its connection is noticed.
  ('grpc.keepalive_time_ms', 20_000),
  ('grpc.keepalive_timeout_ms', 10_000),
  ('grpc.http2.max_pings_without_data', 0),
  ('grpc.http2.min_ping_interval_without_data_ms', 10_000),
)
_SERVER_OPTIONS = (
  *_OPTIONS,
  # Two servers of one address would share its clients between them.
  ('grpc.so_reuseport', 0),
  # What waits to be read of a call is bounded by its window: with probing it grows to 16 MB. At
  # 100 ms to the client and back, this window takes 5 MB a second.
  ('grpc.http2.bdp_probe', 0),
  ('grpc.http2.lookahead_bytes', 2**19),
)
CLIENT_OPTIONS = (
  *_OPTIONS,
  ('grpc.enable_http_proxy', 0),
  # A new channel is a new connection.
  ('grpc.use_local_subchannel_pool', 1),
  ('grpc.initial_reconnect_backoff_ms', 100),
  ('grpc.max_reconnect_backoff_ms', 2_000),
)


def frames(head: Mapping[str, Any], payload: bytes | bytearray = b'') -> Iterator[bytes]:
  """The frames of one message."""
  view = memoryview(payload)
  first = json.dumps({**head, 'bytes': len(view)}, sort_keys=True).encode('ascii')
  yield b'%b\n%b' % (first, view[:CHUNK_BYTES])
  for start in range(CHUNK_BYTES, len(view), CHUNK_BYTES):
    yield bytes(view[start : start + CHUNK_BYTES])


def hello(task: str, schema: str) -> dict[str, str]:
  """What a client says when it joins, and the server compares."""
  digest = hashlib.sha256(schema.encode()).hexdigest()
  return {'format': FORMAT, 'task': task, 'schema': digest}


def served_round(hello: Mapping[str, Any]) -> int:
  """The greatest round number that a client says, as it joins, that it has served.

  Raises:
    InvalidMessage: If it is no such number.
  """
  number = hello.get('served', 0)
  if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 2**64:
    raise InvalidMessage(f'`served` must be a round number, got {number!r:.40}.')
  return number


def parse_head(first: bytes) -> dict[str, Any]:
  """The head in the first frame of a message.

  Raises:
    InvalidMessage: If there is none.
  """
  try:
    end = _end(first)
    if end > _HEAD_BYTES:
      raise ValueError('too long')
    head = json.loads(first[:end])
    if not isinstance(head, dict):
      raise ValueError('no object')
  except (ValueError, RecursionError) as error:
    raise InvalidMessage(
      f'The head of a message was expected, got something else: {error}.'
    ) from None
  return head


def _end(first: bytes) -> int:
  end = first.find(b'\n', 0, _HEAD_BYTES + 1)
  return len(first) if end < 0 else end


class Assembly:
  """One message as it comes in, of at most `limit` bytes beside its head.

  Args:
    first: The first frame.
    limit: Most bytes that it may announce.

  Attributes:
    head: The head.
    size: Bytes that it announced.

  Raises:
    InvalidMessage: If the frame announces no such message.
  """

  def __init__(self, first: bytes, limit: int):
    self.head = parse_head(first)
    size = self.head.get('bytes')
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= limit:
      raise InvalidMessage(
        f'A message of at most {limit} bytes was expected; {size!r} were announced.'
      )
    self.size = size
    # Grows with what comes: announcing costs the receiver nothing.
    self._payload = bytearray()
    chunk = first[_end(first) + 1 :]
    if chunk or size:
      self.add(chunk)

  @property
  def complete(self) -> bool:
    """Whether all that was announced has come."""
    return len(self._payload) == self.size

  def add(self, chunk: bytes) -> None:
    """Takes the next frame.

    Raises:
      InvalidMessage: If it is more than was announced, or a part of a chunk.
    """
    expected = min(CHUNK_BYTES, self.size - len(self._payload))
    # One size, so that a message takes no more turns than its bytes need.
    if not chunk or len(chunk) != expected:
      raise InvalidMessage(
        f'A message of {counted(self.size, "byte")} was announced; a chunk has '
        f'{counted(len(chunk), "byte")} instead of {expected}.'
      )
    self._payload += chunk

  def payload(self) -> bytes:
    """What was announced.

    Raises:
      InvalidMessage: If less than that came.
    """
    if not self.complete:
      raise InvalidMessage(
        f'A message of {counted(self.size, "byte")} was announced; it ended after '
        f'{len(self._payload)}.'
      )
    return bytes(self._payload)


def gather(stream: Iterable[bytes], limit: int) -> tuple[dict[str, Any], bytes]:
  """Reads one message of at most `limit` bytes next to its head.

  Raises:
    InvalidMessage: If the stream holds anything else. What came is let go.
  """
  stream = iter(stream)
  message = Assembly(next(stream, b''), limit)
  for chunk in stream:
    message.add(chunk)
  return message.head, message.payload()


def largest_message(params: secagg.SessionParams, clients: int) -> int:
  """A bound on the bytes of any message of a session, upward or downward."""
  vectors = sum(8 * leaf.bits * (-(-leaf.size // 64) + 1) + 16 for leaf in params.leaves)
  sizes = params.layout
  # A neighbour's keys with id and signature; or its share, commitment and offer, and one answer.
  keys = sizes.advertisement_bytes + 4 + 64
  shares = sizes.sealed_bytes + sizes.contribution_bytes + sizes.offer_bytes
  return 2**11 + (max(keys, shares) + 64) * clients + vectors


def server(join: Any, exchange: Any, connections: int) -> grpc.aio.Server:
  """A gRPC server with the two methods on the running event loop; both stream both ways.

  A client sends one frame to join. That its call reaches `join` before the frame is read lets the
  server count it first.

  Args:
    join: Coroutine function of `Join`.
    exchange: Coroutine function of `Exchange`.
    connections: Most open connections.
  """
  options = (
    *_SERVER_OPTIONS,
    ('grpc.max_allowed_incoming_connections', connections),
    ('grpc.server_handshake_timeout_ms', int(1000 * limits.HELLO_SECONDS)),
    ('grpc.max_concurrent_streams', limits.CALLS),
  )
  made = grpc.aio.server(options=options)
  handlers = {
    JOIN: grpc.stream_stream_rpc_method_handler(join),
    EXCHANGE: grpc.stream_stream_rpc_method_handler(exchange),
  }
  made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
  return made

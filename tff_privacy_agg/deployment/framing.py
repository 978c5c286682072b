"""How a message travels: a small head, then its bytes in chunks, the total announced first.

One gRPC service of generic handlers over raw bytes: no protobuf, no generated code.

    Join      client: head                     server: head, parameters and broadcast
    Exchange  client: head, round message      server: head, next message, once the round closes

A head is JSON with `bytes`, the length of what follows. The receiver compares it with its own
limit before it allocates anything, and takes not one byte more.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import grpc

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import InvalidMessage

SERVICE = 'tff_privacy_agg.SecureAggregation'
JOIN, EXCHANGE = 'Join', 'Exchange'
FORMAT = 'tff_privacy_agg/runtime/v1'
CHUNK_BYTES = 2**18
_HEAD_BYTES = 2**16
# A chunk and its frame, or a head; nothing larger is read off the wire.
_LARGEST_FRAME = CHUNK_BYTES + 2**12

_OPTIONS = (
  ('grpc.max_receive_message_length', _LARGEST_FRAME),
  ('grpc.max_send_message_length', _LARGEST_FRAME),
  # A peer that vanished without closing its connection is noticed.
  ('grpc.keepalive_time_ms', 20_000),
  ('grpc.keepalive_timeout_ms', 10_000),
  ('grpc.http2.max_pings_without_data', 0),
  ('grpc.http2.min_ping_interval_without_data_ms', 10_000),
)
# Two servers of one address would share its clients between them.
_SERVER_OPTIONS = (*_OPTIONS, ('grpc.so_reuseport', 0))
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
  yield json.dumps({**head, 'bytes': len(payload)}, sort_keys=True).encode('ascii')
  view = memoryview(payload)
  for start in range(0, len(view), CHUNK_BYTES):
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


def parse_head(data: bytes) -> dict[str, Any]:
  """The head of a message.

  Raises:
    InvalidMessage: If the bytes are none.
  """
  try:
    if len(data) > _HEAD_BYTES:
      raise ValueError('too long')
    head = json.loads(data)
    if not isinstance(head, dict):
      raise ValueError('no object')
  except (ValueError, RecursionError) as error:
    raise InvalidMessage(
      f'The head of a message was expected, got something else: {error}.'
    ) from None
  return head


def gather(stream: Iterable[bytes], limit: int) -> tuple[dict[str, Any], bytes]:
  """Reads one message of at most `limit` bytes beside its head.

  Raises:
    InvalidMessage: If the stream holds anything else. What came is let go.
  """
  stream = iter(stream)
  head = parse_head(next(stream, b''))
  size = head.get('bytes')
  if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= limit:
    raise InvalidMessage(
      f'A message of at most {limit} bytes was expected; {size!r} were announced.'
    )
  payload, filled = bytearray(size), 0
  for chunk in stream:
    if not chunk or filled + len(chunk) > size:
      raise InvalidMessage(
        f'A message of {size} bytes was announced; it has more, or empty chunks.'
      )
    payload[filled : filled + len(chunk)] = chunk
    filled += len(chunk)
  if filled != size:
    raise InvalidMessage(f'A message of {size} bytes was announced; it ended after {filled}.')
  return head, bytes(payload)


def largest_message(params: secagg.SessionParams, clients: int) -> int:
  """A bound on the bytes of any message of a session, upward or downward."""
  vectors = sum(8 * leaf.bits * (-(-leaf.size // 64) + 1) + 16 for leaf in params.leaves)
  sizes = params.layout
  # A neighbour's keys with id and signature; or its share, commitment and offer, and one answer.
  keys = sizes.advertisement_bytes + 4 + 64
  shares = sizes.sealed_bytes + sizes.contribution_bytes + sizes.offer_bytes
  return 2**11 + (max(keys, shares) + 64) * clients + vectors


def server(executor: Any, join: Any, exchange: Any) -> grpc.Server:
  """A gRPC server with the two methods; `Join` streams down, `Exchange` both ways."""
  made = grpc.server(executor, options=_SERVER_OPTIONS)
  handlers = {
    JOIN: grpc.unary_stream_rpc_method_handler(join),
    EXCHANGE: grpc.stream_stream_rpc_method_handler(exchange),
  }
  made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
  return made

"""A client's connection to its server: the two calls, repeated while no server is there."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import framing
from tff_privacy_agg.deployment.events import Events, one_line
from tff_privacy_agg.deployment.keys.tls import Expiry
from tff_privacy_agg.errors import RuntimeUnavailableError

REASON_CHARACTERS = 300
_JOIN_SECONDS = 60.0
# CANCELLED: the server has ended all calls at once. DEADLINE_EXCEEDED: it is frozen, or what
# holds the connection is not the server any more. RESOURCE_EXHAUSTED: calls of lost connections
# still count.
_NO_SERVER = (
  grpc.StatusCode.UNAVAILABLE,
  grpc.StatusCode.CANCELLED,
  grpc.StatusCode.DEADLINE_EXCEEDED,
  grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Connection:
  """The calls of one client to one server.

  Args:
    address: `host:port` of the server.
    credentials: Mutual TLS.
    name: The client's.
    events: Takes what happens.
    expiry: When the client's certificate ends, if that is known.
  """

  def __init__(
    self,
    address: str,
    credentials: grpc.ChannelCredentials,
    name: str,
    events: Events,
    expiry: Expiry | None = None,
  ):
    self._address, self._credentials = address, credentials
    self._name, self._events, self._expiry = name, events, expiry
    self._connect()

  def close(self) -> None:
    """Closes the connection."""
    self._channel.close()

  def _connect(self) -> None:
    self._channel = grpc.secure_channel(self._address, self._credentials, framing.CLIENT_OPTIONS)
    path = f'/{framing.SERVICE}/'
    self._join_call = self._channel.unary_stream(path + framing.JOIN)
    # The same call on the wire; a stream costs the client a thread.
    self._exchange_one = self._channel.unary_stream(path + framing.EXCHANGE)
    self._exchange_call = self._channel.stream_stream(path + framing.EXCHANGE)

  def join(self, request: bytes, limit: int) -> tuple[dict[str, Any], bytes]:
    """The server's answer to a client that joins, of at most so many bytes."""
    if self._expiry is not None:
      self._expiry.tell(self._events)
    return framing.gather(self._join_call(request, timeout=_JOIN_SECONDS), limit)

  def send(
    self, head: Mapping[str, Any], message: bytes, seconds: float, limit: int
  ) -> tuple[dict[str, Any], bytes]:
    """Sends a message, and waits so long for the answer, of at most so many bytes."""
    frames = framing.frames(head, message)
    if len(message) <= framing.CHUNK_BYTES:
      return framing.gather(self._exchange_one(next(frames), timeout=seconds), limit)
    return framing.gather(self._exchange_call(frames, timeout=seconds), limit)

  def patiently(self, call: Callable[[], Any], seconds: float, what: str) -> Any:
    """Repeats a call that finds no server, until `seconds` have passed since it was lost."""
    lost = None
    while True:
      try:
        return call()
      except grpc.RpcError as error:
        code, details = error.code(), one_line(str(error.details())[:REASON_CHARACTERS])
        if code is grpc.StatusCode.PERMISSION_DENIED:
          raise RuntimeUnavailableError(
            f'Client {self._name!r} asked {self._address} {what}; the server does not take '
            f'its certificate: {details}. Use the certificate of a client in the roster.'
          ) from None
        now = time.monotonic()
        waited = now - (lost or now)
        if code not in _NO_SERVER or waited > seconds:
          reason = self._expired(details) or 'it is not there, or does not take this certificate'
          raise secagg.RoundTimeout(
            f'Client {self._name!r} waited {waited:.0f} s for {self._address} {what}; {reason} '
            f'({code.name}: {details}).'
          ) from None
        if lost is None:
          lost = now
          reason = self._expired(details) or f'no server at {self._address}'
          self._events('waiting', reason=f'{reason}: {details}')
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
          self._channel.close()
          self._connect()
      self._await_server(seconds - waited)

  def _expired(self, details: str) -> str:
    """Whose certificate has expired, if one has; of the client's own, gRPC says `Socket closed`."""
    if self._expiry is not None and self._expiry.passed:
      return f'{self._expiry.path} expired at {self._expiry}; get a new certificate'
    return "the server's certificate has expired" if 'certificate has expired' in details else ''

  def _await_server(self, seconds: float) -> None:
    """Waits for a connection; sleeping would not do, gRPC connects only while it is asked to."""
    time.sleep(0.1)
    ready = grpc.channel_ready_future(self._channel)
    try:
      ready.result(timeout=max(0.1, seconds))
    except grpc.FutureTimeoutError:
      ready.cancel()

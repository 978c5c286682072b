"""What a server tells a monitoring system: counts and the price so far, as Prometheus text.

Nothing here is more than the server's events and its ledger say: no name of a client, no value.
Whoever reaches the port can read it; it is on the address that was asked for and no other.
"""

import asyncio
import collections
from collections.abc import Iterator, Mapping
from typing import Any

from tff_privacy_agg.deployment import event_loop
from tff_privacy_agg.deployment.config_sections import check_address
from tff_privacy_agg.deployment.coordinator import Coordinator
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.ledger import PrivacyLedger

_SECONDS = 5.0
_REQUESTS = 16
_REQUEST_BYTES = 2**13
_PREFIX = 'tff_privacy_agg_'
# Event: why a client is left out, for a round or for good.
_EXCLUSIONS = {
  'strike': 'proven',
  'suspended': 'shared blame',
  'declined': 'declined',
  'left out': 'round number',
}
_OUTCOMES = {'result': 'sum', 'aborted': 'no sum'}


class MeasuredEvents(Events):
  """Counts what the events of a server say, and passes them on.

  Args:
    events: Takes them.
    rounds: Rounds of the training in all.

  Attributes:
    ledger: The ledger of the training, once it is open; None where there is none.
    coordinator: The coordinator, once it listens.

  Raises:
    RuntimeUnavailableError: If prometheus_client is not installed.
  """

  def __init__(self, events: Events, rounds: int):
    try:
      import prometheus_client
      from prometheus_client import metrics_core
    except ImportError:
      raise RuntimeUnavailableError(
        '`metrics` needs prometheus_client, which is not installed. Run `make env-prometheus` in a '
        'clone of the project, or `pip install --no-deps --require-hashes -r '
        'requirements/prometheus.txt`.'
      ) from None
    super().__init__()
    self.ledger: PrivacyLedger | None = None
    self.coordinator: Coordinator | None = None
    self.as_json, self._events, self._rounds = events.as_json, events, rounds
    self._library, self._families = prometheus_client, metrics_core
    self._exclusions = collections.Counter(dict.fromkeys(_EXCLUSIONS.values(), 0))
    self._outcomes = collections.Counter(dict.fromkeys(_OUTCOMES.values(), 0))
    self._last: Mapping[str, float] = {}
    self._price: Mapping[str, float] = {}
    self._registry = prometheus_client.CollectorRegistry()
    self._registry.register(self)

  def __call__(self, event: str, **fields: Any) -> None:
    """Writes an event."""
    self._events(event, **fields)
    if event in _EXCLUSIONS:
      self._exclusions[_EXCLUSIONS[event]] += 1
    if event in _OUTCOMES:
      self._outcomes[_OUTCOMES[event]] += 1
    if event == 'session':
      self.reprice()  # The session has just been charged.

  def trained(self, round_number: int, survivors: float) -> None:
    """Takes the end of a round."""
    self._last = {'round': round_number, 'survivors': survivors}
    self.reprice()

  def reprice(self) -> None:
    """Reads the ledger, in the thread that writes it."""
    ledger = self.ledger
    if ledger is None:
      return
    price = {view: ledger.epsilon(view) for view in ('server', 'release')}
    if (budget := ledger.budget) is not None:
      price['left'] = max(0.0, budget.epsilon - ledger.epsilon(budget.view, budget.delta))
    self._price = {**price, 'delta': ledger.facts.delta}

  def collect(self) -> Iterator[Any]:
    """The families of metrics, for prometheus_client."""
    last, price = self._last, self._price
    yield self._gauge('rounds_planned', 'Rounds of the training in all.', self._rounds)
    if last:
      yield self._gauge('round', 'Last round that has ended.', last['round'])
      yield self._gauge('survivors', 'Clients in the sum of the last round.', last['survivors'])
    if price:
      epsilon = self._families.GaugeMetricFamily(
        f'{_PREFIX}epsilon', 'Epsilon of all that was charged so far.', labels=['view']
      )
      for view in ('server', 'release'):
        epsilon.add_metric([view], price[view])
      yield epsilon
      yield self._gauge('delta', 'The delta of epsilon.', price['delta'])
    if 'left' in price:
      text = "The budget's epsilon less what is spent at its delta."
      yield self._gauge('budget_epsilon_left', text, price['left'])
    yield self._counter('sessions', 'Sessions of the protocol that have ended.', self._outcomes)
    yield self._counter('exclusions', 'Times that a client was left out.', self._exclusions)
    if self.coordinator is not None:
      if (expiry := self.coordinator.expiry) is not None:
        text = "When the server's certificate ends, in seconds since 1970."
        name = 'certificate_expiry_timestamp_seconds'
        yield self._gauge(name, text, expiry.at.timestamp())
      text = 'Bytes of messages, without those of TLS and HTTP/2.'
      yield self._counter('bytes', text, self.coordinator.traffic)
      waiting = self.coordinator.waiting
      yield self._gauge('clients_waiting', 'Clients that wait for a session.', waiting)

  def _gauge(self, name: str, text: str, value: float) -> Any:
    return self._families.GaugeMetricFamily(f'{_PREFIX}{name}', text, value=value)

  def _counter(self, name: str, text: str, counts: Mapping[str, int]) -> Any:
    family = self._families.CounterMetricFamily(f'{_PREFIX}{name}', text, labels=['kind'])
    for kind, count in sorted(counts.items()):
      family.add_metric([kind], count)
    return family

  def page(self) -> tuple[str, bytes]:
    """What a monitoring system reads: (content type, text)."""
    return self._library.CONTENT_TYPE_LATEST, self._library.generate_latest(self._registry)


class MetricsPort:
  """Serves `GET /metrics` over HTTP, on one address.

  A few requests at a time, each for a few seconds: whoever holds them all keeps the monitoring
  out, and takes nothing from the training.

  Args:
    address: `host:port`; port 0 takes a free one, see `address`.
    measured: What to tell.

  Attributes:
    address: Where it listens, with the port that was taken.

  Raises:
    ConfigurationError: If the address is none.
    RuntimeUnavailableError: If it cannot be listened on.
  """

  def __init__(self, address: str, measured: MeasuredEvents):
    self._measured, self._open = measured, 0
    host, port = check_address('metrics', address)
    self._server = event_loop.call(self._listen(host, port))
    self.address = f'{host}:{self._server.sockets[0].getsockname()[1]}'

  def close(self) -> None:
    """Stops listening."""
    event_loop.call(self._close())

  async def _close(self) -> None:
    self._server.close()

  async def _listen(self, host: str, port: int) -> asyncio.Server:
    try:
      return await asyncio.start_server(
        self._answer, host.strip('[]'), port, limit=_REQUEST_BYTES, backlog=_REQUESTS
      )
    except OSError as error:
      raise RuntimeUnavailableError(
        f'`metrics` is {host}:{port}, which cannot be listened on ({error.strerror or error}). '
        'Choose another address, or end the program that uses it.'
      ) from None

  async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    self._open += 1
    try:
      if self._open <= _REQUESTS:
        async with asyncio.timeout(_SECONDS):
          head = await reader.readuntil(b'\r\n\r\n')
          writer.write(self._response(head.split(b'\r\n', 1)[0].split()))
          await writer.drain()
      writer.close()
    except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
      pass  # Not a request, or a peer that does not read or is gone.
    finally:
      self._open -= 1
      if not writer.is_closing():
        writer.transport.abort()

  def _response(self, request: list[bytes]) -> bytes:
    status, kind, body = '404 Not Found', 'text/plain', b'Metrics are at /metrics.\n'
    if request[:1] != [b'GET']:
      status, body = '405 Method Not Allowed', b'Only GET is answered.\n'
    elif len(request) > 1 and request[1].split(b'?')[0] == b'/metrics':
      status, (kind, body) = '200 OK', self._measured.page()
    head = f'HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n'
    return f'{head}Connection: close\r\n\r\n'.encode('ascii') + body

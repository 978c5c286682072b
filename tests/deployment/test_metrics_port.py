"""`serve --metrics`: what the port tells, to whom, and what it costs to hold it.

`make test-prometheus` runs these; without prometheus_client all but the first are skipped.
"""

import datetime
import os
import socket
import sys
import urllib.error
import urllib.request

import deployments
import pytest
import small_facts

from tff_privacy_agg import accounting, cli, ledger
from tff_privacy_agg.deployment import metrics_port
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError


@pytest.fixture
def library():
  return pytest.importorskip('prometheus_client')


@pytest.fixture
def measured(library):
  return metrics_port.MeasuredEvents(deployments.Log(), rounds=7)


@pytest.fixture
def port(measured):
  opened = metrics_port.MetricsPort('127.0.0.1:0', measured)
  yield opened
  opened.close()


def page_of(address, path='/metrics', **changed):
  with urllib.request.urlopen(
    urllib.request.Request(f'http://{address}{path}', **changed), timeout=10
  ) as answer:
    assert answer.headers['Content-Type'].startswith('text/plain')
    return answer.read().decode()


def values(page):
  from prometheus_client import parser

  prefix = 'tff_privacy_agg_'
  found = {}
  for family in parser.text_string_to_metric_families(page):
    for sample in family.samples:
      assert sample.name.startswith(prefix)
      found[sample.name.removeprefix(prefix), *sample.labels.values()] = sample.value
  return found


def test_a_missing_library_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'prometheus_client', None)
  with pytest.raises(RuntimeUnavailableError, match='make env-prometheus'):
    metrics_port.MeasuredEvents(deployments.Log(), rounds=1)


def test_events_are_counted_and_passed_on_without_names(measured, port):
  for event in ('strike', 'strike', 'suspended', 'declined', 'left out', 'result', 'aborted'):
    measured(event, name='north', reason='east and west')
  measured.trained(3, 12)
  assert [event for event, _ in measured._events.seen][:2] == ['strike', 'strike']
  page = page_of(port.address)
  assert values(page) == {
    ('rounds_planned',): 7,
    ('round',): 3,
    ('survivors',): 12,
    ('sessions_total', 'sum'): 1,
    ('sessions_total', 'no sum'): 1,
    ('exclusions_total', 'proven'): 2,
    ('exclusions_total', 'shared blame'): 1,
    ('exclusions_total', 'declined'): 1,
    ('exclusions_total', 'round number'): 1,
  }
  assert not any(word in page for word in ('north', 'east', 'west'))


def test_the_price_is_the_ledgers_when_a_session_begins(measured, port, tmp_path):
  facts = small_facts.facts_of(clients=5, minimum=3, threshold=3)
  budget = accounting.Budget(epsilon=30.0, delta=facts.delta)
  with ledger.PrivacyLedger(tmp_path / 'ledger.jsonl', facts, budget=budget) as record:
    measured.ledger = record
    record.charge(1, planned_survivors=5)
    measured('session', round=1, cohort='north')
    found = values(page_of(port.address))
    assert found['epsilon', 'server'] == record.epsilon('server') > 0
    assert found['epsilon', 'release'] == record.epsilon('release')
    assert found['budget_epsilon_left',] == 30.0 - record.epsilon('server') > 0
    assert found['delta',] == facts.delta


def test_other_requests_are_refused(port):
  for path, changed, code in (
    ('/', {}, 404),
    ('/metrics/x', {}, 404),
    ('/metrics', {'data': b'x'}, 405),
  ):
    with pytest.raises(urllib.error.HTTPError) as raised:
      page_of(port.address, path, **changed)
    raised.value.close()
    assert raised.value.code == code


@pytest.mark.parametrize('sent', [b'', b'GET /metrics', b'x' * 2**16, b'\0\r\n\r\n'])
def test_a_peer_that_sends_no_request_is_cut_off(sent, port, monkeypatch):
  monkeypatch.setattr(metrics_port, '_SECONDS', 0.2)
  host, _, number = port.address.rpartition(':')
  with socket.create_connection((host, int(number)), 10) as peer:
    try:
      peer.sendall(sent)
      answer = peer.recv(2**16)
    except ConnectionError:
      answer = b''
  assert answer[:12] in (b'', b'HTTP/1.1 405')
  assert 'rounds_planned' in page_of(port.address)


def test_peers_that_hold_all_requests_are_closed_beyond(port):
  host, _, number = port.address.rpartition(':')
  peers = []
  try:
    for _ in range(metrics_port._REQUESTS + 4):
      peers.append(socket.create_connection((host, int(number)), 10))
    for beyond in peers[metrics_port._REQUESTS :]:
      assert beyond.recv(1) == b''
  finally:
    for peer in peers:
      peer.close()


def test_it_listens_where_it_was_told_to_only(measured):
  test_open_ports = pytest.importorskip('test_open_ports')
  before = test_open_ports.listening([os.getpid()])
  port = metrics_port.MetricsPort('127.0.0.1:0', measured)
  number = int(port.address.rpartition(':')[2])
  assert test_open_ports.listening([os.getpid()]) - before == {f'0100007F:{number:04X}'}
  with pytest.raises(RuntimeUnavailableError, match='cannot be listened on'):
    metrics_port.MetricsPort(port.address, measured)
  port.close()
  assert test_open_ports.listening([os.getpid()]) == before
  with pytest.raises(ConfigurationError, match='`metrics` must be `host:port`'):
    metrics_port.MetricsPort('9100', measured)


@pytest.mark.integration
def test_a_training_tells_what_its_ledger_says_and_opens_two_ports(simulation, library, tmp_path):
  import test_open_ports
  import tiny_fleet

  process = tiny_fleet.process()
  address, metrics = tiny_fleet.free_address(), tiny_fleet.free_address()
  before = test_open_ports.listening([os.getpid()])
  pages, opened = [], []

  def evaluate(weights):
    pages.append(values(page_of(metrics)))
    opened.append(test_open_ports.listening([os.getpid()]) - before)
    return {'loss': 0.0}

  with tiny_fleet.clients(simulation, tmp_path, address, process):
    result, log = tiny_fleet.serve(
      process, 2, tmp_path, address, evaluate=evaluate, metrics=metrics
    )
  assert result.rounds_done == 2
  assert log.of('metrics') == [{'address': metrics}]
  (told,) = log.of('listening')
  ends = datetime.datetime.fromisoformat(told['certificate_expires']).timestamp()
  assert pages[1]['certificate_expiry_timestamp_seconds',] == ends
  wanted = {f'0100007F:{int(one.rpartition(":")[2]):04X}' for one in (address, metrics)}
  assert opened == [wanted, wanted]
  # While round 2 is measured, round 1 has ended and both are charged.
  assert pages[1]['round',] == 1
  assert pages[1]['survivors',] == 3
  assert pages[1]['sessions_total', 'sum'] == 2
  assert pages[1]['epsilon', 'server'] == pytest.approx(result.metrics['ledger/epsilon'])
  assert pages[1]['epsilon', 'server'] > pages[0]['epsilon', 'server']
  assert pages[1]['bytes_total', 'received'] > 10_000
  assert pages[1]['bytes_total', 'sent'] > pages[0]['bytes_total', 'sent'] > 0
  with pytest.raises(urllib.error.URLError):
    page_of(metrics)


def test_a_bad_address_is_refused_before_anything_else(capsys):
  assert cli.main(['serve', '--config', 'none.toml', '--metrics', '127.0.0.1:70000']) == 2
  assert '`--metrics` must be `host:port`' in capsys.readouterr().err

"""What parties send each other and keep on disk, without a server: frames, arrays, keys, round books."""

import contextlib
import dataclasses
import io
import json
import os
import tracemalloc

import deployments
import numpy as np
import pytest

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment import arrays, framing
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.deployment.keys.roster import Roster
from tff_privacy_agg.deployment.round_numbers import RoundBook
from tff_privacy_agg.deployment.standing import Standing
from tff_privacy_agg.errors import ConfigurationError


def test_frames_are_bounded():
  params = secagg.SessionParams(task='t', round_number=1, leaves=deployments.LEAVES)
  limit = framing.largest_message(params, 5)
  assert limit < 2**14
  head, payload = framing.gather(framing.frames({'a': 1}, bytes(1000)), limit)
  assert head == {'a': 1, 'bytes': 1000}
  assert payload == bytes(1000)
  for stream in (
    framing.frames({}, bytes(limit + 1)),
    [],
    [b'[]'],
    [b'{"bytes": 5}\n123'],
    [b'{"bytes": 5}\n123456'],
    [b'{"bytes": 5}\n12345', b'6'],
    [b'{"bytes": 5}\n', b'', b'12345'],
    [b'{"bytes": 5}', b'12345'],
    [b'{"bytes": -1}\n'],
    [b'{"bytes": true}\n1'],
    [b'{"bytes": 0.0}\n'],
    [b' ' * 2**16 + b'{"bytes": 0}\n'],
    [b'\xff'],
    [b'[' * 60_000],
    # A message takes no more turns of the server than its bytes need.
    [b'{"bytes": 5}\n123', b'45'],
  ):
    with pytest.raises(secagg.InvalidMessage):
      framing.gather(stream, limit)


def test_a_message_that_is_announced_costs_nothing_until_it_comes():
  tracemalloc.start()
  try:
    message = framing.Assembly(b'{"bytes": 1000000000}\n' + bytes(framing.CHUNK_BYTES), 2**30)
    assert tracemalloc.get_traced_memory()[1] < 8 * framing.CHUNK_BYTES
    assert not message.complete
  finally:
    tracemalloc.stop()


def test_what_a_client_sends_fits_the_bound():
  rows = [(1, 3), (65, 62), (10**5, 20)]
  for count, bits in rows:
    leaves = [secagg.Leaf('x', (count,), bits)]
    for mode, verify in (('semi_honest', None), ('authenticated', 'mac')):
      params = secagg.SessionParams(
        task='t', round_number=1, leaves=leaves, mode=mode, verify=verify, graph='complete'
      )
      cost = secagg.communication_cost(
        100, count, bits, mode=mode, verify_mode=verify, graph='complete'
      )
      assert max(cost.up + cost.down) < framing.largest_message(params, 100)


@pytest.mark.parametrize(
  'text', ['<f3', '|O', '<U4', '<f16', '>f8', '<M8', '|V4', '<b1', 'f8', '|S-1']
)
def test_only_listed_types_of_arrays_are_read(text):
  head = json.dumps([[text, [1]]]).encode()
  with pytest.raises(secagg.InvalidMessage, match='an array of'):
    arrays.decode(len(head).to_bytes(4, 'little') + head + bytes(64))


def test_arrays_come_back_from_bytes_as_they_were():
  values = [
    np.arange(6, dtype='>i4').reshape(2, 3),
    np.float64(2),
    np.zeros([0, 4]),
    np.bytes_('x'),
  ]
  data = arrays.encode(values)
  for one, other in zip(arrays.decode(data), values, strict=True):
    np.testing.assert_array_equal(one, other)
  assert secagg.context_digest(arrays.decode(data)) == secagg.context_digest(values)
  head = json.dumps([[[['a', '<i4'], ['b', '<i4']], [1]]]).encode()
  record = len(head).to_bytes(4, 'little') + head + bytes(8)
  for bad in (data[:-1], data + b'x', b'', b'\xff' * 20, arrays.encode([])[:2], record):
    with pytest.raises(secagg.InvalidMessage):
      arrays.decode(bad)
  with pytest.raises(secagg.InvalidMessage):
    arrays.encode([np.array(['text', None], object)])


def test_keys_are_kept_from_others(tmp_path):
  keys = make_keys(tmp_path / 'keys', deployments.NAMES)
  for path in keys.iterdir():
    private = path.suffix in ('.key', '.identity')
    assert path.stat().st_mode & 0o777 == (0o600 if private else 0o644), path
  assert not (keys / 'ca.key').exists()
  with pytest.raises(ConfigurationError, match='never overwritten'):
    make_keys(keys, ['a'])
  copy = tmp_path / 'copy.identity'
  copy.write_bytes((keys / 'north.identity').read_bytes())
  os.chmod(copy, 0o644)
  with pytest.raises(ConfigurationError, match='chmod 600'):
    tls.read_identity(str(copy))
  with pytest.raises(ConfigurationError, match='PKCS8'):
    tls.read_identity(str(keys / 'north.key'))


@pytest.mark.parametrize(
  'arguments',
  [
    {'days': 10**9},
    {'days': 4_000_000},
    {'hosts': ['bücher.example']},
    {'hosts': ['']},
    {'hosts': ['a b']},
    {'hosts': []},
    {'hosts': 'localhost'},
  ],
)
def test_days_and_hosts_are_checked_before_a_file_is_written(arguments, tmp_path):
  with pytest.raises(ConfigurationError, match=r'`(days|hosts)`'):
    make_keys(tmp_path / 'keys', ['a'], **arguments)
  assert not (tmp_path / 'keys').exists()


def test_names_and_addresses_are_hosts(tmp_path):
  hosts = ['localhost', '::1', '10.0.0.7', '*.example.org', 'xn--bcher-kva.example', 'a_b']
  assert make_keys(tmp_path / 'keys', ['a'], hosts=hosts).exists()


@pytest.mark.parametrize('credentials', [tls.server_credentials, tls.channel_credentials])
@pytest.mark.parametrize('which', range(3))
@pytest.mark.parametrize('content', [b'', b'garbage', None])
def test_what_is_no_key_or_certificate_is_refused(credentials, which, content, tmp_path):
  keys = make_keys(tmp_path / 'keys', ['north', 'south'])
  files = [keys / 'ca.pem', keys / 'north.pem', keys / 'north.key']
  credentials(*map(str, files))
  # The last is well formed: a private key for a certificate, or the certificate of another.
  other = [keys / 'north.key', keys / 'south.pem', keys / 'south.key'][which]
  files[which].write_bytes(other.read_bytes() if content is None else content)
  with pytest.raises(ConfigurationError, match=files[which].name):
    credentials(*map(str, files))


@pytest.mark.parametrize('names', [[], ['a', 'a'], ['server'], ['a b'], ['../x'], ['é']])
def test_names_of_clients_are_checked(names, tmp_path):
  with pytest.raises(ConfigurationError, match='clients'):
    make_keys(tmp_path / 'keys', names)
  assert not (tmp_path / 'keys').exists()


def test_a_round_book_only_grows(tmp_path):
  file = tmp_path / 'deep' / 'book.json'
  book = RoundBook(file)
  assert book.last('a') is None
  assert [book.draw('a'), book.draw('a')] == [1, 2]
  book.record('a', 1)
  assert RoundBook(file).last('a') == 2
  assert [path.name for path in file.parent.iterdir()] == ['book.json']
  file.write_text('[]')
  with pytest.raises(ConfigurationError, match='Restore it'):
    RoundBook(file)


@pytest.mark.parametrize('number', ['1.5', '-1', 'true', '"7"', '1e400', 'NaN', str(2**64), '{}'])
def test_a_round_book_takes_numbers_of_rounds_only(number, tmp_path):
  file = tmp_path / 'book.json'
  file.write_text(f'{{"a": {number}}}')
  with pytest.raises(ConfigurationError, match='Restore it'):
    RoundBook(file)


@pytest.mark.parametrize('read', [RoundBook, lambda file: Standing(path=file), Roster.read])
def test_files_that_nest_without_end_are_refused(read, tmp_path):
  file = tmp_path / 'deep.json'
  file.write_text('{"a":' * 100_000)
  with pytest.raises(ConfigurationError):
    read(file)


KEY, OTHER, SERVER = (f'{number:064x}' for number in range(3))


@pytest.mark.parametrize(
  'clients',
  [
    f'"a": {{"id": 0.5, "key": "{KEY}"}}',
    f'"a": {{"id": true, "key": "{KEY}"}}',
    f'"a": {{"id": -1, "key": "{KEY}"}}',
    f'"a": {{"id": {2**32}, "key": "{KEY}"}}',
    f'"a": {{"id": 1e400, "key": "{KEY}"}}',
    '"a": {"id": 0, "key": "00"}',
    f'"a": {{"id": 0, "key": "{KEY}"}}, "a": {{"id": 1, "key": "{OTHER}"}}',
    f'"a": {{"id": 0, "key": "{KEY}"}}, "b": {{"id": 0, "key": "{OTHER}"}}',
    f'"a": {{"id": 0, "key": "{KEY}"}}, "b": {{"id": 1, "key": "{KEY}"}}',
    f'"a": {{"id": 0, "key": "{SERVER}"}}',
  ],
)
def test_a_roster_names_each_client_once_with_its_own_key(clients, tmp_path):
  file = tmp_path / 'roster.json'
  file.write_text(f'{{"server": "{SERVER}", "clients": {{{clients}}}}}')
  with pytest.raises(ConfigurationError, match='roster'):
    Roster.read(file)


def test_a_roster_is_read(tmp_path):
  file = tmp_path / 'roster.json'
  file.write_text(f'{{"server": "{SERVER}", "clients": {{"a": {{"id": 7, "key": "{KEY}"}}}}}}')
  assert Roster.read(file).ids == {'a': 7}


def test_no_line_of_a_log_is_anothers():
  lines = io.StringIO()
  told = Events(lines, who='server')
  told('declined', name='north', reason='no\n12:00:00 server  result \x1b[2J\u202e')
  assert lines.getvalue().endswith('reason no?12:00:00 server  result ?[2J?\n')
  assert lines.getvalue().count('\n') == 1


def test_a_log_that_cannot_be_written_ends_nothing():
  with open('/dev/full', 'w') as full:
    Events(full, who='server')('listening')
    with pytest.raises(OSError, match='No space'):
      full.flush()
    with contextlib.suppress(OSError):
      full.close()


def test_deadlines_are_positive():
  for wrong in ({'round': 0}, {'round': 1e6}, {'work': 1e6}):
    with pytest.raises(ConfigurationError):
      deployments.Deadlines(**wrong)
  assert deployments.Deadlines(join=1e6, work=7 * 86400)
  assert dataclasses.asdict(deployments.Deadlines()) == {
    'join': 60.0,
    'work': 600.0,
    'round': 30.0,
  }
  assert deployments.SCHEMA

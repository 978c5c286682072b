"""Configuration files, entry points, events, and what the commands say of bad ones."""

import dataclasses
import io
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import tff_privacy_agg
from tff_privacy_agg import cli
from tff_privacy_agg._entry_points import entry_point
from tff_privacy_agg.deployment import config
from tff_privacy_agg.deployment.events import Events
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.deployment.keys.roster import Roster
from tff_privacy_agg.errors import ConfigurationError

KEYS = """
[keys]
ca = "keys/ca.pem"
certificate = "keys/north.pem"
key = "keys/north.key"
identity = "keys/north.identity"
roster = "keys/roster.json"
"""
CLIENT = """
[run]
task = "t"
directory = "state"
[process]
source = "our_code:process"
[data]
source = "our_code:data"
[client]
name = "north"
server = "127.0.0.1:1"
"""
SERVER = """
[run]
task = "t"
rounds = 3
directory = "run"
[process]
source = "our_code:process"
[server]
listen = "127.0.0.1:0"
"""


@pytest.fixture
def written(tmp_path):
  def write(text, name='file.toml'):
    (tmp_path / name).write_text(text)
    return tmp_path / name

  return write


def test_a_client_file_gives_the_arguments_of_a_client(written, tmp_path):
  found = config.read(
    written(CLIENT + KEYS + '[policy]\nminimum_clients = 4\n'), config.ClientConfig
  )
  assert found.client.name == 'north'
  assert found.client.reconnect_seconds == 60.0
  assert found.run.directory == str(tmp_path / 'state')
  assert found.keys.ca == str(tmp_path / 'keys/ca.pem')
  assert found.policy.minimum_clients == 4
  # A server that offers less than the authenticated mode is refused unless the file says so.
  assert found.policy.authenticated


def test_a_server_file_gives_the_arguments_of_a_server(written, tmp_path):
  found = config.read(written(SERVER + KEYS + '[deadlines]\nwork = 5\n'), config.ServerConfig)
  assert found.run.directory == str(tmp_path / 'run')
  assert found.deadlines.work == 5.0
  assert dataclasses.asdict(found.session)['mode'] == 'authenticated'
  # What is unset is left out, and is None.
  assert found.session.verify is found.cohort.clients_per_round is found.process.evaluate is None


@pytest.mark.parametrize('listen', ['127.0.0.1:70000', '127.0.0.1', ':1', 'host:-1', 'host:x'])
def test_a_server_listens_on_a_port_there_is(listen, written):
  text = SERVER.replace('127.0.0.1:0', listen)
  with pytest.raises(ConfigurationError, match='port of 0 to 65535'):
    config.read(written(text + KEYS), config.ServerConfig)


BAD = {
  'no toml': ('[client', 'Cannot read the configuration'),
  'unknown section': (CLIENT + KEYS + '[extra]\n', r'no \[extra\]; its sections are run, process'),
  'nearly a section': (CLIENT + KEYS + '[polcy]\n', "Did you mean 'policy'?"),
  'unknown key': (CLIENT + 'speed = 1\n' + KEYS, r"\[client\] has no 'speed'; it has name, server"),
  'nearly a key': (CLIENT + 'servr = "x"\n' + KEYS, "Did you mean 'server'?"),
  'key above its section': ('task = "t"\n' + CLIENT + KEYS, r'Did you mean `\[run\] task`?'),
  'missing key': (CLIENT.replace('task = "t"\n', '') + KEYS, 'needs `task`'),
  'no section': (CLIENT, 'needs `ca`'),
  'section of another type': ('keys = 3\n' + CLIENT, r'`\[keys\]`'),
  'wrong type': (CLIENT.replace('"north"', '7') + KEYS, 'must be of type str, got 7'),
  'true is no number': (CLIENT + 'reconnect_seconds = true\n' + KEYS, 'must be of type float'),
  'value out of range': (CLIENT + KEYS + '[policy]\nminimum_clients = 1\n', 'at least 3'),
}


@pytest.mark.parametrize('name', BAD)
def test_bad_files_are_refused_by_key(name, written, capsys):
  text, match = BAD[name]
  path = written(text)
  with pytest.raises(ConfigurationError, match=match):
    config.read(path, config.ClientConfig)
  assert cli.main(['client', '--config', str(path)]) == 2
  assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
  ('old', 'new', 'match'),
  [
    ('', '[deadlines]\njoin = 1' + 400 * '0' + '\n', r'\[deadlines\] `join` is too large a number'),
    ('rounds = 3', 'rounds = 1' + 400 * '0', r'\[run\] `rounds` is 1000\d*\.\.\., too large'),
    ('rounds = 3', 'rounds = 0', r'\[run\] `rounds` must be at least 1, got 0'),
    ('', '[session]\nminimum_clients = 2\n', r'\[session\] `minimum_clients` must be at least 3'),
    ('', '[cohort]\nclients_per_round = 2\n', r'\[cohort\] `clients_per_round` must be at least 3'),
    # Nothing is unset by 0 or ''.
    ('', '[cohort]\nclients_per_round = 0\n', r'\[cohort\] `clients_per_round` must be at least 3'),
    ('', '[session]\nverify = ""\n', "`verify` must be one of 'mac', got ''"),
    ('', '[session]\ncolluding_fraction = 1\n', '`colluding_fraction` must be below 1'),
    ('', '[session]\ndropout_fraction = -0.1\n', '`dropout_fraction` must be finite and not'),
    ('', '[session]\nmode = "trusting"\n', "`mode` must be one of 'semi_honest'"),
    ('', '[session]\nverify = "yes"\n', '`verify` must be one of'),
    ('', '[deadlines]\nwork = 0\n', r'\[deadlines\] `work` must be finite and positive'),
  ],
  ids=lambda value: value.strip() if '=' in value else '',
)
def test_a_server_s_numbers_out_of_range_are_refused_with_their_file(written, old, new, match):
  path = written((SERVER.replace(old, new) if old else SERVER + new) + KEYS)
  with pytest.raises(ConfigurationError, match=match) as refused:
    config.read(path, config.ServerConfig)
  assert str(refused.value).startswith(f'{path}: ')


OLD = """
[run]
task = "t"
process = "our_code:process"
evaluate = "our_code:evaluate"
rounds = 3
directory = "run"
[server]
listen = "127.0.0.1:0"
[session]
clients = 0
"""


def test_a_file_of_version_0_1_is_refused_with_the_new_keys(written):
  with pytest.raises(ConfigurationError) as refused:
    config.read(written(OLD + KEYS), config.ServerConfig)
  (sentence,) = str(refused.value).splitlines()
  assert "'[run] process' is now `[process] source`" in sentence
  assert "'[run] evaluate' is now `[process] evaluate`" in sentence
  assert "'[session] clients' is now `[cohort] clients_per_round`" in sentence
  client = '[client]\nname = "north"\ntask = "t"\nstate = "state"\n'
  with pytest.raises(ConfigurationError, match=r"'\[client\] state' is now `\[run\] directory`"):
    config.read(written(client + KEYS), config.ClientConfig)


def test_a_file_that_is_not_there(tmp_path):
  with pytest.raises(ConfigurationError, match='No such file'):
    config.read(tmp_path / 'none.toml', config.ServerConfig)


@pytest.mark.parametrize('command', ['serve', 'client'])
def test_keys_that_are_not_there_are_named(command, written, capsys):
  path = written((SERVER if command == 'serve' else CLIENT) + KEYS)
  assert cli.main([command, '--config', str(path)]) == 2
  assert 'tff-privacy-agg keys' in capsys.readouterr().err
  assert not (path.parent / 'run').exists()


def test_entry_points_beside_the_file(written):
  code = 'def data():\n  return 3\ndef fails():\n  open("no-such-file")\nnumber = 4\n'
  written(code, 'entry_points_beside.py')
  beside = written('')
  assert entry_point('entry_points_beside:data', beside.parent)() == 3
  for bad in (
    'entry_points_beside',
    'entry_points_beside:x',
    'no_such:x',
    'entry_points_beside:number',
  ):
    with pytest.raises(ConfigurationError, match='does not name a `module:function`'):
      entry_point(bad, beside.parent)
  with pytest.raises(ConfigurationError, match='it failed with FileNotFoundError'):
    entry_point('entry_points_beside:fails', beside.parent)()


@pytest.mark.integration
def test_a_source_that_is_not_there_is_told_in_one_line(written, keys):
  """Though its module has imported TFF, whose finalizers fail when the process exits."""
  path = written(
    SERVER.replace('our_code:process', 'imports_tff:nothing') + KEYS.replace('north', 'server')
  )
  written('import tensorflow_federated\n', 'imports_tff.py')
  shutil.copytree(keys, path.parent / 'keys')
  code = "import sys; from tff_privacy_agg import cli; sys.exit(cli.main(['serve', '--config', "
  code += f'{str(path)!r}]))'
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=120)
  assert done.returncode == 2
  said = [line for line in done.stderr.splitlines() if 'tff-privacy-agg: ' in line]
  assert "'imports_tff:nothing' does not name" in said[0]
  assert done.stderr.rstrip().endswith(said[0])
  assert 'Exception ignored' not in done.stderr


def test_the_command_makes_keys_once(tmp_path, capsys):
  where = tmp_path / 'keys'
  assert cli.main(['keys', str(where), 'north', 'south', 'east']) == 0
  roster = Roster.read(where / 'roster.json')
  assert roster.ids == {'north': 0, 'south': 1, 'east': 2}
  assert cli.main(['keys', str(where), 'north']) == 2
  assert 'not empty' in capsys.readouterr().err


@pytest.mark.parametrize(
  'content',
  ['', '[]', '{"clients": {}}', '{"server": "zz", "clients": {"a": {"id": 0, "key": ""}}}'],
)
def test_rosters_that_are_none_are_refused(content, tmp_path):
  (tmp_path / 'roster.json').write_text(content)
  with pytest.raises(ConfigurationError, match='roster'):
    Roster.read(tmp_path / 'roster.json')


def test_one_id_for_two_clients_is_refused(tmp_path):
  one = {'id': 1, 'key': '00' * 32}
  content = {'server': '00' * 32, 'clients': {'a': one, 'b': one}}
  (tmp_path / 'roster.json').write_text(json.dumps(content))
  with pytest.raises(ConfigurationError, match='one id to two'):
    Roster.read(tmp_path / 'roster.json')


def test_a_client_s_own_files_must_be_its_own(keys, tmp_path):
  """It would take part in a session that fails and stays charged."""
  roster, others = Roster.read(keys / 'roster.json'), make_keys(tmp_path / 'k', ['north'])
  north = [str(keys / 'north.pem'), str(keys / 'north.identity')]
  roster.check_client('north', *north)
  for name, files, match in (
    ('nobody', north, 'the roster has north'),
    ('south', north, "is a certificate of 'north'"),
    ('north', [north[0], str(keys / 'south.identity')], 'is not the identity'),
    ('north', [north[0], str(others / 'north.identity')], 'is not the identity'),
  ):
    with pytest.raises(ConfigurationError, match=match):
      roster.check_client(name, *files)
  roster.check_client('north', north[0], None)


def test_an_event_is_written_in_one_call():
  """Lines of processes that share a terminal would mix otherwise."""

  class File(io.StringIO):
    written = ()

    def write(self, text):
      self.written = (*self.written, text)
      return super().write(text)

  for as_json in (False, True):
    file = File()
    Events(file, as_json=as_json, who='north')('session', round=3)
    (line,) = file.written
    assert line.endswith('\n')


def test_events_for_people_and_machines():
  people, machines = io.StringIO(), io.StringIO()
  Events(people, who='north')('session', round=3, reason='', refused={})
  assert people.getvalue().split()[1:] == ['north', 'session', 'round', '3']
  Events(machines, as_json=True, who='north')('session', round=3)
  told = json.loads(machines.getvalue())
  assert {**told, 'time': 0} == {'time': 0, 'who': 'north', 'event': 'session', 'round': 3}


def test_every_event_is_documented():
  root = pathlib.Path(tff_privacy_agg.__file__).parents[1]
  sources = [*(root / 'tff_privacy_agg/deployment').rglob('*.py')]
  sources += [root / f'tff_privacy_agg/cli/{name}.py' for name in ('serve', 'client')]
  told = set()
  for file in sources:
    told.update(re.findall(r"\b_?events\(\s*'([^']+)'", file.read_text(encoding='utf-8')))
  names = told | {'done'}
  assert len(names) >= 18
  page = (root / 'docs/runtime.md').read_text(encoding='utf-8')
  rows = page.partition('### Events')[2].partition('###')[0].splitlines()
  first = [line.split('|')[1] for line in rows if line.startswith('| `')]
  assert first[0].strip() == '`event`'
  assert set(re.findall('`([^`]+)`', ' '.join(first[1:]))) == names

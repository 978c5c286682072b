"""One run from its training to its report, and the same with a server and clients."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

from tff_privacy_agg import cli
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.ledger import LedgerRecord

pytestmark = pytest.mark.integration

NAMES = ('north', 'south', 'east')
COMMAND = 'import sys; from tff_privacy_agg.cli import main; sys.exit(main())'
# Three clients with four numbers each, and a private mean of what they have learnt.
FLEET = """
import collections
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
import tff_privacy_agg as tpa

SPEC = collections.OrderedDict(x=tf.TensorSpec([None, 2]), y=tf.TensorSpec([None, 1]))


def model():
  keras = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[2]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    keras, loss=tf.keras.losses.MeanSquaredError(), input_spec=SPEC
  )


def process():
  aggregator = tpa.ddp_secure_aggregator(noise_multiplier=1.0, expected_clients_per_round=3)
  return tpa.build_private_learning_process(
    'fed_avg', model, aggregator=aggregator,
    accounting=tpa.Accounting(population=3, delta=0.01, minimum_clients=3),
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(0.1),
  )


def examples():
  x = np.arange(8, dtype=np.float32).reshape(4, 2)
  return tf.data.Dataset.from_tensor_slices(
    collections.OrderedDict(x=x, y=x[:, :1] / 8)
  ).batch(2)
"""


def machine(capsys, *words):
  """What a command prints for machines, and nothing next to it."""
  code = cli.main([*map(str, words)])
  return code, json.loads(capsys.readouterr().out)


def test_a_run_is_trained_stated_reported_and_audited(tmp_path, capsys):
  run = tmp_path / 'run'
  arguments = ['--population', '20', '--clients-per-round', '10', '--noise-multiplier', '2']
  code, summary = machine(capsys, 'train', *arguments, '--rounds', 4, '--json', '--run-dir', run)
  assert code == 0
  ledger = run / 'ledger.jsonl'
  code, found = machine(capsys, 'epsilon', ledger, '--json')
  assert code == 0
  assert found['views']['server']['epsilon'] == pytest.approx(summary['epsilon'])
  code, found = machine(capsys, 'verify', ledger, '--json')
  assert (code, found['ok']) == (0, True)
  code, _ = machine(capsys, 'statement', ledger, '--json')
  assert code == 0
  assert cli.main(['statement', str(ledger)]) == 0
  assert rounded_up(summary['epsilon'], 4) in capsys.readouterr().out
  code, found = machine(capsys, 'audit', run, '--only', 'canaries', '--canaries', 60, '--json')
  assert code == 0
  assert not found['exceeded']
  code, found = machine(capsys, 'report', run, '--json')
  assert code == 0
  page = pathlib.Path(found['report']).read_text(encoding='utf-8')
  assert rounded_up(summary['epsilon'], 4) in page
  assert machine(capsys, 'verify', ledger, '--json')[0] == 0
  # A number that is changed afterwards is found, and the exit code says so.
  text = ledger.read_text()
  ledger.write_text(text.replace('"survivors":10', '"survivors":11', 1))
  assert ledger.read_text() != text
  code, found = machine(capsys, 'verify', ledger, '--json')
  assert (code, found['ok']) == (1, False)


@pytest.fixture
def start():
  """Starts the command as a process in a group of its own; all end with the test."""
  started = []

  def run(*words, folder):
    started.append(
      subprocess.Popen(
        [sys.executable, '-c', COMMAND, *map(str, words)],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
      )
    )
    return started[-1]

  yield run
  for process in started:
    if process.poll() is None:
      process.kill()
    process.communicate()


def configure(folder):
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{probe.getsockname()[1]}'
  (folder / 'fleet_of_the_journey.py').write_text(FLEET)
  shared = """
    [process]
    source = "fleet_of_the_journey:process"
    [run]
    task = "numbers"
    """
  server = f"""{shared}
    rounds = 2
    directory = "run"
    [server]
    listen = "{address}"
    [session]
    mode = "semi_honest"
    colluding_fraction = 0.0
    """
  client = f"""{shared}
    directory = "state/NAME"
    [data]
    source = "fleet_of_the_journey:examples"
    [client]
    server = "{address}"
    reconnect_seconds = 60
    name = "NAME"
    [policy]
    authenticated = false
    colluding_fraction = 0.0
    """
  for name, text in (('server', server), *((name, client) for name in NAMES)):
    text += """
    [keys]
    ca = "keys/ca.pem"
    certificate = "keys/NAME.pem"
    key = "keys/NAME.key"
    identity = "keys/NAME.identity"
    roster = "keys/roster.json"
    """
    (folder / f'{name}.toml').write_text(textwrap.dedent(text).replace('NAME', name))


def events_of(folder):
  """Step and content of what TensorBoard reads in a folder."""
  (file,) = folder.glob('events.*')
  for event in tf.compat.v1.train.summary_iterator(str(file)):
    for value in event.summary.value:
      yield event.step, value.tensor.string_val or value.tag


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_and_its_clients_leave_a_ledger_that_holds(tmp_path, capsys, start):
  code, found = machine(capsys, 'keys', tmp_path / 'keys', *NAMES, '--json')
  assert (code, found['clients']) == (0, [*NAMES])
  configure(tmp_path)
  server = start('serve', '--config', 'server.toml', '--json', folder=tmp_path)
  clients = [
    start('client', '--config', f'{name}.toml', '--json', folder=tmp_path) for name in NAMES
  ]
  out, err = server.communicate(timeout=200)
  assert server.returncode == 0, err
  events = [json.loads(line) for line in out.splitlines()]
  assert [one['round'] for one in events if one['event'] == 'trained'] == ['1/2', '2/2']
  for client in clients:
    out, err = client.communicate(timeout=60)
    assert client.returncode == 0, err
    assert json.loads(out.splitlines()[-1])['sessions'] == 2
  ledger = tmp_path / 'run' / 'ledger.jsonl'
  code, found = machine(capsys, 'verify', ledger, '--json')
  assert (code, found['ok']) == (0, True), found
  code, found = machine(capsys, 'epsilon', ledger, '--json')
  spent = found['views']['server']
  assert (code, spent['rounds'], spent['unsettled']) == (0, 2, 0)
  assert spent['epsilon'] == pytest.approx(LedgerRecord.read(ledger).epsilon('server'))
  assert 0 < spent['epsilon'] < 100
  # TensorBoard has the numbers of each round, and the statement as it was after it.
  assert {step for step, _ in events_of(tmp_path / 'run/tensorboard')} == {1, 2}
  stated = dict(events_of(tmp_path / 'run/tensorboard/privacy'))
  assert {*stated} == {1, 2}
  assert rounded_up(spent['epsilon'], 4) in str(stated[2])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_leaves_a_run_that_resumes(tmp_path, start):
  small = ['--population', '20', '--clients-per-round', '10', '--noise-multiplier', '5']
  words = ['train', *small, '--rounds', '25', '--local-epochs', '1', '--run-dir', 'run']
  process = start(*words, folder=tmp_path)
  for line in process.stdout:
    if line.startswith('round  2/'):
      break
  # As a terminal does: to the whole group.
  os.killpg(process.pid, signal.SIGINT)
  _, err = process.communicate(timeout=60)
  assert process.returncode == 130, err
  assert err.splitlines()[-1] == 'interrupted; the same command resumes'
  assert 'Traceback' not in err
  with pytest.raises(ProcessLookupError):
    os.killpg(process.pid, 0)  # nobody of the group is left
  again = start(*words, folder=tmp_path)
  out, err = again.communicate(timeout=200)
  assert again.returncode == 0, err
  assert 'resuming after round ' in out
  rows = (tmp_path / 'run/metrics.csv').read_text().splitlines()[1:]
  header = (tmp_path / 'run/metrics.csv').read_text().splitlines()[0].split(',')
  assert [row.split(',')[header.index('round')] for row in rows] == [*map(str, range(1, 26))]
  assert cli.main(['verify', str(tmp_path / 'run/ledger.jsonl')]) == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_fresh_audit_of_the_demo(tmp_path, monkeypatch, capsys):
  """The demo as it is; of the audits the one that decides the exit code, and the quickest."""
  monkeypatch.chdir(tmp_path)
  words = ['audit', '--fresh', '--only', 'canaries', '--only', 'membership', '--json']
  code, found = machine(capsys, *words)
  assert code == 0
  assert found['claim']['epsilon'] == pytest.approx(7.952, abs=0.001)
  assert 0 <= found['canaries']['lower'] <= found['claim']['epsilon']
  assert not found['exceeded']
  # The next one begins anew; one that was cut off would have gone on.
  assert cli.audit._free_directory() == pathlib.Path('runs/audit-2')

"""`serve` and `take_part`: the loop of `tpa.train` with a real server and real clients."""

import csv
import json
import pathlib
import re
import sys
import threading
import types

import numpy as np
import pytest
import tensorflow_federated as tff
import tiny_fleet

import tff_privacy_agg as tpa
from tff_privacy_agg import deployment, secagg
from tff_privacy_agg._files import sole_user
from tff_privacy_agg.deployment import served_rounds
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import LedgerRecord, verify

pytestmark = pytest.mark.integration

PAGE = pathlib.Path(__file__).parents[2] / 'docs' / 'runtime.md'


@pytest.fixture(scope='module')
def process():
  return tiny_fleet.process()


@pytest.fixture
def address():
  return tiny_fleet.free_address()


def charges(ledger):
  lines = [json.loads(line) for line in ledger.read_text().splitlines()]
  return [line['round'] for line in lines if line['event'] == 'charge']


def rows(path):
  with (path / 'metrics.csv').open(newline='') as lines:
    return list(csv.DictReader(lines))


def test_a_served_training_leaves_what_a_local_one_does_and_resumes(
  simulation, process, tmp_path, address
):
  def evaluate(weights):
    return {'loss': float(np.sum(np.square(weights.trainable[0])))}

  with tiny_fleet.clients(simulation, tmp_path, address, process) as clients:
    result, log = tiny_fleet.serve(process, 1, tmp_path, address, evaluate=evaluate)
  assert [client.outcome for client in clients] == [1] * 3
  for client in clients:
    assert client.log.of('ended')[0]['reason'].startswith('the training is complete')
  assert (result.rounds_run, result.stopped) == (1, None)
  # More rounds go on after the last checkpoint.
  with tiny_fleet.clients(simulation, tmp_path, address, process):
    result, log = tiny_fleet.serve(process, 2, tmp_path, address, evaluate=evaluate)
  told = [event for event, _ in log.seen]
  assert 'resuming after round 1; a round that was cut off runs again and stays charged' in told
  assert any(event.startswith('round 2/2') and 'epsilon' in event for event in told)
  assert (result.rounds_run, result.rounds_done) == (1, 2)
  ledger = tmp_path / 'run/ledger.jsonl'
  assert verify(ledger).ok
  record = LedgerRecord.read(ledger)
  assert [one.survivors for one in record.state.settled] == [3, 3]
  assert ledger.read_text().count('"survivors_counted_by":"runtime"') == 2  # by the protocol
  assert result.metrics['ledger/epsilon'] == pytest.approx(record.epsilon('server'))
  # The columns are those of `tpa.train`.
  data = tff.simulation.datasets.ClientData.from_clients_and_tf_fn(
    list(tiny_fleet.NAMES), lambda name: tiny_fleet.batches()
  )
  tpa.train(
    process,
    data,
    1,
    cohorts=tpa.UniformCohorts(client_ids=list(tiny_fleet.NAMES), size=3),
    evaluate=evaluate,
    run_directory=tmp_path / 'local',
    report=lambda line: None,
  )
  served, local = rows(tmp_path / 'run'), rows(tmp_path / 'local')
  assert list(served[0]) == list(local[0])
  assert [row['survivors'] for row in served] == ['3', '3']
  # Another task is another run.
  with pytest.raises(ConfigurationError, match='these differ: mode'):
    tiny_fleet.serve(process, 3, tmp_path, address, session=deployment.Session(mode='semi_honest'))
  assert charges(ledger) == [1, 2]


def test_a_spent_budget_is_a_normal_end_that_clients_are_told(simulation, tmp_path, address):
  process = tiny_fleet.process(budget=tpa.Budget(epsilon=1.8, delta=0.01))
  with tiny_fleet.clients(simulation, tmp_path, address, process) as clients:
    result, log = tiny_fleet.serve(process, 50, tmp_path, address)
  assert result.stopped == 'budget'
  assert 1 <= result.rounds_run < 50
  # Nobody trained for nothing.
  assert [client.outcome for client in clients] == [result.rounds_run] * 3
  for client in clients:
    assert 'the privacy budget is spent' in client.log.of('ended')[0]['reason']
  assert any(event.startswith('stopped before round') for event, _ in log.seen)
  # Once more: it ends without waiting for clients.
  again, _ = tiny_fleet.serve(process, 50, tmp_path, address)
  assert (again.rounds_run, again.stopped) == (0, 'budget')


def failing(monkeypatch, sessions):
  """Lets every client's work fail in these sessions, counted from 1."""
  real = served_rounds.client_work

  def client_work(form, dataset):
    work, count = real(form, dataset), 0

    def fails(*arguments):
      nonlocal count
      count += 1
      if count in sessions:
        raise OSError('on purpose')
      return work(*arguments)

    return fails

  monkeypatch.setattr(served_rounds, 'client_work', client_work)


def test_a_round_without_a_sum_is_charged_and_runs_again(
  simulation, process, tmp_path, address, monkeypatch
):
  failing(monkeypatch, {1, 3, 4, 5})
  with (
    tiny_fleet.clients(simulation, tmp_path, address, process),
    pytest.raises(secagg.SecAggError),
  ):
    tiny_fleet.serve(process, 2, tmp_path, address)
  ledger = tmp_path / 'run/ledger.jsonl'
  # The first session of round 1, and all three of round 2, stay charged at their worst.
  assert charges(ledger) == [1, 1, 2, 2, 2]
  record = LedgerRecord.read(ledger)
  assert (record.state.rounds, record.state.unsettled) == (5, 4)
  assert [row['round'] for row in rows(tmp_path / 'run')] == ['1']


@pytest.mark.parametrize(
  ('changed', 'sentence'),
  [
    ({'clients_per_round': 1000}, 'up to 1000 clients; .* at most'),
    ({'session': deployment.Session(colluding_fraction=0.4)}, '1 of 3 clients collude'),
    (
      {'session': deployment.Session(minimum_clients=4)},
      '`clients_per_round` must be at least',
    ),
    ({'rounds': 0}, '`rounds` must be at least 1'),
  ],
  ids=['maximum', 'colluders', 'minimum', 'rounds'],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
  process, changed, sentence, tmp_path
):
  deployment.make_keys(tmp_path / 'keys', tiny_fleet.NAMES)
  arguments = {'rounds': 1, 'folder': tmp_path, 'address': 'nowhere', **changed}
  with pytest.raises(ConfigurationError, match=sentence):
    tiny_fleet.serve(process, **arguments)
  assert not (tmp_path / 'run').exists()


def test_a_ledger_of_another_process_is_refused(process, tmp_path):
  deployment.make_keys(tmp_path / 'keys', tiny_fleet.NAMES)
  other = tiny_fleet.process(participation_cap=5).facts
  with pytest.raises(LedgerError, match='these differ: participation_cap'):
    tiny_fleet.serve(process, 1, tmp_path, 'nowhere', ledger_facts=other)
  assert not (tmp_path / 'run').exists()


def test_a_client_that_is_not_in_the_roster_is_refused(process, tmp_path):
  deployment.make_keys(tmp_path / 'keys', tiny_fleet.NAMES)
  with pytest.raises(ConfigurationError, match="'west'; the roster has north, south, east"):
    deployment.take_part(
      process,
      None,
      name='west',
      task='t',
      server='nowhere',
      keys=deployment.Keys.of(tmp_path / 'keys', 'north'),
      directory=tmp_path,
    )


def test_a_directory_has_one_client(process, tmp_path):
  """Two would each take a round that the other has served for a new one."""
  deployment.make_keys(tmp_path / 'keys', tiny_fleet.NAMES)
  arguments = {
    'name': 'north',
    'task': 't',
    'server': '127.0.0.1:1',
    'keys': deployment.Keys.of(tmp_path / 'keys', 'north'),
    'directory': tmp_path / 'state',
    'reconnect_seconds': 0.1,
  }
  (tmp_path / 'state').mkdir()
  with (
    sole_user(tmp_path / 'state', 'first'),
    pytest.raises(ConfigurationError, match='Another client runs in'),
  ):
    deployment.take_part(process, None, **arguments)
  with pytest.raises(secagg.RoundTimeout):
    deployment.take_part(process, None, **arguments)


def test_the_page_shows_a_server_and_three_clients(
  simulation, process, tmp_path, address, monkeypatch
):
  """The code of docs/runtime.md, with the clients in threads and one TFF worker for all."""
  found = re.findall(r'```python run\n(.*?)```', PAGE.read_text('utf-8'), re.DOTALL)
  server, client = (text for text in found if 'deployment.' in text)
  assert max(len(server.splitlines()), len(client.splitlines())) <= 20
  module = types.SimpleNamespace(process=lambda: process, batches=lambda name: tiny_fleet.batches())
  monkeypatch.setitem(sys.modules, 'hospital_code', module)
  monkeypatch.setattr(
    tpa.runtime,
    'simulation_context',
    lambda: tff.framework.get_context_stack().install(simulation),
    raising=False,
  )
  monkeypatch.chdir(tmp_path)
  deployment.make_keys('keys', tiny_fleet.NAMES)
  done = {}

  def run(text, name):
    names = {'name': name}
    exec(compile(text.replace('server.example.org:8443', address), 'runtime.md', 'exec'), names)
    done[name] = names

  threads = [threading.Thread(target=run, args=(client, name)) for name in tiny_fleet.NAMES]
  for thread in threads:
    thread.start()
  run(server, 'server')
  for thread in threads:
    thread.join(60)
  assert done['server']['result'].rounds_done == 2
  assert [done[name]['sessions'] for name in tiny_fleet.NAMES] == [2, 2, 2]

"""`train` under the real protocol: drop-outs, an intact ledger that says so, what is refused."""

import json

import pytest

from tff_privacy_agg import cli
from tff_privacy_agg.cli import train
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord
from tff_privacy_agg.runtime import RandomDrops

pytestmark = pytest.mark.integration

SMALL = ['--population', '12', '--noise-multiplier', '2', '--bits', '20', '--local-epochs', '1']


def _train(path, *arguments):
  return cli.main(['train', '--run-dir', str(path), *SMALL, *arguments])


def test_a_training_by_the_protocol_with_drop_outs(tmp_path, capsys, monkeypatch):
  # 10 clients at this rate seldom lose none in three rounds; by this seed they lose some.
  monkeypatch.setattr(train, '_drops_seed', lambda: 7)
  (tmp_path / 'run.toml').write_text('[session]\nmode = "semi_honest"\ndropout_rate = 0.2\n')
  arguments = ['--config', str(tmp_path / 'run.toml'), '--clients-per-round', '10', '--rounds', '3']
  assert _train(tmp_path / 'run', *arguments) == 0
  out = capsys.readouterr().out
  assert 'mode = "semi_honest"' in out
  assert 'secure sums: semi-honest protocol, its parties simulated here; ' in out
  assert json.loads((tmp_path / 'run/config.json').read_text())['secure_sum'] == 'semi_honest'
  summary = json.loads((tmp_path / 'run/summary.json').read_text())
  assert summary['secure_sum'] == 'semi_honest'
  ledger = tmp_path / 'run/ledger.jsonl'
  record = LedgerRecord.read(ledger)
  assert 'by the semi-honest protocol, its parties simulated' in record.facts.task
  minimum = TrainingTask(
    population=12, clients_per_round=10, secure_sum='semi_honest', dropout_rate=0.2
  ).minimum_clients
  assert record.facts.minimum_clients == minimum == record.facts.stack['cohort']['minimum'] < 10
  lines = [*map(json.loads, ledger.read_text().splitlines())]
  survivors = [line['survivors'] for line in lines if line['event'] == 'settle']
  assert len(survivors) == 3
  assert min(survivors) < 10
  assert min(survivors) >= minimum
  assert cli.main(['verify', str(ledger)]) == 0
  assert cli.main(['epsilon', str(ledger), '--json']) == 0
  capsys.readouterr()


def test_a_training_by_the_authenticated_protocol(tmp_path, capsys):
  arguments = ['--secure-sum', 'authenticated', '--clients-per-round', '4', '--rounds', '1']
  assert _train(tmp_path / 'run', *arguments, '--metrics', 'private', '--json') == 0
  captured = capsys.readouterr()
  assert json.loads(captured.out)['secure_sum'] == 'authenticated'
  assert 'survivors 4' in captured.err
  assert cli.main(['statement', str(tmp_path / 'run/ledger.jsonl'), '--json']) == 0
  assert 'authenticated protocol' in capsys.readouterr().out


def test_a_round_without_a_sum_runs_again_and_the_training_resumes(tmp_path, capsys, monkeypatch):
  run = tmp_path / 'run'
  arguments = ['--secure-sum', 'semi_honest', '--dropout-rate', '0.2', '--clients-per-round', '4']
  arguments += ['--rounds', '3', '--json']
  # All four are in the first sum; none is in the next four, the attempts of the second round.
  plan = RandomDrops.plan
  monkeypatch.setattr(
    RandomDrops, 'plan', lambda self, session, clients: {0: 2, 1: 2, 2: 2} if session > 1 else {}
  )
  assert _train(run, *arguments) == 2
  captured = capsys.readouterr()
  error = captured.err.splitlines()[-1]
  assert error.startswith('tff-privacy-agg: The secure sum of a round failed: ')
  assert error.endswith(
    f'The ledger holds what its attempts cost. Run the same command to repeat the round in {run}.'
  )
  assert 'round 2 has no sum, attempt 4 of 4' in captured.err
  assert 'Traceback' not in captured.err
  assert not (run / 'summary.json').exists()
  cut = LedgerRecord.read(run / 'ledger.jsonl')
  # The parties follow the protocol, and nobody was asked for a share.
  assert (cut.state.rounds, cut.state.unsettled, cut.state.unopened) == (1, 0, 4)
  # Every restart draws other drop-outs; by these none is lost.
  monkeypatch.setattr(RandomDrops, 'plan', plan)
  monkeypatch.setattr(train, '_drops_seed', lambda: 2)
  assert _train(run, *arguments) == 0
  captured = capsys.readouterr()
  assert (
    'resuming after round 1; a round that was cut off runs again' in captured.out + captured.err
  )
  summary = json.loads((run / 'summary.json').read_text())
  assert json.loads(captured.out) == {**summary, 'run_dir': str(run)}
  record = LedgerRecord.read(run / 'ledger.jsonl')
  assert (record.state.rounds, record.state.unsettled, record.state.unopened) == (3, 0, 4)
  assert summary['epsilon'] == pytest.approx(record.epsilon('server'))
  assert (summary['rounds'], summary['stopped']) == (3, None)
  lines = [*map(json.loads, (run / 'ledger.jsonl').read_text().splitlines())]
  charged = [line for line in lines if line['event'] == 'charge']
  assert [line['round'] for line in charged] == [1, 2, 2, 2, 2, 2, 3]
  # It is the same cohort, whose data were not seen, so that a resume chooses nobody anew.
  assert len({line['participants'] for line in charged[1:6]}) == 1
  rows = (run / 'metrics.csv').read_text().splitlines()
  place = rows[0].split(',').index('round')
  assert [row.split(',')[place] for row in rows[1:]] == ['1', '2', '3']
  assert cli.main(['verify', str(run / 'ledger.jsonl')]) == 0
  assert cli.main(['report', str(run)]) == 0
  capsys.readouterr()


def test_the_ledger_of_a_simulation_says_so():
  assert 'in the clear, as a simulation' in TrainingTask().accounting().task


def test_too_few_clients_for_their_drop_outs_are_refused_before_any_work(tmp_path, capsys):
  arguments = ['--secure-sum', 'authenticated', '--dropout-rate', '0.3', '--clients-per-round', '5']
  assert _train(tmp_path / 'run', *arguments) == 2
  assert 'promise fewer drop-outs' in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    ({'secure_sum': 'magic'}, '`secure_sum` must be one of'),
    ({'dropout_rate': 0.1}, 'nobody drops out of a simulated sum'),
    ({'secure_sum': 'semi_honest', 'dropout_rate': 1.5}, 'at least 0 and below 1'),
    ({'secure_sum': 'semi_honest', 'mechanism': 'gaussian'}, 'sums updates in the clear'),
    ({'secure_sum': 'semi_honest', 'noise_multiplier': None}, 'sums updates in the clear'),
    ({'secure_sum': 'semi_honest', 'metrics': 'clear'}, 'outside of the protocol'),
    ({'secure_sum': 'semi_honest', 'clients_per_round': 2}, '3 clients or more'),
  ],
  ids=['mode', 'rate', 'range', 'central', 'none', 'metrics', 'clients'],
)
def test_what_the_protocol_cannot_do_is_refused(options, sentence):
  with pytest.raises(ConfigurationError, match=sentence):
    TrainingTask(**options)


def test_noise_is_made_for_the_fewest_survivors():
  """They are those of which fewer are left once in 10,000 rounds, by the binomial law."""
  task = TrainingTask(secure_sum='semi_honest', dropout_rate=0.1)
  assert task.minimum_clients == 77
  assert TrainingTask(secure_sum='semi_honest').minimum_clients == 100
  few = TrainingTask(
    secure_sum='semi_honest', dropout_rate=0.5, clients_per_round=4, population=9, delta=0.01
  )
  assert few.minimum_clients == 3

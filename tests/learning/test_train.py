"""`tff-privacy-agg train` end to end: files, resume, refusals, the price of privacy."""

import csv
import json
import math

import pytest

from tff_privacy_agg import accounting, cli
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import RunDirectory, training_loop as training
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.ledger import LedgerRecord

pytestmark = pytest.mark.integration

SMALL = ['--population', '20', '--clients-per-round', '10', '--noise-multiplier', '2']


def _train(path, *arguments):
  return cli.main(['train', '--run-dir', str(path), *SMALL, *arguments])


def _rows(path):
  with (path / 'metrics.csv').open(encoding='utf-8', newline='') as lines:
    return list(csv.DictReader(lines))


def test_a_run_leaves_what_it_says(tmp_path, capsys):
  assert _train(tmp_path / 'run', '--rounds', '3') == 0
  lines = capsys.readouterr().out.splitlines()
  progress = [line for line in lines if line.startswith('round ')]
  assert len(progress) == 3
  assert all(
    word in progress[-1] for word in ('loss', 'accuracy', 'epsilon', 'survivors 10', 'clip', ' s')
  )
  assert 'also against the server' in lines[-2]
  rows = _rows(tmp_path / 'run')
  assert [row['round'] for row in rows] == ['1', '2', '3']
  epsilons = [float(row['privacy/epsilon']) for row in rows]
  assert epsilons == sorted(epsilons)
  facts = json.loads((tmp_path / 'run/privacy.json').read_text())
  summary = json.loads((tmp_path / 'run/summary.json').read_text())
  assert summary['epsilon'] == pytest.approx(epsilons[-1])
  assert list((tmp_path / 'run/tensorboard').iterdir())
  assert list((tmp_path / 'run/checkpoints').iterdir())
  # The printed epsilon follows from the facts that are written next to it.
  design = facts['integer_design']
  released = [(math.floor(design['l2_bound'] ** 2), design['local_variance'])]
  released += [(one['resolution'] ** 2, one['local_variance']) for one in facts['channels']]
  rounded = [one['t_squared'] for one in facts['price']['vectors']]
  mu_squared = sum(
    3 * squared / (10 * variance - t_squared)
    for (squared, variance), t_squared in zip(released, rounded, strict=True)
  )
  recomputed = accounting.gaussian_epsilon(math.sqrt(mu_squared), facts['delta'])
  assert epsilons[-1] == pytest.approx(recomputed, rel=1e-6)
  assert epsilons[-1] >= recomputed * (1 - 1e-9)


class _StopError(Exception):
  pass


def test_an_interrupted_run_resumes_with_the_epsilon_of_an_unbroken_one(
  tmp_path, capsys, monkeypatch
):
  assert _train(tmp_path / 'whole', '--rounds', '4') == 0
  real = training.progress_line

  def stop_after_two(round_number, *rest):
    if round_number == 2:
      raise _StopError
    return real(round_number, *rest)

  with monkeypatch.context() as patch:
    patch.setattr(training, 'progress_line', stop_after_two)
    with pytest.raises(_StopError):
      _train(tmp_path / 'cut', '--rounds', '4')
  assert not (tmp_path / 'cut/summary.json').exists()
  capsys.readouterr()
  assert _train(tmp_path / 'cut', '--rounds', '4') == 0
  out = capsys.readouterr().out
  assert 'resuming after round 2' in out
  assert 'round 2/4' not in out
  whole, cut = _rows(tmp_path / 'whole'), _rows(tmp_path / 'cut')
  assert [row['round'] for row in cut] == ['1', '2', '3', '4']
  for name in ('privacy/epsilon', 'ledger/epsilon'):
    assert [row[name] for row in cut] == [row[name] for row in whole]
  # Asked once more, it says the same and runs nothing.
  assert _train(tmp_path / 'cut', '--rounds', '4') == 0
  again = capsys.readouterr().out
  assert not [line for line in again.splitlines() if line.startswith('round ')]
  assert again.splitlines()[-3:-1] == out.splitlines()[-3:-1]


def test_a_round_that_was_cut_off_stays_charged(tmp_path, capsys, monkeypatch):
  """The server saw the sum of the round that is lost; only the ledger remembers."""
  calls = []

  def evaluator_that_fails_once(self, examples):
    real = TrainingTask.evaluator_before(self, examples)

    def evaluate(weights):
      calls.append(weights)
      if len(calls) == 2:
        raise _StopError
      return real(weights)

    return evaluate

  monkeypatch.setattr(TrainingTask, 'evaluator_before', TrainingTask.evaluator, raising=False)
  monkeypatch.setattr(TrainingTask, 'evaluator', evaluator_that_fails_once)
  with pytest.raises(_StopError):
    _train(tmp_path / 'cut', '--rounds', '3')
  assert _train(tmp_path / 'cut', '--rounds', '3') == 0
  last = _rows(tmp_path / 'cut')[-1]
  assert int(last['privacy/rounds']) == 3
  assert float(last['ledger/epsilon']) > float(last['privacy/epsilon'])
  assert f'epsilon {rounded_up(float(last["ledger/epsilon"]), 4)}, also' in capsys.readouterr().out
  ledger = tmp_path / 'cut/ledger.jsonl'
  assert LedgerRecord.read(ledger).spent('server').rounds == 4
  assert cli.main(['verify', str(ledger)]) == 0
  assert cli.main(['epsilon', str(ledger)]) == 0
  assert 'server: epsilon' in capsys.readouterr().out
  assert cli.main(['statement', str(ledger)]) == 0
  assert 'zero' in capsys.readouterr().out


def test_a_run_does_not_resume_with_other_arguments(tmp_path, capsys):
  RunDirectory(tmp_path / 'run', {'rounds': 3, 'seed': 1})
  with pytest.raises(ConfigurationError, match='these differ: seed'):
    RunDirectory(tmp_path / 'run', {'rounds': 3, 'seed': 0})
  assert _train(tmp_path / 'run', '--rounds', '3') == 2
  assert 'Pass the old values, or another directory' in capsys.readouterr().err


def test_a_finished_run_goes_on_when_more_rounds_are_asked(tmp_path, capsys):
  assert _train(tmp_path / 'run', '--rounds', '1') == 0
  assert _train(tmp_path / 'run', '--rounds', '2') == 0
  out = capsys.readouterr().out
  assert 'resuming after round 1' in out
  assert '2 rounds in all, 1 before' in out
  assert [row['round'] for row in _rows(tmp_path / 'run')] == ['1', '2']
  assert json.loads((tmp_path / 'run/config.json').read_text())['rounds'] == 2
  # Other learning rates, models or data are another training.
  for other in (['--client-learning-rate', '0.5'], ['--seed', '1'], ['--population', '21']):
    assert _train(tmp_path / 'run', '--rounds', '3', *other) == 2
    assert 'these differ' in capsys.readouterr().err
  assert LedgerRecord.read(tmp_path / 'run/ledger.jsonl').spent('server').rounds == 2


def test_a_directory_with_other_files_is_left_alone(tmp_path):
  (tmp_path / 'thesis.txt').write_text('mine')
  with pytest.raises(ConfigurationError, match='holds other files'):
    RunDirectory(tmp_path, {'rounds': 3})
  assert [file.name for file in tmp_path.iterdir()] == ['thesis.txt']


@pytest.mark.parametrize(
  ('epsilon', 'shown'), [(0.0040101, '0.004011'), (8.7781, '8.779'), (1e3, '1000')]
)
def test_no_shown_epsilon_is_less_than_the_account(epsilon, shown):
  metrics = {'ledger/epsilon': epsilon, 'privacy/survivors': 5.0}
  assert f'epsilon {shown}  ' in training.progress_line(1, 2, metrics, 1.0, 1.0)


def test_without_privacy_epsilon_is_infinite_and_named_so(tmp_path, capsys):
  assert (
    cli.main(
      ['train', '--no-privacy', '--run-dir', str(tmp_path / 'run'), *SMALL[:4], '--rounds', '2']
    )
    == 0
  )
  out = capsys.readouterr().out
  assert 'no privacy: epsilon is infinite' in out
  assert json.loads((tmp_path / 'run/summary.json').read_text())['epsilon'] is None


def test_central_noise_is_never_called_private_against_the_server(tmp_path, capsys):
  assert _train(tmp_path / 'run', '--rounds', '2', '--mechanism', 'central_discrete_gaussian') == 0
  out = capsys.readouterr().out
  assert 'the server sees the updates' in out
  assert 'also against the server' not in out
  row = _rows(tmp_path / 'run')[-1]
  assert math.isinf(float(row['privacy/epsilon']))
  assert math.isfinite(float(row['privacy/release_epsilon']))


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['--delta', '0.5'], 'must be below 1/population'),
    (['--clients-per-round', '300'], '--clients-per-round must be at most --population'),
    (['--noise-multiplier', '-1'], '--noise-multiplier must be finite and positive'),
    (['--noise-multiplier', 'nan'], '--noise-multiplier must be finite and positive'),
    (['--bits', '2'], 'bits'),
    (['--rounds', '0'], '--rounds must be at least 1'),
  ],
)
def test_bad_arguments_end_before_any_work(tmp_path, capsys, arguments, message):
  assert cli.main(['train', '--run-dir', str(tmp_path / 'run'), *arguments]) == 2
  assert message in capsys.readouterr().err
  assert not (tmp_path / 'run').exists()


def test_the_default_demo_keeps_its_promise():
  """Epsilon at most 10 at delta of a tenth of one over the population, by the facts alone."""
  task = TrainingTask()
  assert task.population >= 100
  assert task.rounds >= 30
  assert task.delta <= 0.1 / task.population
  facts = task.process().facts.stack
  assert facts['holds_against_server']
  design = accounting.IntegerDesign(**facts['integer_design'])
  curve = design.curve(task.clients_per_round)
  for channel in facts['channels']:
    curve += accounting.bit_channel(
      facts['mechanism'], channel['resolution'], channel['local_variance'], task.clients_per_round
    )
  epsilon, _ = accounting.epsilon(curve.scaled(task.rounds), task.delta)
  assert 1 < epsilon <= 10

"""`plan`: refusals in its own words, warnings as sentences, the time left, no TensorFlow."""

import json
import subprocess
import sys

import pytest

from tff_privacy_agg import cli
from tff_privacy_agg.cli import _progress

PLAN = ['plan', '--target-epsilon', '8', '--rounds', '10', '--clients-per-round', '50']
PLAN += ['--population', '1000', '--parameters', '650']


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    (['--target-delta', '0'], '--target-delta must lie strictly between 0 and 1, got 0.0.'),
    (['--target-delta', '0.1'], '--target-delta must be at most a tenth of one over'),
    (['--target-epsilon', '-1'], '--target-epsilon must be finite and positive, got -1.0.'),
    (['--rounds', '0'], '--rounds must be at least 1, got 0.'),
    (['--clients-per-round', '-3'], '--clients-per-round must be at least 1, got -3.'),
    (['--population', '10'], '--population must be at least 50, got 10.'),
    (['--parameters', '0'], '--parameters must be at least 1, got 0.'),
    (['--dropout', '1'], '--dropout must be at least 0 and below 1, got 1.0'),
    (['--bits', '0'], '--bits must be at least 1, got 0.'),
    (['--participation-cap', '0'], '--participation-cap must be at least 1, got 0.'),
    (
      ['--participation-cap', '3', '--sampling', 'poisson'],
      '--participation-cap holds for a public schedule; --sampling asks for a secret one. Use '
      '--sampling none with the cap.',
    ),
    (
      ['--sampling', 'without_replacement', '--dropout', '0.1'],
      '--sampling without_replacement is proved where nobody drops out; --dropout is 0.1.',
    ),
  ],
  ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_refusals_name_flags(capsys, options, sentence):
  assert cli.main([*PLAN, *options]) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'tff-privacy-agg: {sentence}')
  assert '`' not in error


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    (['--bands', '3'], '--bands cannot be planned without --correlated. Add it.'),
    (['--correlated', '--bits', '9'], '--bits cannot be planned with --correlated.'),
    (['--correlated', '--write', 'x.toml'], '--write cannot be planned with --correlated.'),
    (['--correlated', '--target-delta', '0.1'], '--target-delta must be below 1/population'),
    (
      ['--correlated', '--separation', '21'],
      '10 rounds of 50 among 1000 clients allow a separation',
    ),
    (['--correlated', '--separation', '2', '--bands', '3'], '--bands must be at most 2,'),
  ],
)
def test_refusals_of_correlated_plans_name_flags(capsys, options, sentence):
  assert cli.main([*PLAN, *options]) == 2
  error = capsys.readouterr().err
  assert error.startswith(f'tff-privacy-agg: {sentence}')
  assert '`' not in error


def test_a_correlated_plan_says_first_whether_it_gains(capsys):
  assert cli.main([*PLAN, '--correlated', '--separation', '1']) == 0
  assert next(line for line in capsys.readouterr().out.splitlines() if line[0] == '-').startswith(
    '- No gain worth the trust in the server'
  )
  assert cli.main([*PLAN, '--correlated', '--json']) == 0
  plan = json.loads(capsys.readouterr().out)
  assert (plan['separation'], plan['participations'], plan['gain'] > 1.2) == (20, 1, True)


@pytest.mark.parametrize('options', [[], ['--correlated']])
def test_a_plan_needs_no_tensorflow(options):
  code = (
    'import sys\nfrom tff_privacy_agg import cli\n'
    'sys.modules["tensorflow"] = sys.modules["tensorflow_federated"] = None\n'
    f'sys.exit(cli.main({[*PLAN, *options, "--json"]!r}))\n'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
  assert done.returncode == 0, done.stderr
  plan = json.loads(done.stdout)
  assert plan['epsilon'] <= 8


def test_a_plan_is_of_the_server_view_unless_it_says_otherwise(capsys):
  assert cli.main([*PLAN, '--json']) == 0
  plan = json.loads(capsys.readouterr().out)
  assert (plan['view'], plan['adjacency']) == ('server', 'zero_out')


@pytest.mark.filterwarnings('default::UserWarning')
def test_a_warning_of_the_chosen_design_is_one_plain_sentence(capsys):
  """And those of designs that the search has passed are not shown."""
  assert cli.main([*PLAN, '--target-epsilon', '1000', '--bits', '8', '--json']) == 0
  captured = capsys.readouterr()
  json.loads(captured.out)
  told = [line for line in captured.err.splitlines() if not line.startswith('planning ...')]
  (note,) = (line for line in told if 'discrete Gaussian' in line)
  assert note.startswith('note: One share of the discrete Gaussian has a variance of ')
  assert cli.main([*PLAN, '--target-epsilon', '50', '--sampling', 'poisson']) == 0
  captured = capsys.readouterr()
  assert 'discrete Gaussian' not in captured.err
  assert 'Warning' not in captured.err


def test_secret_cohorts_of_fixed_size_are_planned_under_replace_one(capsys):
  assert cli.main([*PLAN, '--sampling', 'without_replacement', '--json']) == 0
  plan = json.loads(capsys.readouterr().out)
  assert (plan['view'], plan['adjacency']) == ('release', 'replace_one')
  assert cli.main([*PLAN, '--json']) == 0
  assert plan['noise_multiplier'] < json.loads(capsys.readouterr().out)['noise_multiplier']


def test_a_long_plan_tells_the_time_left(capsys, monkeypatch):
  monkeypatch.setattr(_progress, '_PATIENCE_SECONDS', 0.2)
  assert cli.main([*PLAN, '--sampling', 'poisson']) == 0
  line = capsys.readouterr().err
  assert line.startswith('planning ... ')
  assert line.endswith(' s left\n')

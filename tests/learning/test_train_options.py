"""`tff-privacy-agg train` with a file, with one's own data and model, with a budget."""

import argparse
import dataclasses
import json
import re
import sys

import pytest

import tff_privacy_agg as tpa
from tff_privacy_agg import cli
from tff_privacy_agg.cli._analytics import question_ledger
from tff_privacy_agg.cli._training import run_config
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.options import TrainingOptions
from tff_privacy_agg.ledger import LedgerRecord

pytestmark = pytest.mark.integration

SMALL = """
[data]
population = 20
[cohort]
clients_per_round = 10
[privacy]
noise_multiplier = 3.0
[run]
rounds = 2
"""
MINE = """
import collections
import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from tff_privacy_agg.learning.data import FederatedExamples


def load():
  rng = np.random.default_rng(0)
  x = rng.normal(size=[6, 10, 3]).astype(np.float32)
  y = (x @ np.array([[1.0], [2.0], [3.0]], np.float32)).astype(np.float32)
  clients = {f'c{i}': collections.OrderedDict(x=x[i], y=y[i]) for i in range(5)}
  train = tff.simulation.datasets.TestClientData(clients)
  return FederatedExamples(train=train, test_x=x[5], test_y=y[5])


def model():
  keras = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[3]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    keras,
    loss=tf.keras.losses.MeanSquaredError(),
    metrics=[tf.keras.metrics.MeanAbsoluteError(name='error')],
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, 3]), y=tf.TensorSpec([None, 1])
    ),
  )


not_a_function = load
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
  """The working directory holds a module with data and a model."""
  (tmp_path / 'mine_for_train.py').write_text(MINE)
  monkeypatch.chdir(tmp_path)
  yield 'mine_for_train'
  sys.modules.pop('mine_for_train', None)


def test_a_file_says_what_options_say_and_options_win(tmp_path, capsys):
  (tmp_path / 'run.toml').write_text(SMALL)
  arguments = ['train', '--config', str(tmp_path / 'run.toml'), '--rounds', '1']
  assert cli.main([*arguments, '--run-dir', str(tmp_path / 'run')]) == 0
  out = capsys.readouterr().out
  assert 'rounds = 1' in out.splitlines()
  assert 'clients_per_round = 10' in out.splitlines()
  config = json.loads((tmp_path / 'run/config.json').read_text())
  assert (config['rounds'], config['population'], config['bits']) == (1, 20, 16)


@pytest.mark.parametrize(
  ('text', 'sentence'),
  [
    ('[run]\nrouds = 3', r"\[run\] has no 'rouds'; it has .*rounds.* Did you mean 'rounds'\?"),
    ('[rn]\nrounds = 3', r"has no \[rn\]; its sections are run, data.* Did you mean 'run'\?"),
    ('[data]\nrounds = 3', r"\[data\] has no 'rounds'"),
    ('run = 3', r'`run` must be a section, `\[run\]`'),
    ('[run]\nrounds = ', 'Cannot read the configuration'),
    ('[run]\nrounds = "many"', r'`\[run\] rounds` of \S+run.toml must be an integer'),
    ('[data]\nsource = "letters"', r"`\[data\] source` of \S+ is one of 'digits'"),
    ('[data]\nsource = "digit"', r"Did you mean 'digits'\?"),
    ('[cohort]\nclients-per-round = 3', r"no 'clients-per-round'.* mean 'clients_per_round'\?"),
    ('clients-per-round = 3', r'Did you mean `\[cohort\] clients_per_round`\?'),
    ('[privacy]\nmechanism = "skelam"', r"got 'skelam'\. Did you mean 'skellam'\?"),
    ('[model]\nsource = "nowhere_at_all:model"', 'does not name a `module:function`'),
    (
      '[privacy]\nnoise_multiplier = 0',
      r'`\[privacy\] noise_multiplier` of \S+ must be finite and positive',
    ),
  ],
  ids=[
    'name',
    'section',
    'place',
    'no section',
    'syntax',
    'type',
    'data',
    'typo',
    'dashes',
    'dashes above',
    'value',
    'model',
    'zero',
  ],
)
def test_a_bad_file_ends_before_any_work(tmp_path, capsys, text, sentence):
  (tmp_path / 'run.toml').write_text(text)
  arguments = ['train', '--config', str(tmp_path / 'run.toml')]
  assert cli.main([*arguments, '--run-dir', str(tmp_path / 'run')]) == 2
  error = capsys.readouterr().err
  assert re.search(sentence, error), error
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('text', 'options', 'sentence'),
  [
    (
      '[privacy]\nenabled = false\n',
      ['--noise-multiplier', '3'],
      'the command line sets --noise-multiplier',
    ),
    (
      '[privacy]\nenabled = false\ntarget_epsilon = 2.0\n',
      [],
      'the configuration file sets `[privacy] target_epsilon` of ',
    ),
    ('', ['--no-privacy', '--target-epsilon', '1'], 'the command line sets --target-epsilon'),
    (
      '[training]\nclient_learning_rate = "fast"\n',
      [],
      '`[training] client_learning_rate` of ',
    ),
    ('', ['--client-learning-rate', '-1'], '--client-learning-rate must be'),
    ('', ['--server-momentum', '3'], '--server-momentum must be at least 0 and below 1'),
  ],
  ids=['file and option', 'file', 'options', 'text', 'negative', 'momentum'],
)
def test_what_cannot_be_meant_is_refused(tmp_path, capsys, text, options, sentence):
  (tmp_path / 'run.toml').write_text(text)
  assert cli.main(['train', '--config', str(tmp_path / 'run.toml'), *options]) == 2
  assert sentence in capsys.readouterr().err


def test_a_file_may_set_what_the_training_does_not_use_to_its_default(tmp_path):
  """Files that 0.2 printed do; any other value is refused, as the file calls it."""
  path = tmp_path / 'run.toml'
  arguments = ['train', '--config', str(path)]
  path.write_text('[training]\nproximal_strength = 0.1\n')
  assert run_config.given(cli.parser().parse_args(arguments)) == {'proximal_strength': 0.1}
  path.write_text('[training]\nproximal_strength = 0.2\n')
  with pytest.raises(ConfigurationError, match='`proximal_strength` is'):
    run_config.given(cli.parser().parse_args(arguments))
  # The algorithm that counts is that of the command line; the file's own strength fits the file.
  path.write_text('[training]\nproximal_strength = 0.2\nalgorithm = "fed_prox"\n')
  args = cli.parser().parse_args([*arguments, '--algorithm', 'fed_avg'])
  assert run_config.given(args)['algorithm'] == 'fed_avg'


@pytest.mark.parametrize('no_privacy', [False, True])
@pytest.mark.parametrize('algorithm', ['fed_avg', 'fed_prox', 'fed_sgd'])
def test_the_printed_file_sets_nothing_that_is_not_used(tmp_path, no_privacy, algorithm):
  task = TrainingOptions(algorithm=algorithm, **({'noise_multiplier': None} if no_privacy else {}))
  text = run_config.as_toml(dataclasses.asdict(task), tmp_path / 'run', as_json=False)
  assert ('proximal_strength = 0.1' in text) is (algorithm == 'fed_prox')
  assert ('# proximal_strength is not used' in text) is (algorithm != 'fed_prox')
  assert ('delta = 0.0005' in text) is not no_privacy
  (tmp_path / 'run.toml').write_text(text)
  args = cli.parser().parse_args(['train', '--config', str(tmp_path / 'run.toml')])
  assert TrainingOptions(**run_config.given(args)) == task


def test_no_privacy_on_the_command_line_wins_over_the_noise_of_a_file(tmp_path):
  (tmp_path / 'run.toml').write_text('[privacy]\nnoise_multiplier = 3.0\ntarget_epsilon = 2.0\n')
  args = cli.parser().parse_args(['train', '--config', str(tmp_path / 'run.toml'), '--no-privacy'])
  given = run_config.given(args)
  assert given['noise_multiplier'] is given['target_epsilon'] is None


def test_own_data_and_model_with_private_metrics_as_json(mine, tmp_path, capsys):
  arguments = [
    '--data',
    f'{mine}:load',
    '--model',
    f'{mine}:model',
    '--population',
    '5',
    '--delta',
    '0.01',
  ]
  arguments += ['--clients-per-round', '5', '--rounds', '2', '--metrics', 'private', '--json']
  arguments += ['--client-learning-rate', '0.01', '--server-momentum', '0.5', '--bits', '20']
  assert cli.main(['train', *arguments, '--run-dir', 'run']) == 0
  captured = capsys.readouterr()
  summary = json.loads(captured.out)
  assert summary['rounds'] == 2
  assert summary['loss'] > 0
  assert summary['epsilon'] > 0
  assert 'round 2/2' in captured.err
  header = (tmp_path / 'run/metrics.csv').read_text().splitlines()[0].split(',')
  assert {'loss', 'error', 'train/error', 'train/num_examples'} <= set(header)
  record = LedgerRecord.read(tmp_path / 'run/ledger.jsonl')
  assert len(record.facts.stack['beside']) == 1
  assert record.epsilon('server') == pytest.approx(summary['epsilon'])


def test_population_must_be_that_of_the_data(mine, capsys):
  arguments = ['--data', f'{mine}:load', '--population', '7', '--clients-per-round', '5']
  arguments += ['--model', f'{mine}:model']
  arguments += ['--delta', '0.01']
  assert cli.main(['train', *arguments, '--run-dir', 'run']) == 2
  assert '--population is 7; the data has 5 clients' in capsys.readouterr().err


def test_a_budget_ends_the_training_and_the_summary_says_so(tmp_path, capsys):
  (tmp_path / 'run.toml').write_text(SMALL.replace('rounds = 2', 'rounds = 40'))
  arguments = ['train', '--config', str(tmp_path / 'run.toml'), '--target-epsilon', '4']
  assert cli.main([*arguments, '--run-dir', str(tmp_path / 'run')]) == 0
  lines = capsys.readouterr().out.splitlines()
  assert any(line.startswith('stopped before round') for line in lines)
  summary = json.loads((tmp_path / 'run/summary.json').read_text())
  assert summary['stopped'] == 'budget'
  assert 0 < summary['epsilon'] <= 4
  assert lines[-1].endswith(
    f'stopped after {summary["rounds"]} of 40 rounds: the privacy budget is spent'
  )


def test_a_flat_file_of_version_0_1_is_refused_with_the_new_keys(tmp_path, capsys):
  text = 'rounds = 3\ndata = "digits"\nno_privacy = true\nsecure_sum = "simulated"\n'
  (tmp_path / 'run.toml').write_text(text)
  assert cli.main(['train', '--config', str(tmp_path / 'run.toml')]) == 2
  (error,) = capsys.readouterr().err.splitlines()
  assert "'rounds' is now `[run] rounds`" in error
  assert "'data' is now `[data] source`" in error
  assert "'no_privacy' is now `[privacy] enabled` = false" in error
  assert "'secure_sum' is now `[session] mode`" in error


@pytest.mark.parametrize('algorithm', ['fed_prox', 'fed_sgd', 'mime_lite'])
def test_every_algorithm_trains(tmp_path, algorithm):
  (tmp_path / 'run.toml').write_text(f'{SMALL}[training]\nalgorithm = "{algorithm}"\n')
  arguments = ['train', '--config', str(tmp_path / 'run.toml'), '--rounds', '1']
  assert cli.main([*arguments, '--run-dir', str(tmp_path / 'run')]) == 0


def test_the_old_name_of_the_central_mechanism_works_with_a_warning():
  with pytest.warns(DeprecationWarning, match='`gaussian` is now `central_discrete_gaussian`'):
    found = TrainingOptions(mechanism='gaussian')
  assert found == TrainingOptions(mechanism='central_discrete_gaussian')


@pytest.mark.parametrize('population', [1, 9])
def test_a_handful_of_clients_has_no_default_delta(population):
  """A tenth of one over it would be a probability of 1 % and more to publish a client."""
  sentence = f'`delta` has no default for fewer than 10 clients, got {population}: .*at most 0.01'
  with pytest.raises(ConfigurationError, match=sentence):
    TrainingOptions(population=population, clients_per_round=1)
  with pytest.raises(ConfigurationError, match=sentence):
    tpa.Accounting(population=population)
  assert tpa.Accounting(population=population, delta=1e-3).delta == 1e-3
  assert (
    tpa.Accounting(population=10).delta
    == TrainingOptions(population=10, clients_per_round=1).delta
    == 0.01
  )


def test_plans_and_statistics_of_a_handful_ask_for_a_delta_too(tmp_path, capsys):
  plan = 'plan --target-epsilon 2 --rounds 3 --clients-per-round 5 --population 5 --parameters 9'
  assert cli.main(plan.split()) == 2
  assert 'no default for fewer than 10 clients, got 5' in capsys.readouterr().err
  with pytest.raises(ConfigurationError, match='no default for fewer than 10 clients, got 4'):
    question_ledger.delta_of(argparse.Namespace(delta=None), None, 4)

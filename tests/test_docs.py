"""What the documents tell a reader to do works, and what they point at is there."""

import collections
import importlib.util
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg import cli, runtime

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('benchmarks/*.md')])


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document):
  links = re.findall(r'\]\(([^)#]+?)(?:#[^)]*)?\)', document.read_text(encoding='utf-8'))
  relative = [link for link in links if '://' not in link]
  missing = [link for link in relative if not (document.parent / link).exists()]
  assert not missing


def _model_fn():
  model = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[3]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=collections.OrderedDict(x=tf.TensorSpec([None, 3]), y=tf.TensorSpec([None, 1])),
  )


def _client_data(clients=120):
  rng = np.random.default_rng(0)
  return tff.simulation.datasets.TestClientData(
    {
      f'client {i}': collections.OrderedDict(
        x=rng.normal(size=[3, 3]).astype(np.float32), y=np.ones([3, 1], np.float32)
      )
      for i in range(clients)
    }
  )


def test_the_code_in_the_readme_trains(tmp_path, monkeypatch):
  code = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
  assert len(code) == 2
  names = {'model_fn': _model_fn, 'client_data': _client_data()}
  monkeypatch.chdir(tmp_path)
  previous = tff.framework.get_context_stack().current
  try:
    exec(compile(code[0], 'README.md', 'exec'), names)
    process = names['process']
    batch = collections.OrderedDict(x=np.ones([2, 3], np.float32), y=np.ones([2, 1], np.float32))
    output = process.next(process.initialize(), [[batch]] * 100)
    privacy = output.metrics['aggregator']['privacy']
    assert privacy['survivors'] == 100
    assert 4 < privacy['epsilon'] < 5.3  # one round at an effective noise multiplier of 1 or more
    promised = set(re.findall(r'`(\w+)`', _paragraph("Every round's metrics")))
    assert promised - {'aggregator'} <= set(privacy) | {'privacy'}
    exec(compile(code[1], 'README.md', 'exec'), names)
    assert names['result'].stopped == 'budget'
    assert 1 <= names['result'].rounds_run <= 10
    assert names['result'].metrics['ledger/epsilon'] <= 8.0
    assert (tmp_path / 'runs/mine/ledger.jsonl').exists()
  finally:
    context = tff.framework.get_context_stack().current
    if isinstance(context, runtime.SimulationContext):
      context.close()
    tff.framework.set_default_context(previous)


RUNNABLE = [path for path in DOCUMENTS if '```python run\n' in path.read_text(encoding='utf-8')]


@pytest.mark.parametrize('document', RUNNABLE, ids=lambda path: path.name)
def test_the_code_that_a_document_marks_runs(document, tmp_path, monkeypatch, capsys):
  """Blocks ```` ```python run ````, in order; a ```` ```text ```` right after one is its output."""
  found = re.findall(
    r'```python run\n(.*?)```\n(?:```text\n(.*?)```)?', document.read_text(), re.DOTALL
  )
  names = {'model_fn': _model_fn, 'client_data': _client_data()}
  monkeypatch.chdir(tmp_path)
  previous = tff.framework.get_context_stack().current
  try:
    for code, printed in found:
      capsys.readouterr()
      exec(compile(code, document.name, 'exec'), names)
      if printed:
        assert capsys.readouterr().out == printed
  finally:
    context = tff.framework.get_context_stack().current
    if isinstance(context, runtime.SimulationContext):
      context.close()
    tff.framework.set_default_context(previous)


def test_the_api_reference_is_what_the_docstrings_say():
  spec = importlib.util.spec_from_file_location('build_api', ROOT / 'docs/build_api.py')
  build_api = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(build_api)
  page = build_api.page()
  assert (ROOT / 'docs/api.md').read_text(encoding='utf-8') == page, 'Run `make api`.'
  for name in tpa.__all__:
    assert f'### `tpa.{name}`' in page or f'## tpa.{name}\n' in page or name == '__version__'
  assert ' at 0x' not in page


def _paragraph(start):
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  paragraphs = [part for part in text.split('\n\n') if part.startswith(start)]
  assert len(paragraphs) == 1
  return paragraphs[0].replace('aggregator/privacy', 'privacy')


def test_every_command_explains_itself(capsys):
  actions = cli.parser()._subparsers._group_actions[0].choices
  assert {'train', 'plan', 'epsilon', 'verify', 'statement', 'doctor', 'completion'} <= set(actions)
  for command in actions:
    with pytest.raises(SystemExit) as ended:
      cli.main([command, '--help'])
    assert ended.value.code == 0
    assert 'usage: tff-privacy-agg' in capsys.readouterr().out


@pytest.mark.parametrize('shell', ['bash', 'zsh', 'tcsh'])
def test_completion_knows_the_commands(shell, capsys):
  assert cli.main(['completion', shell]) == 0
  out = capsys.readouterr().out
  assert 'statement' in out
  assert 'clients-per-round' in out or shell == 'tcsh'


def test_commands_and_options_in_the_readme_exist(capsys):
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
  for target in set(re.findall(r'make ([a-z-]+)`', text)):
    assert re.search(rf'^{target}:', makefile, re.MULTILINE), target
  commands = set(re.findall(r'`tff-privacy-agg (\w+)', text))
  assert {'train', 'doctor'} <= commands
  for command in commands:
    with pytest.raises(SystemExit) as ended:
      cli.main([command, '--help'])
    assert ended.value.code == 0
  options = set(re.findall(r'`(--[a-z-]+)`', text))
  cli_help = capsys.readouterr().out
  assert options
  assert all(option in cli_help for option in options)


@pytest.mark.parametrize('example', sorted(ROOT.glob('examples/*.py')), ids=lambda path: path.name)
def test_examples_run(example, tmp_path):
  log = tmp_path / 'log'
  with log.open('w') as output:
    ended = subprocess.run(
      [sys.executable, str(example)],
      stdin=subprocess.DEVNULL,
      stdout=output,
      stderr=subprocess.STDOUT,
      timeout=180,
      check=False,
    )
  assert ended.returncode == 0, log.read_text()
  assert 'epsilon' in log.read_text()


def test_the_lock_names_no_host():
  lock = (ROOT / 'requirements.lock').read_text(encoding='utf-8')
  assert '://' not in lock
  pinned = re.findall(r'^([a-zA-Z0-9_.-]+)==', lock, re.MULTILINE)
  assert {'tensorflow-federated', 'dp-accounting', 'cryptography'} <= set(pinned)
  assert lock.count('--hash=sha256:') >= len(pinned)

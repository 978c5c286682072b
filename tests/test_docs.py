"""What the documents tell a reader to do works, and what they point at is there."""

import collections
import functools
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import cli, runtime

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob('*.md'), *ROOT.glob('docs/**/*.md'), *ROOT.glob('benchmarks/*.md')])


LINKED = [
  *DOCUMENTS,
  *sorted(ROOT.glob('notebooks/[0-9]*.py')),
  *sorted(ROOT.glob('examples/**/*.md')),
]
FENCE = re.compile(r'^```([^\n]*)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
# Blocks that a test of their own runs, with more to say about what they do.
RUN_ELSEWHERE = {'README.md': 'test_docs.py', 'runtime.md': 'runtime/test_runtime_docs.py'}


def anchors_of(document):
  """What `#...` may name in a Markdown file, by the rule of code hosts."""
  text, found = FENCE.sub('', document.read_text(encoding='utf-8')), set()
  for heading in re.findall(r'^#+ (.*)$', text, re.MULTILINE):
    plain = re.sub(r'\[([^]]*)\]\([^)]*\)', r'\1', heading).lower().strip()
    slug = re.sub(r'[^\w\- ]', '', plain).replace(' ', '-')
    number = sum(1 for one in found if re.fullmatch(re.escape(slug) + r'(-\d+)?', one))
    found.add(f'{slug}-{number}' if number else slug)
  return found


def broken_links(document, text):
  """Relative links of a text that lead to no file, or to no heading."""
  broken = []
  for link in re.findall(r'\]\(([^)\s]+)\)', FENCE.sub('', text)):
    file, _, anchor = link.partition('#')
    target = document.parent / file if file else document
    if '://' not in link and (not target.exists() or (anchor and anchor not in anchors_of(target))):
      broken.append(link)
  return broken


@pytest.mark.parametrize('document', LINKED, ids=lambda path: path.name)
def test_relative_links_lead_somewhere(document):
  assert broken_links(document, document.read_text(encoding='utf-8')) == []


def test_of_the_test_broken_links_are_seen():
  readme = ROOT / 'README.md'
  good = '[a](docs/secagg.md#the-protocol) [b](#install) [c](https://example.org/#x) [d](LICENSE)'
  assert broken_links(readme, good) == []
  bad = '[a](docs/secagg.md#protocol) [b](#nothing) [c](docs/none.md)'
  assert broken_links(readme, bad) == ['docs/secagg.md#protocol', '#nothing', 'docs/none.md']


def fences(text):
  """What a code block may not be: its info, and its first line."""
  bad = []
  for info, body in FENCE.findall(text):
    python = info == 'python run' or re.fullmatch(r'python not run: \S.*', info)
    looks_like_code = re.search(r'^(import |from \w+ import|>>> |\$ |tff-privacy-agg )', body, re.M)
    if not (python or info in ('console', 'text') or (info == '' and not looks_like_code)):
      bad.append((info, body.partition('\n')[0]))
  return bad


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_code_is_run_or_says_why_not(document):
  text = document.read_text(encoding='utf-8')
  assert fences(text) == []
  assert text.count('\n```') == 2 * len(FENCE.findall(text))  # every block is seen
  if document.name in RUN_ELSEWHERE:
    assert 'python run' in (ROOT / 'tests' / RUN_ELSEWHERE[document.name]).read_text('utf-8')


def test_of_the_test_code_that_nobody_runs_is_seen():
  assert fences('```python\nx = 1\n```\n```\nimport os\n```\n') == [
    ('python', 'x = 1'),
    ('', 'import os'),
  ]
  assert fences('```python not run: needs a GPU\nx\n```\n```\na -> b\n```\n') == []


def _model_fn(features=3):
  model = tf.keras.Sequential(
    [tf.keras.layers.InputLayer(input_shape=[features]), tf.keras.layers.Dense(1)]
  )
  return tff.learning.models.from_keras_model(
    model,
    loss=tf.keras.losses.MeanSquaredError(),
    input_spec=collections.OrderedDict(
      x=tf.TensorSpec([None, features]), y=tf.TensorSpec([None, 1])
    ),
  )


def _client_data(clients=120, features=3):
  rng = np.random.default_rng(0)
  return tff.simulation.datasets.TestClientData(
    {
      f'client {i}': collections.OrderedDict(
        x=rng.normal(size=[3, features]).astype(np.float32), y=np.ones([3, 1], np.float32)
      )
      for i in range(clients)
    }
  )


@pytest.mark.documents
def test_the_code_in_the_readme_trains(tmp_path, monkeypatch, default_context):
  code = re.findall(r'```python run\n(.*?)```', (ROOT / 'README.md').read_text(), re.DOTALL)
  assert len(code) == 1
  names = {'model_fn': _model_fn, 'client_data': _client_data()}
  monkeypatch.chdir(tmp_path)
  try:
    exec(compile(code[0], 'README.md', 'exec'), names)
    process = names['process']
    batch = collections.OrderedDict(x=np.ones([2, 3], np.float32), y=np.ones([2, 1], np.float32))
    output = process.next(process.initialize(), [[batch]] * 100)
    privacy = output.metrics['aggregator']['privacy']
    assert privacy['survivors'] == 100
    assert 4 < privacy['epsilon'] < 5.3  # one round at an effective noise multiplier of 1 or more
    for page in ('README.md', 'docs/training.md'):
      promised = set(re.findall(r'`(\w+)`', _paragraph(page, "Every round's metrics")))
      assert promised
      assert promised - {'aggregator'} <= set(privacy) | {'privacy'}
  finally:
    context = tff.framework.get_context_stack().current
    if isinstance(context, runtime.SimulationContext):
      context.close()


RUNNABLE = [
  path
  for path in DOCUMENTS
  if '\n```python run\n' in path.read_text(encoding='utf-8') and path.name not in RUN_ELSEWHERE
]


@pytest.mark.documents
@pytest.mark.parametrize('document', RUNNABLE, ids=lambda path: path.name)
def test_the_code_that_a_document_marks_runs(
  document, tmp_path, monkeypatch, capsys, default_context
):
  """Blocks ```` ```python run ````, in order; a ```` ```text ```` right after one is its output."""
  found = re.findall(
    r'^```python run\n(.*?)^```\n(?:```text\n(.*?)^```)?',
    document.read_text(encoding='utf-8'),
    re.DOTALL | re.MULTILINE,
  )
  # Canaries need some hundred directions.
  features = 128 if document.name == 'audit.md' else 3
  names = {
    'model_fn': functools.partial(_model_fn, features),
    'client_data': _client_data(features=features),
  }
  monkeypatch.chdir(tmp_path)
  try:
    for code, printed in found:
      capsys.readouterr()
      exec(compile(code, document.name, 'exec'), names)
      if printed:
        assert capsys.readouterr().out == printed
    if document.name == 'training.md':
      assert names['result'].stopped == 'budget'
      assert 1 <= names['result'].rounds_run <= 10
      assert names['result'].metrics['ledger/epsilon'] <= 8.0
      assert (tmp_path / 'runs/mine/ledger.jsonl').exists()
  finally:
    context = tff.framework.get_context_stack().current
    if isinstance(context, runtime.SimulationContext):
      context.close()


def _paragraph(page, start):
  text = (ROOT / page).read_text(encoding='utf-8')
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


def test_options_of_the_page_of_commands_exist(capsys):
  text = (ROOT / 'docs/commands.md').read_text(encoding='utf-8')
  with pytest.raises(SystemExit):
    cli.main(['train', '--help'])
  told = capsys.readouterr().out
  row = next(line for line in text.splitlines() if line.startswith('| `tff-privacy-agg train`'))
  options = re.findall(r'`(--[a-z-]+)`', row)
  assert options
  assert all(option in told for option in options)


@pytest.mark.documents
@pytest.mark.parametrize('example', sorted(ROOT.glob('examples/*.py')), ids=lambda path: path.name)
def test_the_examples_run(example, tmp_path):
  log = tmp_path / 'log'
  with log.open('w') as output:
    ended = subprocess.run(
      [sys.executable, str(example)],
      cwd=tmp_path,
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

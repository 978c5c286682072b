"""The notebooks run from a clean kernel, and their committed form is what their text twins make."""

import importlib.util
import re
import subprocess
import sys

import nbformat
import pytest
from notebook_runs import NOTEBOOKS, build, code_of, committed, stable_text

pytestmark = pytest.mark.integration

TWINS = build.twins()
# The others take up to two minutes each.
QUICK = ('01', '02')
_LARGEST_BYTES = 300_000


@pytest.mark.parametrize('twin', TWINS, ids=lambda twin: twin.stem)
def test_a_notebook_has_the_cells_of_its_twin(twin):
  found, expected = committed(twin), build.notebook_of(twin)
  nbformat.validate(found)

  def cells(notebook):
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]

  assert cells(found) == cells(expected)
  assert found.metadata == expected.metadata


def test_a_changed_twin_is_noticed(tmp_path):
  changed = tmp_path / TWINS[0].name
  changed.write_text(TWINS[0].read_text().replace('bits=16', 'bits=17'))
  sources = [cell.source for cell in build.notebook_of(changed).cells]
  assert sources != [cell.source for cell in committed(TWINS[0]).cells]


@pytest.mark.parametrize('twin', TWINS, ids=lambda twin: twin.stem)
def test_a_notebook_is_committed_with_its_output(twin):
  notebook = committed(twin)
  outputs = [output for cell in code_of(notebook) for output in cell.outputs]
  assert any('image/png' in output.get('data', {}) for output in outputs)
  assert all(stable_text(notebook).values())
  assert stable_text(notebook)
  assert not [output for output in outputs if output.output_type == 'error']
  for output in outputs:
    build.check_output(twin, output)
  counts = [cell.execution_count for cell in code_of(notebook)]
  assert counts == list(range(1, len(counts) + 1))
  assert twin.with_suffix('.ipynb').stat().st_size < _LARGEST_BYTES


@pytest.mark.parametrize(
  'twin',
  [pytest.param(t, marks=[] if t.name[:2] in QUICK else pytest.mark.slow) for t in TWINS],
  ids=lambda twin: twin.stem,
)
def test_a_notebook_runs_from_a_clean_kernel(twin, tmp_path):
  # What is stable is as committed; the rest depends on fresh noise and on the machine.
  assert stable_text(build.execute(twin, tmp_path)) == stable_text(committed(twin))


def test_what_an_output_may_not_hold():
  def stream(text, name='stdout'):
    return nbformat.v4.new_output('stream', text=text, name=name)

  twin = TWINS[0]
  build.check_output(twin, stream('loss 1/2, runs/mine/ledger.jsonl, /proc/sys/kernel/random/uuid'))
  with pytest.raises(ValueError, match='a path of this machine'):
    build.check_output(twin, stream('wrote /home/someone/runs/mine'))
  with pytest.raises(ValueError, match='stderr'):
    build.check_output(twin, stream('tff_privacy_agg: a notice\na warning', 'stderr'))
  build.check_output(twin, stream('tff_privacy_agg: a notice\n', 'stderr'))


def _setup():
  return code_of(build.notebook_of(TWINS[0]))[0].source


def test_every_notebook_starts_with_the_same_cell():
  for twin in TWINS:
    first = code_of(build.notebook_of(twin))[0]
    assert first.source == _setup()
    assert first.metadata['tags'] == ['setup']
  assert _setup().endswith('\n%load_ext tff_privacy_agg.notebook')


def test_the_first_cell_does_nothing_where_everything_is_installed():
  assert not any(code_of(committed(twin))[0].outputs for twin in TWINS)


@pytest.mark.parametrize(
  ('repository', 'files', 'source'),
  [
    ('', ['setup.py'], '.'),
    ('', ['../setup.py'], '..'),
    (
      '',
      ['tff_privacy_agg-9.9-py3-none-any.whl', 'setup.py'],
      'tff_privacy_agg-9.9-py3-none-any.whl',
    ),
    ('owner/name', [], 'git+https://github.com/owner/name'),
    ('owner/name', ['../setup.py'], '..'),
    ('', [], None),
  ],
)
def test_what_the_first_cell_installs(monkeypatch, tmp_path, repository, files, source):
  folder = tmp_path / 'clone' / 'notebooks'
  folder.mkdir(parents=True)
  for name in files:
    (folder / name).touch()
  monkeypatch.chdir(folder)
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  commands = []
  monkeypatch.setattr(subprocess, 'run', lambda command, check: commands.append(command))
  cell = _setup().replace("REPOSITORY = ''", f'REPOSITORY = {repository!r}').replace('%load', '#')
  if source is None:
    with pytest.raises(FileNotFoundError, match='Upload its wheel'):
      exec(cell, {})
    return
  exec(cell, {})
  (command,) = commands
  assert command[:4] == [sys.executable, '-m', 'pip', 'install']
  assert command[-1] in (source, str(folder / source))


def test_the_badge_names_the_repository_of_the_first_cell():
  page = (NOTEBOOKS.parent / 'docs/platforms.md').read_text(encoding='utf-8')
  (repository,) = re.findall(r"^REPOSITORY = '(.*)'", _setup(), re.MULTILINE)
  (name,) = re.findall(r'colab\.research\.google\.com/github/(\S+?)/blob/', page)
  assert name == (repository or 'REPOSITORY')


@pytest.mark.parametrize('twin', TWINS, ids=lambda twin: twin.stem)
def test_links_lead_somewhere(twin):
  links = re.findall(r'\]\(([^)#]+?)\)', twin.read_text(encoding='utf-8'))
  relative = [link for link in links if '://' not in link]
  assert not [link for link in relative if not (NOTEBOOKS / link).exists()]

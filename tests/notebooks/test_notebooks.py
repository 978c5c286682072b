"""The notebooks run from a clean kernel, and their committed form is what their text twins make."""

import importlib.util
import pathlib
import re
import sys

import nbformat
import pytest

NOTEBOOKS = pathlib.Path(__file__).parents[2] / 'notebooks'
_spec = importlib.util.spec_from_file_location('build_notebooks', NOTEBOOKS / 'build.py')
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)
TWINS = build.twins()
# The others take up to two minutes each.
QUICK = ('01', '02')
_LARGEST_BYTES = 300_000


def _read(twin):
  return nbformat.read(twin.with_suffix('.ipynb'), as_version=4)


def _code(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def _stable(notebook):
  """Text of the cells whose output is the same in every run."""
  cells = [cell for cell in _code(notebook) if 'stable' in cell.metadata.get('tags', [])]
  return {cell.id: ''.join(build.text_of(output) for output in cell.outputs) for cell in cells}


@pytest.mark.parametrize('twin', TWINS, ids=lambda twin: twin.stem)
def test_a_notebook_has_the_cells_of_its_twin(twin):
  committed, expected = _read(twin), build.notebook_of(twin)
  nbformat.validate(committed)

  def cells(notebook):
    return [(cell.id, cell.cell_type, cell.source, cell.metadata) for cell in notebook.cells]

  assert cells(committed) == cells(expected)
  assert committed.metadata == expected.metadata


def test_a_changed_twin_is_noticed(tmp_path):
  changed = tmp_path / TWINS[0].name
  changed.write_text(TWINS[0].read_text().replace('bits=16', 'bits=17'))
  sources = [cell.source for cell in build.notebook_of(changed).cells]
  assert sources != [cell.source for cell in _read(TWINS[0]).cells]


@pytest.mark.parametrize('twin', TWINS, ids=lambda twin: twin.stem)
def test_a_notebook_is_committed_with_its_output(twin):
  notebook = _read(twin)
  outputs = [output for cell in _code(notebook) for output in cell.outputs]
  assert any('image/png' in output.get('data', {}) for output in outputs)
  assert all(_stable(notebook).values())
  assert _stable(notebook)
  assert not [output for output in outputs if output.output_type == 'error']
  for output in outputs:
    build.check_output(twin, output)
  counts = [cell.execution_count for cell in _code(notebook)]
  assert counts == list(range(1, len(counts) + 1))
  assert twin.with_suffix('.ipynb').stat().st_size < _LARGEST_BYTES


@pytest.mark.parametrize(
  'twin',
  [pytest.param(t, marks=[] if t.name[:2] in QUICK else pytest.mark.slow) for t in TWINS],
  ids=lambda twin: twin.stem,
)
def test_a_notebook_runs_from_a_clean_kernel(twin, tmp_path):
  # What is stable is as committed; the rest depends on fresh noise and on the machine.
  assert _stable(build.execute(twin, tmp_path)) == _stable(_read(twin))


def test_what_an_output_may_not_hold():
  def stream(text, name='stdout'):
    return nbformat.v4.new_output('stream', text=text, name=name)

  twin = TWINS[0]
  build.check_output(twin, stream('loss 1/2, runs/mine/ledger.jsonl, /proc/sys/kernel/random/uuid'))
  with pytest.raises(ValueError, match='a path of this machine'):
    build.check_output(twin, stream('wrote /home/someone/runs/mine'))
  with pytest.raises(ValueError, match='stderr'):
    build.check_output(twin, stream('a warning', 'stderr'))


def test_every_notebook_checks_its_environment_first():
  setups = {_code(build.notebook_of(twin))[0].source for twin in TWINS}
  assert len(setups) == 1
  assert all(_code(build.notebook_of(twin))[0].metadata['tags'] == ['setup'] for twin in TWINS)


def _setup():
  return compile(_code(build.notebook_of(TWINS[0]))[0].source, 'setup', 'exec')


def test_the_setup_says_what_to_do_with_another_python(monkeypatch):
  monkeypatch.setattr(sys, 'version_info', (3, 13, 1, 'final', 0))
  with pytest.raises(RuntimeError, match=r'needs Python 3\.11') as refused:
    exec(_setup(), {})
  assert 'Runtime version 2025.07' in str(refused.value)


def test_the_setup_says_how_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  with pytest.raises(RuntimeError, match='not installed') as refused:
    exec(_setup(), {})
  # The very commands of the README.
  readme = (NOTEBOOKS.parent / 'README.md').read_text(encoding='utf-8')
  commands = re.findall(r'`!(pip [^`]*)`', str(refused.value))
  assert len(commands) == 3
  assert all(command in readme for command in commands)


@pytest.mark.parametrize('twin', TWINS, ids=lambda twin: twin.stem)
def test_links_lead_somewhere(twin):
  links = re.findall(r'\]\(([^)#]+?)\)', twin.read_text(encoding='utf-8'))
  relative = [link for link in links if '://' not in link]
  assert not [link for link in relative if not (NOTEBOOKS / link).exists()]

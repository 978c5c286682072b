"""What a type checker and an editor see of the package: what runs, and no `Any` for a wrong name."""

import ast
import importlib
import inspect
import os
import pathlib
import subprocess
import sys

import pytest

import tff_privacy_agg

ROOT = pathlib.Path(tff_privacy_agg.__file__).parent
LAZY = ('tff_privacy_agg', *(f'tff_privacy_agg.{n}' for n in ('deployment', 'learning', 'runtime')))


def imports_for_types(package: str) -> list[tuple[str, str, str | None]]:
  """Module, name and alias of every import under `if TYPE_CHECKING:`."""
  tree = ast.parse(pathlib.Path(importlib.import_module(package).__file__).read_text())
  blocks = [
    n for n in tree.body if isinstance(n, ast.If) and 'TYPE_CHECKING' in ast.unparse(n.test)
  ]
  nodes = [node for block in blocks for node in block.body]
  assert nodes
  assert all(isinstance(node, ast.ImportFrom) for node in nodes)
  return [(node.module, one.name, one.asname) for node in nodes for one in node.names]


@pytest.mark.parametrize('package', LAZY)
def test_what_a_type_checker_sees_is_what_runs(package):
  face, names = importlib.import_module(package), imports_for_types(package)
  assert sorted(name for _, name, _ in names) == face.__all__ == dir(face)
  for module, name, alias in names:
    assert alias == name, 'without `as`, a strict type checker takes the name for private'
    value = getattr(face, name)
    if inspect.ismodule(value):
      assert value.__name__ == f'{module}.{name}'
    else:
      assert value is getattr(importlib.import_module(module), name)


def test_no_other_package_hides_names_from_type_checkers():
  for path in ROOT.rglob('*.py'):
    package = '.'.join(('tff_privacy_agg', *path.relative_to(ROOT).parent.parts))
    if 'lazy_names(' in path.read_text() and path.name == '__init__.py':
      assert package in (*LAZY, 'tff_privacy_agg.accounting')  # moved names only


def test_at_import_the_face_loads_nothing_but_what_finds_names():
  code = (
    'import sys, tff_privacy_agg\nprint(*(n for n in sys.modules if n.startswith("tff_privacy")))'
  )
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert set(done.stdout.split()) == {
    'tff_privacy_agg',
    'tff_privacy_agg._lazy',
    'tff_privacy_agg.errors',
  }


RIGHT = """\
import tff_privacy_agg as tpa

factory: tpa.ComposedFactory = tpa.compose(
  [
    tpa.Mean(),
    tpa.Clipping(norm=tpa.AdaptiveQuantile(initial=1.0, target=0.5)),
    tpa.Quantization(),
    tpa.DiscreteGaussianNoise(noise_multiplier=1.0),
    tpa.SecureModularSum(bits=16),
  ],
  cohort=tpa.Cohort(expected=10, minimum=8),
)
curve = tpa.accounting.compose([tpa.accounting.gaussian(1.0)] * 10)
spent: float = tpa.accounting.epsilon(curve, 1e-5)[0]
cohorts: tpa.learning.Cohorts = tpa.UniformCohorts(client_ids=['a', 'b'], size=1, seed=7)
budget = tpa.Budget(epsilon=4.0, delta=1e-5)
version: str = tpa.__version__
"""
WRONG = {
  'tpa.compose([tpa.Mean()], cohort=3, nonsense=1)': 'Unexpected keyword argument "nonsense"',
  'tpa.compose([tpa.Mean()], cohort=3)': 'expected "Cohort"',
  'tpa.Cohort(expcted=3)': 'Unexpected keyword argument "expcted"',
  'tpa.Clippping(norm=1.0)': 'Module has no attribute "Clippping"',
  'tpa.learning.no_such_name': 'Module has no attribute "no_such_name"',
  'tpa.runtime.Coordinator': 'Module has no attribute "Coordinator"',
  'tpa.accounting.LedgerFacts': 'Module has no attribute "LedgerFacts"',
}


@pytest.fixture(scope='module')
def reports(tmp_path_factory) -> dict[tuple[str, int], str]:
  """What `mypy --strict` says of two users' programs, by file and line, as of an installed package."""
  folder = tmp_path_factory.mktemp('user')
  (folder / 'right.py').write_text(RIGHT)
  (folder / 'wrong.py').write_text('\n'.join(['import tff_privacy_agg as tpa', *WRONG]))
  done = subprocess.run(
    [sys.executable, '-m', 'mypy', '--strict', '--no-error-summary', 'right.py', 'wrong.py'],
    cwd=folder,
    env={**os.environ, 'PYTHONPATH': str(ROOT.parent), 'MYPY_CACHE_DIR': str(folder / 'cache')},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert not done.stderr
  found: dict[tuple[str, int], str] = {}
  for line in done.stdout.splitlines():
    file, number, kind, message = line.split(':', 3)
    if kind == ' error':
      key = (file, int(number))
      found[key] = found.get(key, '') + message
  return found


def test_mypy_accepts_a_right_program(reports):
  assert [place for place in reports if place[0] != 'wrong.py'] == []


@pytest.mark.parametrize('line', WRONG)
def test_mypy_reports_a_wrong_line(reports, line):
  assert WRONG[line] in reports['wrong.py', 2 + list(WRONG).index(line)]

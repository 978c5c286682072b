"""Faulty variants of the core, and of each the one test that notices it.

The tables next to this file hold the variants: a text of one module, what replaces it, and the test.
Each runs in a process of its own, against a copy of the package that has this one fault.
"""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest

import tff_privacy_agg

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = pathlib.Path(tff_privacy_agg.__file__).parent
TABLES = sorted(pathlib.Path(__file__).parent.glob('*.toml'))
MUTANTS = {
  one['name']: one
  for table in TABLES
  for one in tomllib.loads(table.read_text(encoding='utf-8'))['mutant']
}
# Without TensorFlow, so that the machinery itself is tried in every run.
QUICK = (
  'links to the line before are not compared',
  'colluders count as honest',
  'channels are free',
)
# A variant that does not even run shows nothing of a test.
DOES_NOT_RUN = re.compile(r'^E +(SyntaxError|NameError|ImportError|IndentationError)\b', re.M)


def run(tests, folder, mutant=None):
  """Runs tests by their ids against a copy of the package, with a fault or without one."""
  copy = folder / PACKAGE.name
  shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns('*.pyc.*'))  # being written
  if mutant:
    file = copy / mutant['file']
    file.write_text(mutated(file, mutant), encoding='utf-8')
    pathlib.Path(importlib.util.cache_from_source(file)).unlink(missing_ok=True)
  command = [sys.executable, '-m', 'pytest', '-x', '--no-header', '-p', 'no:cacheprovider']
  command += ['-p', 'no:xdist', '--rootdir', str(ROOT), '-c', str(ROOT / 'pyproject.toml')]
  environment = {
    **{name: value for name, value in os.environ.items() if not name.startswith('PYTEST_')},
    'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)]),
    'PYTHONDONTWRITEBYTECODE': '1',
  }
  with (folder / 'output').open('w+', encoding='utf-8') as output:
    status = subprocess.run(
      [*command, *(str(ROOT / test) for test in tests)],
      cwd=folder,
      env=environment,
      stdin=subprocess.DEVNULL,
      stdout=output,
      stderr=subprocess.STDOUT,
      timeout=500,
    ).returncode
    output.seek(0)
    return status, output.read()


def mutated(file, mutant):
  text = file.read_text(encoding='utf-8')
  assert text.count(mutant['old']) == 1, 'the faulty text must have one place'
  return text.replace(mutant['old'], mutant['new'])


def test_every_mutant_is_a_change_of_one_place_and_can_be_compiled():
  assert len(MUTANTS) == sum(table.read_text().count('[[mutant]]') for table in TABLES) >= 40
  for mutant in MUTANTS.values():
    file = PACKAGE / mutant['file']
    compile(mutated(file, mutant), file, 'exec')
    path, _, name = mutant['test'].partition('::')
    assert f'def {name.partition("[")[0]}(' in (ROOT / path).read_text(encoding='utf-8')


@pytest.mark.parametrize(
  'name',
  [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in MUTANTS],
)
def test_the_named_test_notices_the_mutant(name, tmp_path):
  status, said = run([MUTANTS[name]['test']], tmp_path, MUTANTS[name])
  assert status == 1, said
  assert not DOES_NOT_RUN.search(said), said


@pytest.mark.parametrize(
  'names',
  [pytest.param(QUICK, id='quick'), pytest.param(tuple(MUTANTS), id='all', marks=pytest.mark.slow)],
)
def test_without_a_fault_the_named_tests_pass(names, tmp_path):
  status, said = run(sorted({MUTANTS[name]['test'] for name in names}), tmp_path)
  assert status == 0, said

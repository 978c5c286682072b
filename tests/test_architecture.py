"""The layout that the design promises: who imports whom, names, docstrings, sizes."""

import ast
import functools
import inspect
import json
import pathlib
import re
import subprocess
import sys

import pytest

import tff_privacy_agg

ROOT = pathlib.Path(tff_privacy_agg.__file__).parent

# The floors of docs/design.md: a part imports parts of lower floors only, and of its own floor
# only where it says so here. A new part states itself.
FLOORS = (
  (
    'errors',
    '_deprecation',
    '_lazy',
    '_names',
    '_validate',
    '_entry_points',
    '_config_file',
    '_files',
    '_requires_tff',
    '_telling',
    '_wording',
    '_tff',
  ),
  ('accounting', 'secagg'),
  ('numerics', 'ledger'),
  ('aggregation',),
  ('runtime',),
  ('learning', 'deployment'),
  ('analytics', 'audit', 'reports', 'notebook'),
  ('cli',),
)
FLOOR_OF = {part: floor for floor, parts in enumerate(FLOORS) for part in parts}
BESIDE = {
  '_lazy': {'errors'},
  '_validate': {'errors'},
  '_entry_points': {'errors'},
  '_requires_tff': {'errors'},
  '_config_file': {'errors', '_files'},
  '_files': {'errors'},
  '_tff': {'errors', '_files'},
  # Real parties run the training loop of `learning`.
  'deployment': {'learning'},
}
IMPORT_TFF = {'_tff', 'aggregation', 'runtime', 'learning', 'analytics', 'audit', 'deployment'}
WITHOUT_TFF = {
  pathlib.Path('aggregation') / name
  for name in (
    'layers',
    'domains.py',
    'composition.py',
    'integer_design.py',
    'channel_plans.py',
    'binding.py',
    'noise_history.py',
    'channel_sums.py',
    'privacy_account.py',
    'stack.py',
  )
}
WITHOUT_TENSORFLOW = {
  '__init__',
  'errors',
  '_deprecation',
  '_lazy',
  '_names',
  '_validate',
  '_entry_points',
  '_requires_tff',
  '_telling',
  '_wording',
  'notebook',
  '_config_file',
  '_files',
  'accounting',
  'ledger',
  'secagg',
  'reports',
  'cli',
}
COMPAT = pathlib.Path('_tff/compat.py')
MOVED_TYPES = {'CLIENTS', 'SERVER', 'to_type', 'types', 'structure', 'Computation'}
# All that is left of these two on TFF's main branch.
REMAINING = {
  'program': {
    'CSVFileReleaseManager',
    'ClientIdDataSource',
    'DatasetDataSource',
    'FileProgramStateManager',
    'SavedModelFileReleaseManager',
    'TensorBoardReleaseManager',
  },
  'framework': {
    'MergeableCompExecutionContext',
    'RemoteExecutor',
    'RemoteExecutorGrpcStub',
    'ResourceManagingExecutorFactory',
    'deserialize_value',
    'serialize_value',
    'to_call_dominant',
  },
}

FILES = sorted(path.relative_to(ROOT) for path in ROOT.rglob('*.py'))
KNOWN = set(FILES)
each_file = pytest.mark.parametrize('path', FILES, ids=str)


def part_of(path: pathlib.Path) -> str:
  return path.parts[0].removesuffix('.py')


@functools.cache
def tree_of(path: pathlib.Path) -> ast.Module:
  return ast.parse((ROOT / path).read_text())


def imported(path: pathlib.Path) -> set[str]:
  """Full names of all modules that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(tree_of(path)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'relative import'
      found |= {f'{node.module}.{alias.name}' for alias in node.names}
  return found


def own_parts(path: pathlib.Path) -> set[str]:
  names = {name.split('.')[1] for name in imported(path) if name.startswith('tff_privacy_agg.')}
  return names - {'__version__', part_of(path)}


def imports_package(path: pathlib.Path, package: str) -> bool:
  return any(name.split('.')[0] == package for name in imported(path))


def moved_names(tree: ast.Module) -> set[str]:
  """What a file takes from TFF that is elsewhere on TFF's main branch."""
  used = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Attribute):
      used.add(ast.unparse(node))
    elif isinstance(node, ast.ImportFrom):
      used |= {f'{node.module}.{alias.name}' for alias in node.names}

  def has_moved(part: str, name: str) -> bool:
    if part in REMAINING and name:
      return name not in REMAINING[part]
    return part.startswith('federated_') or part.endswith('Type') or part in MOVED_TYPES

  plain = {name for name in used if re.fullmatch(r'(tff|tensorflow_federated)(\.\w+)+', name)}
  of_tff = {tuple(f'{name}.'.split('.')[1:3]) for name in plain}
  return {'.'.join(pair).rstrip('.') for pair in of_tff if has_moved(*pair)}


def test_the_reading_of_imports_sees_what_is_there():
  stack = pathlib.Path('aggregation/stack.py')
  assert own_parts(pathlib.Path('aggregation/process.py')) >= {'_tff', 'accounting'}
  assert imports_package(stack, 'tensorflow')
  assert not imports_package(stack, 'tensorflow_federated')
  assert pathlib.Path('aggregation/binding.py') in files_below(stack)
  assert len(FILES) > 50


@each_file
def test_imports_go_down(path):
  if path == pathlib.Path('__init__.py'):
    return  # names load on first use; see test_typed_face.py
  part = part_of(path)
  lower = {other for other, floor in FLOOR_OF.items() if floor < FLOOR_OF[part]}
  assert own_parts(path) <= lower | BESIDE.get(part, set())


def files_below(path: pathlib.Path) -> set[pathlib.Path]:
  """Files of the package that a file imports, at its head or inside a function."""
  found = set()
  for name in imported(path):
    steps = name.split('.')[1:] if name.startswith('tff_privacy_agg') else []
    while steps:
      file = pathlib.Path(*steps)
      module = next(
        (f for f in (file.with_suffix('.py'), file / '__init__.py') if f in KNOWN), None
      )
      if module is not None:
        found.add(module)
        break
      steps.pop()
  return found - {path}


def test_no_file_imports_itself_through_others():
  """An import inside a function, or for annotations only, closes a circle all the same."""
  done: set[pathlib.Path] = set()

  def below(path, seen):
    assert path not in seen, f'{path} imports itself through {[str(one) for one in seen]}'
    if path not in done:
      for other in files_below(path):
        # A package's face hands on the names of its own files.
        if not (other.name == '__init__.py' and other.parent in path.parents):
          below(other, (*seen, path))
      done.add(path)

  for path in FILES:
    below(path, ())


def test_folders_are_small():
  for folder in {path.parent for path in FILES}:
    assert len([path for path in FILES if path.parent == folder]) <= 20, folder


@each_file
def test_tff_is_imported_at_its_places_only(path):
  beneath = WITHOUT_TFF & {path, *path.parents}
  if part_of(path) not in IMPORT_TFF or beneath:
    assert not imports_package(path, 'tensorflow_federated')
  if path != COMPAT:
    assert not imports_package(path, 'federated_language')
  if path != pathlib.Path('learning/example_level.py'):
    assert not imports_package(path, 'tensorflow_privacy')


@each_file
def test_tensorflow_is_not_imported_for_numbers_alone(path):
  if part_of(path) in WITHOUT_TENSORFLOW:
    assert not imports_package(path, 'tensorflow')


@each_file
def test_names_that_tff_has_moved_come_from_compat(path):
  """`tff.federated_map`, `tff.program.ReleaseManager`: on TFF's main branch they are elsewhere."""
  if path != COMPAT:
    assert moved_names(tree_of(path)) == set()


def test_the_search_for_moved_names_finds_them():
  found = moved_names(tree_of(COMPAT))
  assert {'types', 'types.tensorflow_to_type', 'structure.Struct'} <= found
  source = """
import tensorflow_federated as tff
class Manager(tff.program.ReleaseManager): pass
tff.program.TensorBoardReleaseManager('there')
tff.framework.get_context_stack().current
from tensorflow_federated.program import materialize_value
tff.TensorType(tff.federated_map)
"""
  assert moved_names(ast.parse(source)) == {
    'program.ReleaseManager',
    'program.materialize_value',
    'framework.get_context_stack',
    'TensorType',
    'federated_map',
  }


@each_file
def test_no_file_is_above_250_lines(path):
  assert len((ROOT / path).read_text().splitlines()) <= 250


def test_no_file_of_tests_is_above_400_lines():
  """The tests are read as a description; a long file describes more than one thing."""
  files = sorted(pathlib.Path(__file__).parent.rglob('*.py'))
  lengths = {file: len(file.read_text().splitlines()) for file in files}
  assert len(lengths) > 100
  assert {file.name: length for file, length in lengths.items() if length > 400} == {}


@each_file
def test_what_is_public_has_a_docstring(path):
  """Methods of layers and queries are documented by their base class; modules named `_x` are not public."""
  tree = tree_of(path)
  assert ast.get_docstring(tree)
  if path.name.startswith('_') and path.name != '__init__.py':
    return
  overrides = path.parent.name in ('layers', 'analytics') and path.name != 'base.py'
  for node in tree.body:
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith('_'):
      assert ast.get_docstring(node), node.name
    if isinstance(node, ast.ClassDef) and not node.name.startswith('_') and not overrides:
      for member in node.body:
        if isinstance(member, ast.FunctionDef) and not member.name.startswith('_'):
          assert ast.get_docstring(member), f'{node.name}.{member.name}'


@each_file
def test_guarantees_do_not_rest_on_assert(path):
  """`python -O` removes it. Test helpers of TensorFlow are no such statements."""
  assert not any(isinstance(node, ast.Assert) for node in ast.walk(tree_of(path)))


@pytest.mark.parametrize('name', tff_privacy_agg.__all__)
def test_public_names_resolve_and_are_documented(name):
  value = getattr(tff_privacy_agg, name)
  assert inspect.getdoc(value)
  if inspect.isclass(value) or inspect.isfunction(value):
    assert value.__module__.startswith('tff_privacy_agg.')


def test_public_names_are_sorted_unique_and_listed():
  assert tff_privacy_agg.__version__.count('.') == 2
  names = tff_privacy_agg.__all__
  assert len(set(names)) == len(names)
  assert names == sorted(names)
  assert dir(tff_privacy_agg) == sorted(names)
  with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
    _ = tff_privacy_agg.nonsense


def run_python(code: str):
  done = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, timeout=120, check=True
  )
  return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_imports_no_tensorflow():
  loaded = run_python(
    'import json, sys, tff_privacy_agg, tff_privacy_agg.cli, tff_privacy_agg.ledger, tff_privacy_agg.runtime.doctor\n'
    'tff_privacy_agg.accounting.gaussian(1.0)\n'
    'print(json.dumps([name for name in sys.modules if name.startswith("tensorflow")]))'
  )
  assert loaded == []


def test_importing_every_name_sets_no_tff_context():
  same = run_python(
    'import json, tensorflow_federated as tff\n'
    'before = tff.framework.get_context_stack().current\n'
    'import tff_privacy_agg\n'
    'for name in tff_privacy_agg.__all__: getattr(tff_privacy_agg, name)\n'
    'print(json.dumps(before is tff.framework.get_context_stack().current))'
  )
  assert same is True


@pytest.mark.parametrize('name', ['deployment', 'learning', 'runtime'])
def test_no_lazy_name_is_that_of_a_file(name):
  """Once imported, the file would take the place of the name."""
  face = getattr(tff_privacy_agg, name)
  assert not {*face.__all__} & {path.stem for path in (ROOT / name).glob('*.py')}

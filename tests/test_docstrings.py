"""The examples in docstrings: they show what they show, and no public function is without one."""

import ast
import doctest
import importlib
import inspect
import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.aggregation import layers

ROOT = pathlib.Path(tpa.__file__).parent
# What an example may use without an import, next to the names of its own module.
NAMES = {'tpa': tpa, 'np': np, 'tf': tf, 'tff': tff, 'tempfile': tempfile}
# Public functions without an example, and what shows their use instead.
WITHOUT = {
  'tpa.build_private_learning_process': 'takes a model: examples/ and docs/migrating.md',
  'tpa.train': 'takes a process and data: the README',
  'tpa.export_model': 'takes the run directory of a training: docs/export.md',
  'tpa.accounting.noisy_vector': 'the examples of `account_of` and `poisson_round` make one',
  'tpa.audit.mark_ordinary': 'takes a model with canaries: docs/audit.md',
  'tpa.audit.run_with_canaries': 'takes a process and data: docs/audit.md',
  'tpa.audit.with_canaries': 'takes a model: docs/audit.md',
  'tpa.data.load_mnist': 'reads a file that is downloaded',
  'tpa.data.load_tff_dataset': 'reads a file that is downloaded',
  'tpa.deployment.serve': 'takes clients in other processes: docs/secagg.md',
  'tpa.deployment.take_part': 'takes a server in another process: docs/secagg.md',
  'tpa.learning.check_training': 'takes a process and data, as `train`',
  'tpa.ledger.verify': 'takes the ledger of a training: docs/ledger.md',
  'tpa.runtime.announced': 'its lines depend on the time that work takes',
  'tpa.runtime.warn_if_secure_sums_cannot_run': 'depends on the contexts of the program before it',
}


def documented():
  """Module, file, name and docstring of all that has examples."""
  for path in sorted(ROOT.rglob('*.py')):
    text = path.read_text(encoding='utf-8')
    module = '.'.join(['tff_privacy_agg', *path.relative_to(ROOT).with_suffix('').parts])
    for node in ast.walk(ast.parse(text)) if '>>> ' in text else ():
      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        docstring, name = ast.get_docstring(node), getattr(node, 'name', '')
        if docstring and '>>> ' in docstring:
          yield pytest.param(
            module.removesuffix('.__init__'), str(path), docstring, id=f'{module}:{name}'
          )


@pytest.mark.parametrize(('module', 'file', 'docstring'), list(documented()))
def test_an_example_shows_what_happens(module, file, docstring):
  names = {**vars(importlib.import_module(module)), **NAMES}
  parsed = doctest.DocTestParser().get_doctest(docstring, names, module, file, 0)
  said: list[str] = []
  result = doctest.DocTestRunner(verbose=False).run(parsed, out=said.append)
  assert result.attempted
  assert not result.failed, ''.join(said)


def faces():
  """The package, and each of its public parts by the name that users write."""
  yield 'tpa', tpa
  for name in tpa.__all__:
    if inspect.ismodule(getattr(tpa, name)):
      yield f'tpa.{name}', getattr(tpa, name)


def public():
  """Public functions and layers by name; what two faces show is the shorter name's."""
  found = {}
  for face, module in faces():
    for name in module.__all__:
      value = getattr(module, name)
      layer = inspect.isclass(value) and issubclass(value, layers.Layer)
      if inspect.isfunction(value) or (layer and not inspect.isabstract(value)):
        found.setdefault(value, f'{face}.{name}')
  return {name: value for value, name in found.items()}


def test_examples_stand_where_the_site_finds_them():
  """Elsewhere than under `Examples:`, a page would show `>>>` as quotations."""
  for case in documented():
    _, _, docstring = case.values
    before = docstring[: docstring.index('>>> ')].rstrip()
    assert before.endswith('Examples:'), case.id


def test_every_public_function_and_layer_has_an_example_or_a_reason():
  without = {name for name, value in public().items() if '>>> ' not in inspect.getdoc(value)}
  assert without == {*WITHOUT, 'tpa.GaussianNoise'}  # the deprecated name of a layer

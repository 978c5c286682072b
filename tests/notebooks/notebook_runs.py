"""What tests of notebooks share: the builder, their cells and outputs, kernels of other Pythons."""

import importlib.util
import json
import pathlib

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = ROOT / 'notebooks'
_spec = importlib.util.spec_from_file_location('build_notebooks', NOTEBOOKS / 'build.py')
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


def committed(twin):
  return nbformat.read(twin.with_suffix('.ipynb'), as_version=4)


def code_of(notebook):
  return [cell for cell in notebook.cells if cell.cell_type == 'code']


def text_of(cell):
  return ''.join(build.text_of(output) for output in cell.outputs)


def stable_text(notebook):
  """Text of the cells whose output is the same in every run."""
  cells = [cell for cell in code_of(notebook) if 'stable' in cell.metadata.get('tags', [])]
  return {cell.id: text_of(cell) for cell in cells}


def manager_of(python, folder, environment, kind=AsyncKernelManager):
  """A manager of ipykernel under `python`, with these variables added to the environment."""
  (folder / 'host').mkdir(parents=True)
  spec = {
    'argv': [str(python), '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
    'display_name': 'host',
    'language': 'python',
    'env': environment,
  }
  (folder / 'host' / 'kernel.json').write_text(json.dumps(spec))
  return kind(kernel_name='host', kernel_spec_manager=KernelSpecManager(kernel_dirs=[str(folder)]))

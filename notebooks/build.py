"""Runs the text twins and writes the notebooks: python notebooks/build.py [NN ...].

`NN_name.py` (Jupytext's percent format) is what is written and reviewed; `NN_name.ipynb` is made
of it, with its output, and never edited by hand.
"""

import os
import pathlib
import re
import sys
import time

import jupytext
import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

FOLDER = pathlib.Path(__file__).parent
_KEPT_METADATA = {
  'kernelspec': {'display_name': 'Python 3', 'language': 'python', 'name': 'python3'},
  'language_info': {'name': 'python'},
}
# Any absolute path of the machine that ran a cell, but for those that every Linux has.
_MACHINE_PATH = re.compile(r'(?<![\w./:<])/(?!dev/|proc/)(?:[\w.-]+/)+[\w.-]+')


def twins() -> list[pathlib.Path]:
  """The text twins, in order."""
  return sorted(FOLDER.glob('[0-9][0-9]_*.py'))


def notebook_of(twin: pathlib.Path) -> nbformat.NotebookNode:
  """The cells of a text twin, without output; the first code cell is that of `setup_cell.py`."""
  notebook = jupytext.read(twin)
  (setup,) = jupytext.read(FOLDER / 'setup_cell.py').cells
  for number, cell in enumerate(notebook.cells):
    cell.id = f'cell-{number:02d}'
    if 'setup' in cell.metadata.get('tags', []):
      cell.source = setup.source
    cell.metadata = nbformat.from_dict(
      {'tags': cell.metadata['tags']} if 'tags' in cell.metadata else {}
    )
  notebook.metadata = nbformat.from_dict(_KEPT_METADATA)
  notebook.nbformat, notebook.nbformat_minor = 4, 5
  return notebook


def execute(
  twin: pathlib.Path, folder: pathlib.Path, manager: KernelManager | None = None
) -> nbformat.NotebookNode:
  """The notebook of a twin, run from a clean kernel in the given folder.

  Args:
    twin: The text twin.
    folder: Where the kernel runs.
    manager: Of the kernel; None for one of this Python.

  Raises:
    CellExecutionError: If a cell fails.
    ValueError: If an output holds a path of this machine, or a warning.
  """
  notebook = notebook_of(twin)
  resources = {'metadata': {'path': str(folder)}}
  backend = 'module://matplotlib_inline.backend_inline'
  client = NotebookClient(
    notebook,
    timeout=600,
    kernel_name='python3',
    km=manager,
    resources=resources,
    coalesce_streams=True,
  )
  client.execute(env={**os.environ, 'MPLBACKEND': backend}, cleanup_kc=True)  # a given kernel, too
  for cell in notebook.cells:
    if cell.cell_type != 'code':
      continue
    cell.metadata.pop('execution', None)
    for output in cell.outputs:
      check_output(twin, output)
  notebook.metadata = nbformat.from_dict(_KEPT_METADATA)
  return notebook


def text_of(output: nbformat.NotebookNode) -> str:
  """What an output says in words."""
  if output.output_type == 'stream':
    return output.text
  return output.get('data', {}).get('text/plain', '')


def check_output(twin: pathlib.Path, output: nbformat.NotebookNode) -> None:
  """Refuses warnings other than this package's, and paths of the machine that ran the notebook.

  Raises:
    ValueError: If the output holds one.
  """
  warnings = output.text.splitlines() if output.get('name') == 'stderr' else []
  if any(not line.startswith('tff_privacy_agg: ') for line in warnings):
    raise ValueError(f'{twin.name} writes to stderr: {output.text}')
  found = _MACHINE_PATH.search(text_of(output))
  if found:
    raise ValueError(f'{twin.name} prints a path of this machine: {found.group()}')


def main(numbers: list[str]) -> None:
  """Builds the notebooks whose numbers are given, or all."""
  for twin in twins():
    if numbers and twin.name[:2] not in numbers:
      continue
    print(twin.name, flush=True)
    started = time.monotonic()
    notebook = execute(twin, FOLDER)
    print(f'  {time.monotonic() - started:.0f} s')
    nbformat.write(notebook, twin.with_suffix('.ipynb'))


if __name__ == '__main__':
  main(sys.argv[1:])

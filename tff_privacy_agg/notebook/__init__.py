"""Runs the cells of a notebook with Python 3.11 and TFF: `%load_ext tff_privacy_agg.notebook`.

Where TFF is installed it does nothing. Elsewhere, such as on a hosted notebook with a newer
Python, it makes an environment with Python 3.11 from the lock, once, starts a kernel there and
sends it every following cell. Output, results, pictures, errors and interrupts pass through;
completion, widgets and `input` do not. Only the variables of that kernel count.
"""

import atexit
import importlib.util
import os
import pathlib
import sys
from typing import Any

from tff_privacy_agg.notebook import environment
from tff_privacy_agg.notebook.remote_kernel import RemoteError, RemoteKernel, RemoteKernelEnded

_MAGIC = 'tff_privacy_agg_cell'


class Forwarding:
  """Sends the cells of one IPython shell to a kernel in another environment.

  Args:
    shell: IPython's, of a kernel.
    python: The interpreter of the environment; it has ipykernel.
    code: Folder from which that kernel imports this package.
  """

  def __init__(self, shell: Any, python: os.PathLike, code: os.PathLike):
    self._shell, self._python, self._code = shell, python, code
    self._kernel = self._start()
    self._number = shell.execution_count
    shell.register_magic_function(self._run, 'cell', _MAGIC)
    shell.input_transformer_manager.cleanup_transforms.insert(0, self._transform)
    atexit.register(lambda: self._kernel.stop())

  def _start(self) -> RemoteKernel:
    try:
      return RemoteKernel(self._python, self._code)
    except RemoteKernelEnded:
      raise _sentence(
        f'This step failed: starting a kernel with Python 3.11.\nBy hand, in a terminal: '
        f'`{self._python} -m ipykernel_launcher` says why. Where the environment is broken, remove '
        f'{pathlib.Path(self._python).parents[1]} and run this cell again.'
      ) from None

  def _transform(self, lines: list[str]) -> list[str]:
    cell = ''.join(lines)
    self._number = self._shell.execution_count  # some versions have counted on when the cell runs
    return [f'get_ipython().run_cell_magic({_MAGIC!r}, "", {cell!r})\n'] if cell.strip() else lines

  def _run(self, line: str, cell: str) -> None:
    sys.stdout.flush()
    try:
      error = self._kernel.run(cell, self._publish)
    except RemoteKernelEnded:
      self._kernel.stop()  # its sockets, which would wait for the dead process when they are collected
      self._kernel = self._start()
      raise _sentence(
        'The Python 3.11 process that ran the cells has ended, perhaps for lack of memory. A new '
        'one has started, without variables: run the cells again from the top.'
      ) from None
    if error is not None:
      raise error

  def _publish(self, message_type: str, content: dict[str, Any]) -> None:
    if 'execution_count' in content:
      content['execution_count'] = self._number
    publisher = self._shell.display_pub
    publisher.session.send(
      publisher.pub_socket,
      message_type,
      content,
      parent=publisher.parent_header,
      ident=message_type.encode(),
    )


def _sentence(message: str) -> RemoteError:
  """An error that is shown as its message alone."""
  return RemoteError(message, [message])


def load_ipython_extension(shell: Any) -> None:
  """Loads the extension: `%load_ext tff_privacy_agg.notebook` calls it."""
  if importlib.util.find_spec('tensorflow_federated') is not None:
    return
  try:
    python, code = environment.prepare(lambda text: print(text, flush=True))
    Forwarding(shell, python, code)
  except environment.EnvironmentFailed as error:
    raise _sentence(str(error)) from None
  print('From here on the cells run with Python 3.11 and TensorFlow Federated.')


__all__ = ['Forwarding', 'RemoteError', 'load_ipython_extension']

"""A kernel in another environment of this machine, and the running of cells in it.

Jupyter's messages over jupyter_client's sessions. The process is started and ended here rather than
by a kernel manager, whose calls block or not depending on the version and on who runs the event loop.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

# Everything else that a kernel publishes is about itself, or about widgets.
_RELAYED = ('stream', 'display_data', 'update_display_data', 'execute_result', 'clear_output')
_START_SECONDS = 60
_POLL_MILLISECONDS = 200
_STOP_SECONDS = 3


class RemoteKernelEnded(Exception):
  """The process of the kernel is gone."""


class RemoteError(Exception):
  """An error of a cell, shown as the kernel that ran it shows it."""

  def __init__(self, message: str, traceback: list[str]):
    super().__init__(message)
    self._traceback = traceback

  def _render_traceback_(self) -> list[str]:
    """Lines that IPython shows."""
    return self._traceback


class RemoteKernel:
  """An ipykernel in a process of its own, which ends with this one.

  Args:
    python: The interpreter that runs it; it has ipykernel.
    code: Folder from which it imports this package.

  Raises:
    RemoteKernelEnded: If it does not start.
  """

  def __init__(self, python: os.PathLike, code: os.PathLike):
    import zmq
    from jupyter_client.connect import write_connection_file
    from jupyter_client.session import Session

    self._folder = tempfile.TemporaryDirectory(prefix='tff_privacy_agg-')
    # Sockets in a folder that nobody else of this machine can enter.
    socket = f'{self._folder.name}/kernel'
    key = secrets.token_hex(32).encode()
    ports: Any
    path, ports = write_connection_file(f'{socket}.json', ip=socket, transport='ipc', key=key)
    inherited = {k: v for k, v in os.environ.items() if k not in ('PYTHONHOME', 'VIRTUAL_ENV')}
    environment = inherited | {
      'PYTHONPATH': os.fspath(code),
      'MPLBACKEND': 'module://matplotlib_inline.backend_inline',
      'PYDEVD_DISABLE_FILE_VALIDATION': '1',  # a warning of the debugger's
      'JPY_PARENT_PID': str(os.getpid()),  # it ends when this process does
    }
    self._process = subprocess.Popen(
      [os.fspath(python), '-m', 'ipykernel_launcher', '-f', path],
      env=environment,
      stdin=subprocess.DEVNULL,
      start_new_session=True,
    )
    self._session = Session(key=key)
    self._context = zmq.Context()
    self._shell = self._connect(zmq.DEALER, f'{socket}-{ports["shell_port"]}')
    self._control = self._connect(zmq.DEALER, f'{socket}-{ports["control_port"]}')
    self._iopub = self._connect(zmq.SUB, f'{socket}-{ports["iopub_port"]}')
    self._iopub.setsockopt(zmq.SUBSCRIBE, b'')
    try:
      self._wait()
    except BaseException:
      self.stop()
      raise

  def run(self, code: str, publish: Callable[[str, dict[str, Any]], None]) -> RemoteError | None:
    """Runs a cell to its end; an interrupt of this process interrupts the cell.

    Args:
      code: The cell, magics included.
      publish: Takes the type and the content of each message with output, as it comes.

    Returns:
      The error that ended the cell, a subclass with its name, or None.

    Raises:
      RemoteKernelEnded: If the process ends first.
    """
    request: Any = self._session.send(
      self._shell,
      'execute_request',
      {
        'code': code,
        'silent': False,
        'store_history': True,
        'user_expressions': {},
        'allow_stdin': False,
        'stop_on_error': False,  # no cell waits behind this one
      },
    )
    error = None
    with self._interrupted_with_this_process():
      while True:
        message = self._receive(self._iopub)
        if message is None:
          if self._process.poll() is not None:
            raise RemoteKernelEnded
          continue
        kind, content = message['msg_type'], message['content']
        ours = message['parent_header'].get('msg_id') == request['header']['msg_id']
        if kind in _RELAYED:
          publish(kind, content)
        elif kind == 'error' and ours:
          named = type(content['ename'], (RemoteError,), {})
          error = named(content['evalue'], content['traceback'])
        elif kind == 'status' and ours and content['execution_state'] == 'idle':
          return error

  def stop(self) -> None:
    """Ends the process, politely first."""
    if self._process.poll() is None:
      self._session.send(self._control, 'shutdown_request', {'restart': False})
      with contextlib.suppress(subprocess.TimeoutExpired):
        self._process.wait(_STOP_SECONDS)
    self._process.kill()
    self._process.wait()
    self._context.destroy(linger=0)
    self._folder.cleanup()

  def _connect(self, kind: int, path: str) -> Any:
    socket = self._context.socket(kind)
    socket.connect(f'ipc://{path}')
    return socket

  def _receive(self, socket: Any) -> dict[str, Any] | None:
    if not socket.poll(_POLL_MILLISECONDS):
      return None
    _, parts = self._session.feed_identities(socket.recv_multipart())
    return self._session.deserialize(parts)

  def _wait(self) -> None:
    """Until the kernel answers, and what it publishes arrives."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
      if self._process.poll() is not None:
        break
      self._session.send(self._shell, 'kernel_info_request')
      if self._receive(self._shell) and self._receive(self._iopub):
        return
    raise RemoteKernelEnded

  @contextlib.contextmanager
  def _interrupted_with_this_process(self) -> Iterator[None]:
    """A handler, rather than an exception between any two messages, which could lose one."""
    if threading.current_thread() is not threading.main_thread():
      yield
      return
    previous = signal.signal(signal.SIGINT, lambda *_: self._process.send_signal(signal.SIGINT))
    try:
      yield
    finally:
      signal.signal(signal.SIGINT, previous)

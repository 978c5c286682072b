"""Starts a TFF worker, and the relay that alone leads to it. Run as a script, not imported.

    worker_launcher.py relay OWNER SOCKET PORT     listens on a Unix socket, says `ready`
    worker_launcher.py worker OWNER RELAY PROGRAM ...     becomes the worker

A fresh interpreter runs it, of the standard library only: code that runs after a fork of a process
with TensorFlow's and gRPC's threads can deadlock. OWNER is the process that started it, and whose
end ends it. The relay makes a network namespace, in which nothing but the worker listens;
RELAY is its process id, 0 for a worker that stays in the owner's namespace.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import socket
import struct
import sys
import threading
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
_BUFFER_BYTES = 2**18


def _call(name: str, *arguments: int) -> None:
  if getattr(_LIBC, name)(*arguments):
    code = ctypes.get_errno()
    raise OSError(code, f'{name}: {os.strerror(code)}')


def _end_with(owner: int, sent: signal.Signals) -> None:
  """Has the kernel send a signal when the owner dies; a change of credentials undoes it."""
  _call('prctl', _PR_SET_PDEATHSIG, sent)
  if os.getppid() != owner:  # It died before.
    os.kill(os.getpid(), sent)


def _write(path: str, text: str) -> None:
  handle = os.open(path, os.O_WRONLY)
  os.write(handle, text.encode())
  os.close(handle)


def isolate() -> None:
  """Moves this process to a network namespace whose only interface is its own loopback.

  Raises:
    OSError: If the system does not allow it.
  """
  user, group = os.geteuid(), os.getegid()
  try:
    # Without a user namespace files of other users stay readable for root.
    _call('unshare', _CLONE_NEWNET)
  except OSError:
    _call('unshare', _CLONE_NEWUSER | _CLONE_NEWNET)
    _write('/proc/self/setgroups', 'deny')
    _write('/proc/self/uid_map', f'{user} {user} 1')
    _write('/proc/self/gid_map', f'{group} {group} 1')
  with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack('16sh22x', b'lo', _IFF_UP))


def _pump(source: socket.socket, sink: socket.socket) -> None:
  buffer = memoryview(bytearray(_BUFFER_BYTES))
  try:
    while count := source.recv_into(buffer):
      sink.sendall(buffer[:count])
  except OSError:
    pass  # One side has gone; the other is told.
  for one in (source, sink):
    try:
      one.shutdown(socket.SHUT_RDWR)
    except OSError:
      continue


def _serve(near: socket.socket, port: int) -> None:
  with near:
    try:
      far = socket.create_connection(('127.0.0.1', port))
    except OSError:
      return  # The worker does not listen yet: the owner tries again.
    with far:
      far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
      back = threading.Thread(target=_pump, args=(far, near), daemon=True)
      back.start()
      _pump(near, far)
      back.join()


def relay(owner: int, path: str, port: int) -> None:
  """Forwards connections of a Unix socket to a port of a new network namespace, for ever."""

  def remove(*_: Any) -> None:
    shutil.rmtree(os.path.dirname(path), ignore_errors=True)
    os._exit(0)

  try:
    isolate()
  except OSError as error:
    print(error.strerror or error, flush=True)
    return
  signal.signal(signal.SIGTERM, remove)
  _end_with(owner, signal.SIGTERM)
  os.umask(0o177)
  with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(path)
    listener.listen()
    print('ready', flush=True)
    while True:
      connection, _ = listener.accept()
      threading.Thread(target=_serve, args=(connection, port), daemon=True).start()


def worker(owner: int, relay_pid: int, command: list[str]) -> None:
  """Becomes the worker's program, in the namespaces of the relay."""
  if relay_pid:
    for kind in ('user', 'net'):
      handle = os.open(f'/proc/{relay_pid}/ns/{kind}', os.O_RDONLY)
      if os.fstat(handle).st_ino != os.stat(f'/proc/self/ns/{kind}').st_ino:
        _call('setns', handle, 0)
      os.close(handle)
  # Kept across exec.
  _end_with(owner, signal.SIGKILL)
  os.execv(command[0], command)


if __name__ == '__main__':
  if sys.argv[1] == 'relay':
    relay(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
  else:
    worker(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])

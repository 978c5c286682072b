"""Small JSON files that a crash leaves whole, and what killed programs leave next to them."""

import contextlib
import errno
import json
import os
import pathlib
import tempfile
from typing import Any


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes JSON so that a crash leaves the old file or the new one, never a part."""
  handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=_prefix(path))
  try:
    with os.fdopen(handle, 'w', encoding='utf-8') as file:
      json.dump(value, file, indent=2, sort_keys=True)
      file.write('\n')
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(temporary)
    raise


def try_lock(descriptor: int) -> bool:
  """Locks an open file until it is closed; False if another process, or object, has it.

  Raises:
    ImportError: Where the system has no locks that end with their process.
    OSError: Where the file system has none.
  """
  import fcntl

  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except OSError as error:
    if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
      return False
    raise
  return True


def remove_leftovers(path: pathlib.Path) -> None:
  """Removes what killed writers of a JSON file left; nobody else may be writing it."""
  for left in path.parent.glob(f'{_prefix(path)}*'):
    with contextlib.suppress(FileNotFoundError):
      left.unlink()


def _prefix(path: pathlib.Path) -> str:
  return f'.{path.name}.'

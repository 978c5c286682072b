"""Files of a run: JSON that a crash leaves whole, tables, digests, and what killed programs leave."""

import contextlib
import csv
import errno
import hashlib
import io
import json
import math
import numbers
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from typing import IO, Any

from tff_privacy_agg.errors import ConfigurationError

# Columns of `metrics.csv` that are of the round; those of a layer, an account or the ledger have a slash.
_OF_THE_ROUND = {'round', 'seconds', 'survivors'}
_LARGEST = 2**30
_FIRST = {'loss': 0, 'accuracy': 1}


def write_bytes(path: pathlib.Path, content: bytes) -> None:
  """Writes a file so that a crash leaves the old one or the new one, never a part.

  Those may read it whom the umask lets: a reviewer does, for whom `tempfile` would shut it.
  """
  temporary = unused_name(path)
  try:
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(descriptor, 'wb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
    os.replace(temporary, path)
  except BaseException as error:
    if isinstance(error, OSError):
      error.filename = str(path)  # a full disk does not say of which file
    with contextlib.suppress(OSError):
      os.unlink(temporary)
    raise


@contextlib.contextmanager
def new_directory(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A directory to fill, which becomes `path` when the block ends well, and is gone if it does not.

  Args:
    path: Not there yet; its parents are made.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  made = unused_name(path)
  try:
    made.mkdir()
    yield made
    made.rename(path)
  except BaseException as error:
    if isinstance(error, OSError) and error.filename in (None, made, str(made)):
      error.filename = str(path)
    shutil.rmtree(made, ignore_errors=True)
    raise


def read_bounded(path: str | os.PathLike[str], most: int) -> bytes:
  """What a file holds, if that is at most so many bytes: `/dev/zero` does not end.

  Raises:
    OSError: If it cannot be read, or holds more.
  """
  with open(path, 'rb') as file:
    content = file.read(most + 1)
  if len(content) > most:
    raise OSError(errno.EFBIG, f'it has more than {most} bytes', str(path))
  return content


def bounded_lines(file: IO[bytes], most: int) -> Iterator[bytes]:
  """The lines of a file; of one with more than so many bytes, pieces of one byte more than that."""
  return iter(lambda: file.readline(most + 1), b'')


def write_json(path: pathlib.Path, value: Any) -> None:
  """Writes a value as JSON, by `write_bytes`."""
  write_bytes(path, (json.dumps(value, indent=2, sort_keys=True) + '\n').encode('utf-8'))


def read_json(path: pathlib.Path, missing: Mapping[str, Any] | None = None) -> dict[str, Any]:
  """The object in a JSON file.

  Args:
    path: The file.
    missing: What stands for a file that is not there; None refuses that.

  Raises:
    ConfigurationError: If the file holds no JSON object, or text or numbers that nothing could show.
  """
  try:
    text = read_bounded(path, _LARGEST).decode('utf-8')
    found = json.loads(text, parse_int=_integer)
    json.dumps(found, ensure_ascii=False).encode('utf-8')
  except FileNotFoundError:
    if missing is not None:
      return dict(missing)
    raise
  except (ValueError, RecursionError) as error:
    raise ConfigurationError(f'{path} is broken JSON: {error}. Restore the file.') from error
  if not isinstance(found, dict):
    raise ConfigurationError(
      f'{path} must hold a JSON object, and holds a {type(found).__name__}. Restore the file.'
    )
  return found


def _integer(text: str) -> int:
  """An integer that a float can stand for."""
  if math.isinf(float(text)):
    raise ValueError(f'{text[:20]}... is too large a number')
  return int(text)


def read_table(path: pathlib.Path) -> list[dict[str, str]]:
  """The rows of a CSV file, by the names in its first line; [] for a file that is not there.

  A last line that a crash cut off is left out.

  Raises:
    ConfigurationError: If it is no text, or a row has more or fewer fields than there are names.
  """
  try:
    text = read_bounded(path, _LARGEST).decode('utf-8')
    lines = io.StringIO(text[: text.rfind('\n') + 1], newline='')
    names, *rows = [*csv.reader(lines, strict=True)] or [[]]
    found = [dict(zip(names, row, strict=True)) for row in rows]
  except FileNotFoundError:
    return []
  except (ValueError, csv.Error) as error:
    raise ConfigurationError(
      f'{path} is no table of metrics: {error}. Restore the file, or move it away.'
    ) from error
  return found


def model_metrics(row: Mapping[str, Any]) -> dict[str, float]:
  """The evaluation's metrics in a round's metrics: finite numbers, loss and accuracy first."""
  found = {
    name: float(value)
    for name, value in row.items()
    if '/' not in name and name not in _OF_THE_ROUND and isinstance(value, numbers.Real)
  }
  names = sorted(found, key=lambda name: (_FIRST.get(name, len(_FIRST)), name))
  return {name: found[name] for name in names if math.isfinite(found[name])}


def digest(path: pathlib.Path) -> str:
  """SHA-256 of a file; of a directory, over its files' names and contents in order."""
  found = hashlib.sha256()
  for one in [path] if path.is_file() else sorted(p for p in path.rglob('*') if p.is_file()):
    if one != path:
      found.update(one.relative_to(path).as_posix().encode() + b'\0')
    found.update(one.read_bytes())
  return found.hexdigest()


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


@contextlib.contextmanager
def sole_user(directory: pathlib.Path, refusal: str) -> Iterator[None]:
  """Holds a directory, which is there, for one program, by a lock on its file `.lock`.

  A file system without locks refuses nobody.

  Raises:
    ConfigurationError: If another program holds it; `refusal` is the text.
  """
  descriptor = os.open(directory / '.lock', os.O_RDWR | os.O_CREAT, 0o644)
  try:
    with contextlib.suppress(ImportError, OSError):
      if not try_lock(descriptor):
        raise ConfigurationError(refusal)
    yield
  finally:
    os.close(descriptor)


def remove_leftovers(path: pathlib.Path) -> None:
  """Removes what killed writers of a JSON file left; nobody else may be writing it."""
  for left in path.parent.glob(f'{_prefix(path)}*'):
    with contextlib.suppress(FileNotFoundError):
      left.unlink()


def unused_name(path: pathlib.Path) -> pathlib.Path:
  """A name next to a path, for what is to become it; `remove_leftovers` knows such names."""
  return path.with_name(f'{_prefix(path)}{secrets.token_hex(8)}')


def _prefix(path: pathlib.Path) -> str:
  return f'.{path.name}.'

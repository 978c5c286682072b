"""The one writer of a ledger's file: locked, append-only, on the disk before it returns."""

import errno
import os
import pathlib
import stat
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._files import try_lock, unused_name
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.line_format import (
  GENESIS,
  head_path,
  not_a_ledger,
  seal,
  sha256,
  unreadable,
)
from tff_privacy_agg.ledger.line_reader import LineReader

# What `link` fails with where a file system has no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


class LineWriter:
  """The one writer of a file, holding an exclusive lock until it is closed.

  Use `create` or `reopen`. A line that `append` has returned from is on the disk.
  """

  def __init__(self, path: pathlib.Path, descriptor: int, *, seq: int, previous: str, size: int):
    self._path = path
    self._descriptor = descriptor
    self._seq, self._previous, self._size = seq, previous, size
    self._owner = os.getpid()
    self._failed = False
    self._between = b''  # what ends the line before the next one
    self._head = -1

  @classmethod
  def create(cls, path: pathlib.Path, header: Mapping[str, Any]) -> 'LineWriter':
    """Makes the file with its first line; the name appears once that is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = unused_name(path)
    # Those may read it whom the umask lets, as the files next to it.
    try:
      descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    except OSError as error:
      error.filename = str(path)  # its own name, not that of a file that nobody has asked for
      raise
    try:
      _lock(descriptor, path)
      line = seal({**header, 'seq': 0, 'previous': GENESIS})
      _write(descriptor, line + b'\n')
      os.fsync(descriptor)
      os.link(temporary, path)  # unlike a rename, it never replaces a ledger
    except FileExistsError as error:
      os.close(descriptor)
      raise LedgerError(
        f'Another process has just made a ledger at {path}. Open that one.'
      ) from error
    except BaseException as error:
      os.close(descriptor)
      if isinstance(error, OSError) and error.errno in _NO_LINKS:
        raise LedgerError(
          f'Cannot make a ledger at {path}: its file system makes no hard links '
          f'({error.strerror}), which keep one ledger from replacing another. Put the ledger on a '
          'local file system.'
        ) from error
      raise
    finally:
      os.unlink(temporary)
    sync_directory(path.parent)
    writer = cls(path, descriptor, seq=1, previous=sha256(line), size=len(line) + 1)
    writer._write_head()
    return writer

  @classmethod
  def reopen(cls, path: pathlib.Path) -> 'LineWriter':
    """Locks an existing file; it is to be read then, and `go_on` called before the next line.

    Raises:
      LedgerError: If the file is missing, or another writer holds it.
    """
    try:
      descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
    except OSError as error:
      raise unreadable(path, error) from error
    try:
      if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise not_a_ledger(path, 'it is no regular file')
      _lock(descriptor, path)
    except BaseException:
      os.close(descriptor)
      raise
    return cls(path, descriptor, seq=0, previous=GENESIS, size=0)

  def go_on(self, read: LineReader) -> None:
    """Writes after the lines that were read from the file while it was locked."""
    self._seq, self._previous, self._size = read.lines, read.hash, read.size
    self._between = b'' if read.terminated else b'\n'

  @property
  def next_seq(self) -> int:
    """Number of the next line."""
    return self._seq

  @property
  def hash(self) -> str:
    """SHA-256 of the last line."""
    return self._previous

  def append(self, record: Mapping[str, Any], *, after: bytes = b'') -> str:
    """Appends a record and waits until it is on the disk; returns the line's hash.

    Args:
      record: JSON values without `seq` and `previous`.
      after: Bytes of a line that was cut off, when this record closes it.

    Raises:
      LedgerError: If the file is not as this writer left it, or cannot be written.
    """
    self.check()
    links = {'previous': self._previous}
    if after:
      links = {'previous': sha256(after), 'follows': self._previous}
    line = seal({**record, **links, 'seq': self._seq})
    data = (b'\n' if after else self._between) + line + b'\n'
    try:
      _write(self._descriptor, data)
      os.fdatasync(self._descriptor)
    except OSError as error:
      self._failed = True
      raise LedgerError(
        f'Cannot write to {self._path}: {error.strerror}. Free or repair the disk and open the '
        'ledger again; what was cut off stays charged.'
      ) from error
    self._seq, self._previous, self._size = self._seq + 1, sha256(line), self._size + len(data)
    self._between = b''
    self._write_head()
    return self._previous

  def close(self) -> None:
    """Releases the lock."""
    if self._descriptor >= 0:
      os.close(self._descriptor)
      if self._head >= 0:
        os.close(self._head)
    self._descriptor = -1

  def check(self) -> None:
    """Raises unless this object may write, to the file as it left it."""
    if self._descriptor < 0 or self._failed or os.getpid() != self._owner:
      state = 'closed' if self._descriptor < 0 else 'broken' if self._failed else 'of its parent'
      raise LedgerError(
        f'Cannot write to {self._path}: this ledger object is {state}. Open the ledger again, in '
        'the process that runs the rounds.'
      )
    here = os.fstat(self._descriptor)
    if here.st_size != self._size or not self._is_at_path(here):
      raise LedgerError(
        f'Cannot write to {self._path}: another program changed, replaced or removed the file. '
        'Stop the training, and restore the file with `verify`.'
      )

  def _is_at_path(self, here: os.stat_result) -> bool:
    """Whether the path still leads to this file; a copy in its place would miss what follows."""
    try:
      return os.path.samestat(here, os.stat(self._path))
    except OSError:
      return False

  def _write_head(self) -> None:
    # Not synced: a head that lags behind is allowed, a second wait for the disk is not needed.
    if self._head < 0:
      self._head = os.open(head_path(self._path), os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(self._head, f'{self._seq - 1:012d} {self._previous}\n'.encode('ascii'), 0)


def sync_directory(path: pathlib.Path) -> None:
  """Waits until the names in a directory are on the disk."""
  descriptor = os.open(path, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def _lock(descriptor: int, path: pathlib.Path) -> None:
  try:
    locked = try_lock(descriptor)
  except ImportError:
    raise LedgerError(
      f'The ledger {path} cannot be written on this system, which has no locks that end with their '
      'process. Write it on Linux or macOS; reading and verifying it works here.'
    ) from None
  except OSError as error:
    raise LedgerError(
      f'Cannot write the ledger {path}: its file system locks no files ({error.strerror}), so a '
      'second writer would go unnoticed. Put the ledger on a local file system.'
    ) from error
  if not locked:
    raise LedgerError(
      f'Cannot write the ledger {path}: another writer has it open. Run one training at a time, or '
      'give this one its own ledger.'
    )


def _write(descriptor: int, data: bytes) -> None:
  if os.write(descriptor, data) != len(data):
    raise OSError(errno.ENOSPC, 'the disk is full')

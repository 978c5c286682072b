"""Participants of every round: salted hashes in a file next to the ledger.

The ledger itself holds, for each round, one digest of the cohort and the largest
number of rounds that any one client has taken part in. Whoever holds this file
can test guesses of identities against it: keep it where the training runs.
"""

import errno
import hashlib
import hmac
import json
import os
import pathlib
import secrets
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._files import bounded_lines
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_file as ledger_file
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.line_format import companion
from tff_privacy_agg.ledger.participation.counts import EligibleClients, ParticipationCounts
from tff_privacy_agg.ledger.round_lists import Digests

# Of a line: a cohort of 39 million clients.
_LONGEST_LINE = 2**30
_HASH_SIZE = 24  # hexadecimal digits: 96 bits, no two of a million clients meet
# From format 2 on the digests, which the ledger holds too, are of the salt as well: with another one
# all clients would have new hashes, and could take part as often again.
_FORMAT = 2


def register_path(path: pathlib.Path) -> pathlib.Path:
  """Path of the participants of a ledger's rounds."""
  return companion(path, 'participants')


class Participants:
  """The register of one ledger; written by the ledger's one writer.

  Attributes:
    counts: How often, and when, its clients have taken part.

  Args:
    path: The register's file; made when the first cohort is recorded.
    facts: What the ledger claims: of participations, of their separation, of how cohorts are drawn.
    read: Whether to read it at once; else `replay` reads it.

  Raises:
    LedgerError: If the file cannot be read.
  """

  def __init__(self, path: pathlib.Path, facts: LedgerFacts, *, read: bool = True):
    self.counts = ParticipationCounts(facts)
    self._path = path
    self._salt, self._format = secrets.token_bytes(32), _FORMAT
    self._digests = Digests()
    self._descriptor = -1
    self._position = 1  # of the last cohort that was read
    self._size = 0
    if read and path.exists():
      for _ in self.replay():
        pass

  @property
  def digests(self) -> Digests:
    """The digest of each recorded cohort, in order."""
    return self._digests

  def hashes(self, cohort: Iterable[str]) -> list[str]:
    """Salted hashes of a cohort, sorted.

    Raises:
      LedgerError: If a client is in it twice: it would count with twice its sensitivity.
    """
    names = list(cohort)
    for name in names:
      _validate.instance(str, client_id=name)
    hashed = sorted(self._hash(name) for name in names)
    if len(set(hashed)) < len(hashed):
      raise LedgerError(
        f'A cohort holds each client once; this one of {len(hashed)} repeats '
        f'{len(hashed) - len(set(hashed))}. Draw cohorts without repetition.'
      )
    return hashed

  def eligible(self, clients: Iterable[str], position: int | None = None) -> list[str]:
    """Those of `clients` whom cap and separation let take part in one more round.

    Args:
      clients: All clients.
      position: Of that round, where a separation is claimed.
    """
    if self.counts.cap is None and position is None:
      return list(clients)
    names = list(clients)
    free, taken = self.counts.free([self._hash(name) for name in names], position)
    chosen = np.flatnonzero(free)
    separation = 1 if self.counts.separation is None else self.counts.separation
    return EligibleClients([names[index] for index in chosen], taken[chosen].tolist(), separation)

  def record(self, hashed: Sequence[str], position: int | None = None) -> str:
    """Writes a cohort, and the position of its round if it has one, to the disk; returns its digest."""
    digest = self._digest(hashed)
    if self._descriptor < 0:
      self._open()
    entry: dict[str, Any] = {'cohort': list(hashed), 'digest': digest}
    if position is not None:
      entry['position'] = position
    self._append(json.dumps(entry, separators=(',', ':')).encode('ascii') + b'\n')
    self.counts.add(hashed, position)
    self._digests.append(digest)
    return digest

  def close(self) -> None:
    """Closes the file."""
    if self._descriptor >= 0:
      os.close(self._descriptor)
    self._descriptor = -1

  def _hash(self, name: str) -> str:
    return hmac.new(self._salt, name.encode('utf-8'), hashlib.sha256).hexdigest()[:_HASH_SIZE]

  def _digest(self, hashed: Sequence[str]) -> str:
    text = ','.join(hashed).encode('ascii')
    if self._format == 1:
      return hashlib.sha256(text).hexdigest()
    return hmac.new(self._salt, text, hashlib.sha256).hexdigest()

  def _open(self) -> None:
    new = self._size == 0
    self._descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    # A line that a crash cut off belongs to a round that never began.
    os.ftruncate(self._descriptor, self._size)
    if new:
      first = {'format': self._format, 'salt': self._salt.hex()}
      self._append(json.dumps(first).encode('ascii') + b'\n')
      ledger_file.sync_directory(self._path.parent)

  def _append(self, line: bytes) -> None:
    if len(line) > _LONGEST_LINE:
      raise LedgerError(
        f'A cohort of {self._path} has at most {_LONGEST_LINE} bytes; this one has {len(line)}. Draw '
        'smaller cohorts; the round was not charged and must not run.'
      )
    try:
      if os.write(self._descriptor, line) != len(line):
        raise OSError(errno.ENOSPC, 'the disk is full')
      os.fdatasync(self._descriptor)
    except OSError as error:
      os.ftruncate(self._descriptor, self._size)
      raise LedgerError(
        f'Cannot write the cohort to {self._path}: {error.strerror}. Free or repair the disk; the '
        'round was not charged and must not run.'
      ) from error
    self._size += len(line)

  def replay(self) -> Iterator[tuple[str, int, int | None]]:
    """Counts the cohorts of the file, one by one: yields the digest, size and position of each.

    Raises:
      LedgerError: If the file cannot be read.
    """
    try:
      with self._path.open('rb') as file:
        for number, line in enumerate(bounded_lines(file, _LONGEST_LINE)):
          if len(line) > _LONGEST_LINE:
            raise ValueError(f'line {number + 1} has more than {_LONGEST_LINE} bytes')
          if not line.endswith(b'\n'):
            return  # a crash cut it off, and its round never began
          record = json.loads(line)
          self._size += len(line)
          if number == 0:
            self._salt, self._format = bytes.fromhex(record['salt']), record.get('format', 1)
            if self._format not in (1, _FORMAT):
              raise ValueError(
                f'its format is {self._format!r}, this version knows 1 and {_FORMAT}'
              )
            continue
          hashed, digest = record['cohort'], record['digest']
          # With a comma in it, two clients would count as another one, under the same digest.
          alone = isinstance(hashed, list) and not any(',' in one for one in hashed)
          if not alone or len({*hashed}) < len(hashed):
            raise ValueError(f'line {number + 1} is no cohort')
          if self._digest(hashed) != digest:
            raise ValueError(f'line {number + 1} was changed')
          separated = self.counts.separation is not None
          position = record['position'] if separated else None
          if position is not None and (type(position) is not int or position < self._position):
            raise ValueError(f'line {number + 1} is of position {position!r}')
          if position is not None:
            self._position = position
            self.counts.check_separation(hashed, position)
          self.counts.add(hashed, position)
          self._digests.append(digest)
          yield digest, len(hashed), position
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
      raise LedgerError(
        f'{self._path} holds who took part in the rounds; it cannot be read: {error}. Restore it, '
        'or begin a new ledger.'
      ) from error


def missing(register: Iterable[str], charged: Iterable[str]) -> int:
  """Number of cohorts that the ledger charged and the register lacks, in order."""
  lacking = 0
  remaining = iter(register)
  for digest in charged:
    # Cohorts of rounds that a crash stopped before their charge may stand in between.
    if not any(found == digest for found in remaining):
      lacking += 1
  return lacking

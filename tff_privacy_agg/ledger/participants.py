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
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger import line_file as ledger_file
from tff_privacy_agg.ledger.facts import LedgerFacts
from tff_privacy_agg.ledger.line_format import companion
from tff_privacy_agg.ledger.round_lists import Digests
from tff_privacy_agg.ledger.verification.sampling_evidence import SamplingEvidence

_NEVER = -(2**40)  # the position of who has not taken part
_HASH_SIZE = 24  # hexadecimal digits: 96 bits, no two of a million clients meet
# From format 2 on the digests, which the ledger holds too, are of the salt as well: with another one
# all clients would have new hashes, and could take part as often again.
_FORMAT = 2


def register_path(path: pathlib.Path) -> pathlib.Path:
  """Path of the participants of a ledger's rounds."""
  return companion(path, 'participants')


class EligibleClients(list[str]):
  """Clients who may take part in the next round, with what the register knows of them.

  Attributes:
    taken: Rounds that each has taken part in, in order.
    separation: All of them have been away for so many rounds that the next one keeps this
      separation; 1 where the ledger claims none.
  """

  def __init__(self, clients: Iterable[str], taken: Sequence[int], separation: int = 1):
    super().__init__(clients)
    self.taken, self.separation = taken, separation


class Participants:
  """The register of one ledger; written by the ledger's one writer.

  Args:
    path: The register's file; made when the first cohort is recorded.
    facts: What the ledger claims: of participations, of their separation, of how cohorts are drawn.
    read: Whether to read it at once; else `replay` reads it.

  Raises:
    LedgerError: If the file cannot be read.
  """

  def __init__(self, path: pathlib.Path, facts: LedgerFacts, *, read: bool = True):
    claim = facts.sampling
    self._path, self._cap, self._separation = path, facts.cap, facts.separation
    self._salt, self._format = secrets.token_bytes(32), _FORMAT
    self._numbers: dict[str, int] = {}  # by hash, in the order of first participation
    self._taken = np.zeros(0, np.int64)  # rounds that each has taken part in, by number
    # Position of the last of them, where a separation is claimed.
    self._last = np.zeros(0, np.int64)
    self._digests = Digests()
    self._descriptor = -1
    self._most = 0
    self._position = 1  # of the last cohort that was read
    self._size = 0
    self._evidence = SamplingEvidence(claim) if claim.claims else None
    if read and path.exists():
      for _ in self.replay():
        pass

  @property
  def most(self) -> int:
    """Most rounds that any client has taken part in."""
    return self._most

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
    if self._cap is None and position is None:
      return list(clients)
    names = list(clients)
    numbers = self._numbers_of([self._hash(name) for name in names])
    taken = self._before(numbers)
    free = ~self._too_soon(numbers, position)
    if self._cap is not None:
      free &= taken < self._cap
    separation = 1 if self._separation is None else self._separation
    chosen = np.flatnonzero(free)
    return EligibleClients([names[index] for index in chosen], taken[chosen].tolist(), separation)

  @property
  def people(self) -> int:
    """Clients that have taken part in a round."""
    return len(self._numbers)

  def check_practice(self, hashed: Sequence[str] = ()) -> None:
    """Raises if the cohorts so far, and this one, are not drawn as is claimed.

    Raises:
      LedgerError: If they are not.
    """
    if self._evidence is not None:
      numbers = self._numbers_of(hashed)
      self._evidence.check(numbers, self._before(numbers))

  def check(self, hashed: Sequence[str], population: int, position: int | None = None) -> int:
    """Returns what `most` would be with this cohort.

    Args:
      hashed: The cohort.
      population: Clients that there are, as the ledger states it.
      position: Of its round, where a separation is claimed.

    Raises:
      LedgerError: If a client would take part in more rounds than the cap, or too soon again, or
        there are more clients than the population.
    """
    people = len(self._numbers.keys() | set(hashed))
    if people > population:
      raise LedgerError(
        f'The ledger is of a population of {counted(population, "client")}; with this cohort '
        f'{people} have taken part. Begin a ledger with the true number, which delta is judged by.'
      )
    numbers = self._numbers_of(hashed)
    self._check_separation(numbers, position)
    taken = self._before(numbers)
    if self._cap is not None and taken.max(initial=0) >= self._cap:
      spent = int((taken >= self._cap).sum())
      raise LedgerError(
        f'A client takes part in at most {counted(self._cap, "round")}; {spent} of this cohort of '
        f'{len(hashed)} already did. Draw the cohort from `ledger.eligible(clients)`.'
      )
    return max(self._most, int(taken.max(initial=0)) + 1)

  def record(self, hashed: Sequence[str], position: int | None = None) -> str:
    """Writes a cohort, and the position of its round if it has one, to the disk; returns its digest."""
    digest = self._digest(hashed)
    if self._descriptor < 0:
      self._open()
    entry: dict[str, Any] = {'cohort': list(hashed), 'digest': digest}
    if position is not None:
      entry['position'] = position
    self._append(json.dumps(entry, separators=(',', ':')).encode('ascii') + b'\n')
    self._count(list(hashed), digest, position)
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

  def _count(self, hashed: list[str], digest: str, position: int | None) -> None:
    numbers = np.array([self._numbers.setdefault(one, len(self._numbers)) for one in hashed], int)
    if len(self._numbers) > len(self._taken):
      self._taken = np.append(self._taken, np.zeros(len(self._numbers), np.int64))
      self._last = np.append(self._last, np.full(len(self._numbers), _NEVER))
    if position is not None:
      self._last[numbers] = position
    before = self._taken[numbers]
    if self._evidence is not None:
      self._evidence.add(numbers, before)
    self._taken[numbers] += 1
    self._most = max(self._most, int(before.max(initial=-1)) + 1)
    self._digests.append(digest)

  def _numbers_of(self, hashed: Sequence[str]) -> np.ndarray:
    """The number of each client; -1 for who has not taken part yet."""
    return np.array([self._numbers.get(one, -1) for one in hashed], int)

  def _before(self, numbers: np.ndarray) -> np.ndarray:
    """Rounds that each has taken part in."""
    known = numbers >= 0
    taken = np.zeros(len(numbers), np.int64)
    taken[known] = self._taken[numbers[known]]
    return taken

  def _too_soon(self, numbers: np.ndarray, position: int | None) -> np.ndarray:
    """Who of the clients would take part again before the separation is over.

    An entry at the same position is of a round that drew no noise: it was never charged, or taken
    back.
    """
    known = numbers >= 0
    near = np.zeros(len(numbers), bool)
    if self._separation is not None and position is not None:
      apart = position - self._last[numbers[known]]
      near[known] = (apart < self._separation) & (apart != 0)
    return near

  def _check_separation(self, numbers: np.ndarray, position: int | None) -> None:
    near = int(self._too_soon(numbers, position).sum())
    if near:
      raise LedgerError(
        f'Two rounds of one client are at least {self._separation} apart; {near} of this cohort of '
        f'{len(numbers)} took part less than that ago. Draw the cohort from '
        '`ledger.eligible(clients)`, as `SeparatedCohorts` does.'
      )

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
        for number, line in enumerate(file):
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
          position = record['position'] if self._separation is not None else None
          if position is not None and (type(position) is not int or position < self._position):
            raise ValueError(f'line {number + 1} is of position {position!r}')
          if position is not None:
            self._position = position
            self._check_separation(self._numbers_of(hashed), position)
          self._count(hashed, digest, position)
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

"""Lists with an entry for every round of a ledger, in a few bytes each."""

import array
import dataclasses
import re
import typing
from collections.abc import Iterator, Sequence

_DIGEST = re.compile('[0-9a-f]{64}')


@dataclasses.dataclass(frozen=True)
class Settled:
  """What happened in a settled round: line number, survivors, honest ones, noise multiplier."""

  seq: int
  survivors: int
  counted_by: str
  honest: int
  noise_multiplier: float
  updated: bool


class SettledRounds(Sequence[Settled]):
  """The settled rounds, in order: 12 bytes each, as most of them are alike."""

  def __init__(self):
    self._alike: dict[tuple, int] = {}  # what is stated of rounds, and its number
    self._stated: list[tuple] = []
    self._numbers = array.array('I')
    self._seqs = array.array('q')

  def append(self, seq: int, *stated: typing.Any) -> None:
    """Adds a round; arguments as those of `Settled`."""
    number = self._alike.setdefault(stated, len(self._stated))
    if number == len(self._stated):
      self._stated.append(stated)
    self._seqs.append(seq)
    self._numbers.append(number)

  def __len__(self) -> int:
    return len(self._seqs)

  def __getitem__(self, index):
    if isinstance(index, slice):
      return [self[one] for one in range(*index.indices(len(self)))]
    return Settled(self._seqs[index], *self._stated[self._numbers[index]])


class Digests:
  """SHA-256 digests in hexadecimal, in order: 32 bytes each."""

  def __init__(self):
    self._bytes = bytearray()

  def append(self, digest: str) -> None:
    """Adds one.

    Raises:
      ValueError: If it is none.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
      raise ValueError(f'{digest!r} is no SHA-256 digest')
    self._bytes += bytes.fromhex(digest)

  def __len__(self) -> int:
    return len(self._bytes) // 32

  def __iter__(self) -> Iterator[str]:
    return (self._bytes[at : at + 32].hex() for at in range(0, len(self._bytes), 32))

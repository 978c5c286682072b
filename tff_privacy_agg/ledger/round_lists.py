"""Rounds in order: lists with an entry for each in a few bytes, and which of them share noise."""

import array
import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator, Sequence

_DIGEST = re.compile('[0-9a-f]{64}')


@dataclasses.dataclass(frozen=True)
class Settled:
  """A settled round: line number, survivors, honest ones, noise multiplier."""

  seq: int
  survivors: int
  counted_by: str
  honest: int
  noise_multiplier: float
  updated: bool


class SettledRounds(Sequence[Settled]):
  """The settled rounds, in order: 12 bytes each, as most of them are alike."""

  def __init__(self) -> None:
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

  @typing.overload
  def __getitem__(self, index: int) -> Settled: ...

  @typing.overload
  def __getitem__(self, index: slice) -> list[Settled]: ...

  def __getitem__(self, index: int | slice) -> Settled | list[Settled]:
    if isinstance(index, slice):
      return [self[one] for one in range(*index.indices(len(self)))]
    return Settled(self._seqs[index], *self._stated[self._numbers[index]])


class Digests:
  """SHA-256 digests in hexadecimal, in order: 32 bytes each."""

  def __init__(self) -> None:
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


class Chain:
  """Charged rounds whose noise is correlated: how far apart they are, and when that must end.

  A round shares noise with those charged before it, until the noise restarts. Two rounds are as far
  apart as their positions; a restart moves the next one out of reach of all before.

  Args:
    separation: Smallest distance of two rounds of one client.

  Attributes:
    position: Of the last charge; 0 before the first one.
    restarts: How often the noise began anew.
  """

  def __init__(self, separation: int):
    self.position = 0
    self.restarts = 0
    self._separation = separation
    self._began = 0  # line of the last restart
    # Line of the last charge, its round, and the round before.
    self._last: tuple[int, int, int] = (0, -1, -1)
    self._lost = False

  def must_restart(self, number: int, open_charges: Iterable[int]) -> bool:
    """Whether a round would be drawn from noise that may have been released without it.

    Args:
      number: The round.
      open_charges: Lines of the charges that are not settled.
    """
    return self._lost or number <= self._last[1] or any(seq > self._began for seq in open_charges)

  def charge(self, seq: int, number: int) -> None:
    """Adds a charge of a line for a round."""
    self.position += 1
    self._last = (seq, number, self._last[1])

  def take_back(self, seq: int) -> None:
    """Takes a charge back whose round drew no noise; one before a restart stays."""
    if seq == self._last[0]:
      self.position -= 1
      self._last = (0, self._last[2], -1)

  def lose(self) -> None:
    """Notes a charge that was cut off: its round may have drawn noise."""
    self.position += 1
    self._lost = True

  def restart(self, seq: int) -> None:
    """Notes that the noise begins anew after a line."""
    self.position += self._separation - 1
    self.restarts += 1
    self._began, self._last, self._lost = seq, (0, -1, -1), False

"""Sums of packed vectors, of which several are unpacked at once.

Packed vectors are added as the words that they are. A carry out of a field would change its
neighbour, so each word is added twice: whole, and every second field of it alone, with the room of
a field above each. The difference is the sum of the other fields. The lower part of an element
that goes on in the next word has no room above it; it is added a third time, shifted down.
Memory is what bounds this: a block's sums stay in a core's cache, so that each vector is read once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tff_privacy_agg.secagg.primitives import packing
from tff_privacy_agg.secagg.primitives.packing import WORD, Tile
from tff_privacy_agg.secagg.primitives.prg import word_dtype

# Vectors that are added at once, and bytes of them that may wait for it.
_AT_ONCE = 8
_WAITING_BYTES = 2**25


class _Field(NamedTuple):
  """The part of an element in one word: `size` bits from `start`, `above` bits of it before."""

  element: int
  start: int
  size: int
  above: int


class _Row(NamedTuple):
  """One word: its fields but the last if that goes on in the next word, which is `crossing`."""

  fields: list[_Field]
  crossing: _Field | None

  def mask(self) -> int:
    """Bits of every second field."""
    return sum(((1 << field.size) - 1) << field.start for field in self.fields[1::2])


def _rows(bits: int) -> list[_Row]:
  """The words of one period of the packing."""
  _, elements, rows = packing.layout(bits)
  found = []
  for row in range(rows):
    fields = []
    for element in range(elements):
      first, last = max(element * bits, 64 * row), min((element + 1) * bits, 64 * row + 64)
      if first < last:
        fields.append(_Field(element, first % 64, last - first, first - element * bits))
    goes_on = fields[-1].above + fields[-1].size < bits
    found.append(_Row(fields[:-1], fields[-1]) if goes_on else _Row(fields, None))
  return found


class PackedSum:
  """The sum of packed vectors, modulo 2**bits; holds up to 8 of them, of 32 MB together, until it adds them.

  Args:
    size: Elements of a vector.
    bits: Bits of each.
  """

  def __init__(self, size: int, bits: int):
    self._bits, self._rows = bits, _rows(bits)
    self._total = np.zeros(64 * packing.columns(size), word_dtype(bits))
    # A field has room for as many bits as lie between it and the next that it is summed with.
    room = [bits, *(row.crossing.start for row in self._rows if row.crossing is not None)]
    waiting = _WAITING_BYTES // packing.packed_bytes(size, bits)
    self._most = max(1, min(_AT_ONCE, waiting, 2 ** min(room)))
    self._waiting: list[np.ndarray] = []

  def add(self, packed: np.ndarray) -> None:
    """Adds [bits, m] u64 of `packing.pack`, which must not change any more."""
    self._waiting.append(packed)
    if len(self._waiting) == self._most:
      self._add_waiting()

  def words(self) -> np.ndarray:
    """[64 m] words: the sum is in their lower `bits`, what is above is arbitrary."""
    if self._waiting:
      self._add_waiting()
    return self._total

  def _add_waiting(self) -> None:
    groups, elements, rows = packing.layout(self._bits)
    m = self._total.size // 64
    sources = [packed.reshape(groups, rows, m) for packed in self._waiting]
    sums = self._total.reshape(groups, elements, m)

    def add_some(tiles: Iterator[Tile]) -> None:
      for some, columns in tiles:
        given = [source[some, :, columns] for source in sources]
        for number, row in enumerate(self._rows):
          _add_row(row, [one[:, number] for one in given], sums[some, :, columns])

    packing.in_tiles(add_some, groups, m, sum(packed.nbytes for packed in sources))
    self._waiting = []


def _add_row(row: _Row, words: list[np.ndarray], total: np.ndarray) -> None:
  """Adds the fields of one word of each vector to [groups, elements, columns]."""
  others, every_second, lower, scratch = np.zeros((4, *words[0].shape), WORD)
  mask = WORD.type(row.mask())
  shift = WORD.type(0 if row.crossing is None else row.crossing.start)
  for word in words:
    np.add(others, word, out=others)
    if mask:
      np.add(every_second, np.bitwise_and(word, mask, out=scratch), out=every_second)
    if row.crossing is not None:
      np.add(lower, np.right_shift(word, shift, out=scratch), out=lower)
  others -= every_second
  if row.crossing is not None:
    others -= np.left_shift(lower, shift, out=scratch)
    total[:, row.crossing.element] += lower.astype(total.dtype)
  for place, field in enumerate(row.fields):
    np.right_shift(every_second if place % 2 else others, WORD.type(field.start), out=scratch)
    if field.above:
      np.left_shift(scratch, WORD.type(field.above), out=scratch)
    total[:, field.element] += scratch.astype(total.dtype)

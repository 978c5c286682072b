"""Planar packing: exactly b bits for each element on the wire, 1 <= b <= 62.

A vector is padded to 64 m elements and seen as a matrix X[64, m]. Column c of the
result P[b, m] is the 64 b-bit concatenation of column c of X, element 0 lowest.
All inner loops run over contiguous rows.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np

from tff_privacy_agg.secagg.primitives import parallel
from tff_privacy_agg.secagg.primitives.prg import word_dtype

# Words that are packed at a time: two rows of them stay in a core's second-level cache.
_BLOCK = 32768
WORD = np.dtype('<u8')
Tile = tuple[slice, slice]


def columns(size: int) -> int:
  """Columns of the packed matrix of `size` elements."""
  return -(-size // 64)


def packed_bytes(size: int, bits: int) -> int:
  """Bytes of `size` packed elements."""
  return 8 * bits * columns(size)


def pad(values: np.ndarray, bits: int) -> np.ndarray:
  """Integers as zero-padded words modulo the word's size, `64 * columns` of them."""
  out = np.zeros(64 * columns(values.size), word_dtype(bits))
  out[: values.size] = values.ravel()
  return out


def layout(bits: int) -> tuple[int, int, int]:
  """Shifts repeat after 64 / g elements, that is b / g words, g = gcd(b, 64): (g, 64 / g, b / g)."""
  groups = math.gcd(bits, 64)
  return groups, 64 // groups, bits // groups


def _tiles(groups: int, m: int, parts: int) -> list[Tile]:
  """Groups and columns that go together: whole rows where they fit, for long inner loops.

  There are at least `parts` tiles, if there are so many columns.
  """
  block = min(_BLOCK, -(-groups * m // parts))
  width = min(m, block)
  height = max(1, block // width)
  return [
    (slice(group, min(group + height, groups)), slice(column, min(column + width, m)))
    for group in range(0, groups, height)
    for column in range(0, m, width)
  ]


def in_tiles(work: Callable[[Iterator[Tile]], None], groups: int, m: int, size: int) -> None:
  """Has threads work on the tiles of a packed matrix; `size` bytes in all."""
  parallel.share(work, _tiles(groups, m, parallel.threads(size)), size)


def pack(words: np.ndarray, bits: int) -> np.ndarray:
  """Packs `64 m` words; bits above `bits` are cut off.

  Args:
    words: [64 m], of `word_dtype(bits)`.
    bits: Bits to keep of each.

  Returns:
    [bits, m] little-endian u64.
  """
  m = words.size // 64
  groups, elements, rows = layout(bits)
  source = words.reshape(groups, elements, m)
  out = np.empty((groups, rows, m), WORD)
  keep = WORD.type(2**bits - 1)

  def pack_some(tiles: Iterator[Tile]) -> None:
    for some, columns_of in tiles:
      given, target = source[some, :, columns_of], out[some, :, columns_of]
      wide, shifted = np.empty((2, len(given), given.shape[2]), WORD)
      for i in range(elements):
        row, shift = divmod(i * bits, 64)
        wide[...] = given[:, i]
        # At the upper end of a word the shift cuts off what is above.
        if (shift + bits) % 64 and bits < 8 * words.itemsize:
          np.bitwise_and(wide, keep, out=wide)
        if shift:
          np.left_shift(wide, WORD.type(shift), out=shifted)
          np.bitwise_or(target[:, row], shifted, out=target[:, row])
        else:
          target[:, row] = wide
        if shift + bits > 64:
          np.right_shift(wide, WORD.type(64 - shift), out=target[:, row + 1])

  in_tiles(pack_some, groups, m, words.nbytes)
  return out.reshape(bits, m)


def add_packed(total: np.ndarray, packed: np.ndarray, bits: int) -> None:
  """Adds a packed vector to unpacked words, in place.

  Bits of `total` from `bits` on are left with neighbouring elements' bits in them:
  sums are right modulo 2**bits only, which saves a pass.

  Args:
    total: [64 m], of `word_dtype(bits)`.
    packed: [bits, m] u64, from `pack`.
    bits: Bits of each element.
  """
  m = packed.shape[1]
  groups, elements, rows = layout(bits)
  source = packed.reshape(groups, rows, m)
  sums = total.reshape(groups, elements, m)

  def add_some(tiles: Iterator[Tile]) -> None:
    for some, columns_of in tiles:
      given, target = source[some, :, columns_of], sums[some, :, columns_of]
      wide, upper = np.empty((2, len(given), given.shape[2]), WORD)
      narrow = np.empty(wide.shape, total.dtype)
      for i in range(elements):
        row, shift = divmod(i * bits, 64)
        np.right_shift(given[:, row], WORD.type(shift), out=wide)
        if shift + bits > 64:
          np.left_shift(given[:, row + 1], WORD.type(64 - shift), out=upper)
          np.bitwise_or(wide, upper, out=wide)
        np.copyto(narrow, wide, casting='unsafe')
        np.add(target[:, i], narrow, out=target[:, i])

  in_tiles(add_some, groups, m, total.nbytes)


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
  """The inverse of `pack`: [bits, m] u64 to [64 m] words."""
  words = np.zeros(64 * packed.shape[1], word_dtype(bits))
  add_packed(words, packed, bits)
  return np.bitwise_and(words, words.dtype.type(2**bits - 1), out=words)

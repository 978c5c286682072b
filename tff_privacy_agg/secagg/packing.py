"""Planar packing: exactly b bits for each element on the wire, 1 <= b <= 62.

A vector is padded to 64 m elements and seen as a matrix X[64, m]. Column c of the
result P[b, m] is the 64 b-bit concatenation of column c of X, element 0 lowest.
All inner loops run over contiguous rows.
"""

import math

import numpy as np

from tff_privacy_agg.secagg.prg import word_dtype

# Words that are packed at a time: the rows of a block stay in cache.
_BLOCK = 65536
_WORD = np.dtype('<u8')


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


def _groups(bits: int, m: int) -> tuple[int, int, int, list[slice]]:
  """Shifts repeat after 64 / g elements, b / g words, g = gcd(b, 64): g groups go together.

  Returns:
    g, elements and words of a group, and the blocks of columns.
  """
  groups = math.gcd(bits, 64)
  step = _BLOCK // groups
  return (
    groups,
    64 // groups,
    bits // groups,
    [slice(start, min(start + step, m)) for start in range(0, m, step)],
  )


def pack(words: np.ndarray, bits: int) -> np.ndarray:
  """Packs `64 m` words; bits above `bits` are cut off.

  Args:
    words: [64 m], of `word_dtype(bits)`.
    bits: Bits to keep of each.

  Returns:
    [bits, m] little-endian u64.
  """
  m = words.size // 64
  groups, elements, rows, blocks = _groups(bits, m)
  source = words.reshape(groups, elements, m)
  out = np.empty((groups, rows, m), _WORD)
  keep = _WORD.type(2**bits - 1)
  for block in blocks:
    wide, shifted = np.empty((2, groups, block.stop - block.start), _WORD)
    target = out[:, :, block]
    for i in range(elements):
      row, shift = divmod(i * bits, 64)
      wide[...] = source[:, i, block]
      np.bitwise_and(wide, keep, out=wide)
      if shift:
        np.left_shift(wide, _WORD.type(shift), out=shifted)
        np.bitwise_or(target[:, row], shifted, out=target[:, row])
      else:
        target[:, row] = wide
      if shift + bits > 64:
        np.right_shift(wide, _WORD.type(64 - shift), out=target[:, row + 1])
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
  groups, elements, rows, blocks = _groups(bits, m)
  source = packed.reshape(groups, rows, m)
  sums = total.reshape(groups, elements, m)
  for block in blocks:
    wide, upper = np.empty((2, groups, block.stop - block.start), _WORD)
    for i in range(elements):
      row, shift = divmod(i * bits, 64)
      np.right_shift(source[:, row, block], _WORD.type(shift), out=wide)
      if shift + bits > 64:
        np.left_shift(source[:, row + 1, block], _WORD.type(64 - shift), out=upper)
        np.bitwise_or(wide, upper, out=wide)
      piece = sums[:, i, block]
      np.add(piece, wide, out=piece, dtype=piece.dtype, casting='unsafe')


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
  """The inverse of `pack`: [bits, m] u64 to [64 m] words."""
  words = np.zeros(64 * packed.shape[1], word_dtype(bits))
  add_packed(words, packed, bits)
  return np.bitwise_and(words, words.dtype.type(2**bits - 1), out=words)

"""The gray pictures that an audit leaves, as inline SVG: a report loads nothing."""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.reports import drawing
from tff_privacy_agg.reports.markup import Html, element

_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_GRAY = (8, 0, 0, 0, 0)  # 8 bits, gray, nothing interlaced
_MOST_PIXELS, _MOST_CELLS, _SHADES = 4_000_000, 10_000, 16


def gray(content: bytes) -> np.ndarray:
  """The pixels `[height, width]`, uint8, of a PNG file such as `audit.pictures` writes.

  Raises:
    ConfigurationError: If it is another kind of PNG file, broken, or larger than 4 megapixels.
  """
  try:
    if not content.startswith(_SIGNATURE):
      raise ValueError('it has no signature')
    chunks = list(_chunks(content))
    width, height, *kind = struct.unpack('>IIBBBBB', dict(chunks)[b'IHDR'])
    if tuple(kind) != _GRAY or not 0 < width * height <= _MOST_PIXELS:
      raise ValueError(f'it has {width} x {height} pixels of kind {kind}')
    size = height * (width + 1)
    packed = b''.join(part for name, part in chunks if name == b'IDAT')
    lines = zlib.decompressobj().decompress(packed, size)
    rows = np.frombuffer(lines, np.uint8).reshape(height, width + 1)
    if rows[:, 0].any():
      raise ValueError('its lines are filtered')
  except (ValueError, KeyError, struct.error, zlib.error) as error:
    raise ConfigurationError(
      f'A gray PNG picture of an audit was to be read; {error}. Run the audit again.'
    ) from error
  return rows[:, 1:]


def drawn(key: str, pixels: np.ndarray, caption: str) -> Html:
  """A picture as runs of equal cells in 16 shades; its words alone where it has too many."""
  cells = _without_repeats(pixels)
  if cells.size > _MOST_CELLS:
    return element('p', f'{caption} (left out: {cells.size:,} cells)', class_='missing')
  shades = np.rint(cells.astype(float) * (_SHADES - 1) / 255).astype(int)
  paths = []
  for shade in np.unique(shades):
    runs = ''.join(f'M{x} {y}h{length}v1h-{length}z' for y, x, length in _runs(shades == shade))
    level = round(255 * int(shade) / (_SHADES - 1))
    paths.append(element('path', d=runs, fill=f'#{level:02x}{level:02x}{level:02x}'))
  height, width = cells.shape
  picture = drawing.svg(caption, paths, width, height, shape_rendering='crispEdges')
  return drawing.figure(key, caption, picture, class_='picture')


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
  start = len(_SIGNATURE)
  while start < len(content):
    length, name = struct.unpack_from('>I4s', content, start)
    part = content[start + 8 : start + 8 + length]
    (check,) = struct.unpack_from('>I', content, start + 8 + length)
    if check != zlib.crc32(name + part):
      raise ValueError('a part of it has another checksum')
    yield name, part
    start += 12 + length


def _without_repeats(pixels: np.ndarray) -> np.ndarray:
  """The picture with one cell for each block of equal pixels."""
  for side in range(math.gcd(*pixels.shape), 1, -1):
    if math.gcd(*pixels.shape) % side == 0:
      small = pixels[::side, ::side]
      if np.array_equal(np.kron(small, np.ones([side, side], np.uint8)), pixels):
        return small
  return pixels


def _runs(cells: np.ndarray) -> Iterator[tuple[int, int, int]]:
  """Row, first column and length of each run of true cells."""
  padded = np.pad(cells.astype(np.int8), ((0, 0), (1, 1)))
  for y, row in enumerate(np.diff(padded, axis=1)):
    for begin, end in zip(np.flatnonzero(row == 1), np.flatnonzero(row == -1), strict=True):
      yield y, int(begin), int(end - begin)

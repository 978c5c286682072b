"""Gray pictures as PNG files, without a library."""

import struct
import zlib

import numpy as np

from tff_privacy_agg.errors import ConfigurationError

_SIGNATURE = b'\x89PNG\r\n\x1a\n'


def png(image: np.ndarray) -> bytes:
  """A gray image as the bytes of a PNG file of 8 bits a pixel.

  Args:
    image: `[height, width]`, from 0 (black) to 1 (white); beyond is cut.
  """
  values = np.asarray(image, np.float64)
  if values.ndim != 2 or 0 in values.shape or not np.all(np.isfinite(values)):
    raise ConfigurationError(
      f'A picture is finite numbers [height, width]; got the shape {values.shape}. Give one plane.'
    )
  pixels = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)
  height, width = pixels.shape
  # Every line begins with its filter; 0 is none.
  lines = np.hstack([np.zeros([height, 1], np.uint8), pixels]).tobytes()
  header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  parts = [(b'IHDR', header), (b'IDAT', zlib.compress(lines, 9)), (b'IEND', b'')]
  return _SIGNATURE + b''.join(_chunk(kind, content) for kind, content in parts)


def _chunk(kind: bytes, content: bytes) -> bytes:
  check = zlib.crc32(kind + content)
  return struct.pack('>I', len(content)) + kind + content + struct.pack('>I', check)

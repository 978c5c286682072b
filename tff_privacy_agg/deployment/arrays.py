"""Arrays as bytes: no pickle, sizes checked, the same bytes for the same arrays."""

import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tff_privacy_agg.secagg import InvalidMessage

_LENGTH = struct.Struct('<I')
_KINDS = 'biufcS'
_DTYPE = re.compile(rf'[<|][{_KINDS}][0-9]{{1,9}}', re.ASCII)


def encode(arrays: Sequence[Any]) -> bytes:
  """A head (length u32, JSON of dtypes and shapes) and the arrays' bytes, little-endian."""
  parts = []
  for value in arrays:
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS:
      raise InvalidMessage(
        f'Numbers, booleans and bytes can be sent, got an array of {array.dtype}.'
      )
    parts.append(np.asarray(array, array.dtype.newbyteorder('<'), order='C'))
  head = json.dumps([[part.dtype.str, list(part.shape)] for part in parts]).encode('ascii')
  return b''.join([_LENGTH.pack(len(head)), head, *(part.tobytes() for part in parts)])


def decode(data: bytes | bytearray | memoryview) -> list[np.ndarray]:
  """The arrays of `encode`.

  Raises:
    InvalidMessage: If the bytes are nothing that `encode` writes.
  """
  view = memoryview(data)
  try:
    (length,) = _LENGTH.unpack_from(view)
    start = _LENGTH.size + length
    arrays = []
    for text, shape in json.loads(bytes(view[_LENGTH.size : start])):
      # Not before the text is known: NumPy parses much more, and parts of it as Python.
      if not _DTYPE.fullmatch(text) or any(type(one) is not int or one < 0 for one in shape):
        raise ValueError(f'an array of {text!r:.40} and shape {shape!r:.40}')
      dtype = np.dtype(text)
      end = start + dtype.itemsize * math.prod(shape)
      if end > len(view):
        raise ValueError('fewer bytes than announced')
      arrays.append(np.frombuffer(view[start:end], dtype).reshape(shape))
      start = end
  except (struct.error, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
    raise InvalidMessage(f'Arrays were expected, got something else: {error}.') from None
  if start != len(view):
    raise InvalidMessage(f'Arrays were expected; {len(view) - start} bytes follow them.')
  return arrays

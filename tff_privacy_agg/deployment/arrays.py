"""Arrays as bytes: no pickle, sizes checked, the same bytes for the same arrays."""

import json
import math
import re
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg import InvalidMessage

_LENGTH = struct.Struct('<I')
# Whoever sends picks from this list, or byte strings of a length; nothing else is parsed.
_NUMBERS = 'bool i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16'
_DTYPES = {np.dtype(name).newbyteorder('<').str: np.dtype(name) for name in _NUMBERS.split()}
_BYTES = re.compile(r'\|S([0-9]{1,9})', re.ASCII)


def encode(arrays: Sequence[Any]) -> bytes:
  """A head (length u32, JSON of dtypes and shapes) and the arrays' bytes, little-endian."""
  parts = []
  for value in arrays:
    array = np.asarray(value)
    stored = np.asarray(array, array.dtype.newbyteorder('<'), order='C')
    if _dtype(stored.dtype.str) is None:
      raise InvalidMessage(
        f'Numbers, booleans and bytes can be sent, got an array of {array.dtype}.'
      )
    parts.append(stored)
  head = json.dumps([[part.dtype.str, list(part.shape)] for part in parts]).encode('ascii')
  return b''.join([_LENGTH.pack(len(head)), head, *(part.tobytes() for part in parts)])


def _dtype(text: str) -> np.dtype | None:
  found = _BYTES.fullmatch(text)
  return np.dtype((np.bytes_, int(found[1]))) if found else _DTYPES.get(text)


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
      dtype = _dtype(text)
      if dtype is None or any(type(one) is not int or one < 0 for one in shape):
        raise ValueError(f'an array of {text!r:.40} and shape {shape!r:.40}')
      end = start + dtype.itemsize * math.prod(shape)
      if end > len(view):
        raise ValueError('fewer bytes than announced')
      arrays.append(np.frombuffer(view[start:end], dtype).reshape(shape))
      start = end
  except (struct.error, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
    raise InvalidMessage(f'Arrays were expected, got something else: {error}.') from None
  if start != len(view):
    raise InvalidMessage(
      f'Arrays were expected; {counted(len(view) - start, "byte follows", "bytes follow")} them.'
    )
  return arrays

"""What bodies are put together from: exact sizes, signatures, bitmaps, entries by id."""

import itertools
import struct
from collections.abc import Sequence

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg.errors import InvalidMessage
from tff_privacy_agg.secagg.primitives.keys import SIGNATURE_BYTES


def expect(body: memoryview, size: int, what: str) -> None:
  """Raises InvalidMessage unless a body has exactly `size` bytes."""
  if len(body) != size:
    raise InvalidMessage(
      f'{counted(size, "byte was", "bytes were")} expected for {what}, got {len(body)}.'
    )


def split_signature(body: memoryview, signed: bool) -> tuple[memoryview, bytes]:
  """Takes the signature off the end of a body, if it has one."""
  if not signed:
    return body, b''
  if len(body) < SIGNATURE_BYTES:
    raise InvalidMessage(f'A signature of {SIGNATURE_BYTES} bytes was expected.')
  return body[:-SIGNATURE_BYTES], bytes(body[-SIGNATURE_BYTES:])


def bitmap_bytes(bits: int) -> int:
  """Bytes of a bitmap."""
  return -(-bits // 8)


def encode_bitmap(flags: np.ndarray) -> bytes:
  """Booleans, the first in the lowest bit of the first byte."""
  return np.packbits(flags, bitorder='little').tobytes()


def decode_bitmap(data: memoryview, bits: int) -> np.ndarray:
  """`bits` booleans; the bits that fill up the last byte must be zero."""
  expect(data, bitmap_bytes(bits), f'a bitmap of {bits}')
  flags = np.unpackbits(np.frombuffer(data, np.uint8), bitorder='little').astype(bool)
  if flags[bits:].any():
    raise InvalidMessage('The last byte of a bitmap has bits set that stand for nobody.')
  return flags[:bits]


def decode_entries(body: memoryview, size: int) -> dict[int, memoryview]:
  """Contents of `size` bytes by ascending ids."""
  if len(body) % (4 + size):
    raise InvalidMessage(f'Entries of {4 + size} bytes were expected, got {len(body)} in all.')
  starts = range(0, len(body), 4 + size)
  ids = [struct.unpack_from('<I', body, start)[0] for start in starts]
  if any(a >= b for a, b in itertools.pairwise(ids)):
    raise InvalidMessage('Client ids must ascend, without repetition.')
  return {
    client: body[start + 4 : start + 4 + size] for client, start in zip(ids, starts, strict=True)
  }


def encode_entries(entries: Sequence[tuple[int, bytes]]) -> bytes:
  """(id, content) one after the other: round 0 and authenticated round 4, downward."""
  return b''.join(struct.pack('<I', client) + content for client, content in entries)

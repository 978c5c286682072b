"""Masks: AES-256-CTR keystream in segments that can be computed alone.

The keystream of (key, leaf, segment) starts at the counter block u32be(leaf) ||
u64be(segment) || 00000002. That is, byte for byte, the AES-256-GCM ciphertext of
zeros under the nonce u32be(leaf) || u64be(segment) (NIST SP 800-38D), which runs
about twice as fast as CTR itself on processors with vectorised AES. The tag is not used:
GCM here is a fast way to CTR, nothing more, and no key is used for anything else.
"""

import functools
import os
import struct
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tff_privacy_agg.secagg.primitives import parallel

# Bytes of a segment: with the slice of the accumulator it stays in a core's second-level cache.
SEGMENT = 2**18
_TAG = 16
_ZEROS = memoryview(bytes(SEGMENT))


class _Stream(Protocol):
  def __init__(self, key: bytes | bytearray): ...

  def fill(self, leaf: int, segment: int, out: memoryview, size: int) -> None: ...


class _GcmStream:
  """Keystream of one key through AESGCM (cryptography >= 47)."""

  def __init__(self, key: bytes | bytearray):
    self._cipher = AESGCM(key)

  def fill(self, leaf: int, segment: int, out: memoryview, size: int) -> None:
    nonce = struct.pack('>IQ', leaf, segment)
    self._cipher.encrypt_into(nonce, _ZEROS[:size], None, out[: size + _TAG])


class _GcmContextStream:
  """The same keystream through an AES-GCM context, for cryptography < 47."""

  def __init__(self, key: bytes | bytearray):
    self._key = bytes(key)

  def fill(self, leaf: int, segment: int, out: memoryview, size: int) -> None:
    nonce = struct.pack('>IQ', leaf, segment)
    encryptor = Cipher(algorithms.AES(self._key), modes.GCM(nonce)).encryptor()
    encryptor.update_into(_ZEROS[:size], out[: size + _TAG])


class _CtrStream:
  """The same keystream through AES-CTR."""

  def __init__(self, key: bytes | bytearray):
    self._key = bytes(key)

  def fill(self, leaf: int, segment: int, out: memoryview, size: int) -> None:
    counter = struct.pack('>IQI', leaf, segment, 2)
    encryptor = Cipher(algorithms.AES(self._key), modes.CTR(counter)).encryptor()
    encryptor.update_into(_ZEROS[:size], out[: size + _TAG])


_STREAMS: tuple[type[_Stream], ...] = (_GcmContextStream, _CtrStream)
if hasattr(AESGCM, 'encrypt_into'):
  _STREAMS = (_GcmStream, *_STREAMS)


@functools.cache
def _fastest() -> type[_Stream]:
  """The way that is fastest on this processor, by timing each once; all give the same bytes."""
  scratch = memoryview(bytearray(SEGMENT + _TAG))

  def seconds(way: type[_Stream]) -> float:
    candidate, best = way(os.urandom(32)), float('inf')
    for segment in range(12):
      start = time.perf_counter()
      candidate.fill(0, segment, scratch, SEGMENT)
      best = min(best, time.perf_counter() - start)
    return best

  return min(_STREAMS, key=seconds)


def stream(key: bytes | bytearray) -> _Stream:
  """The keystream of one key: `fill(leaf, segment, out, size)` writes size + 16 bytes at most."""
  return _fastest()(key)


def word_dtype(bits: int) -> np.dtype:
  """The smallest little-endian unsigned word of at least `bits` bits."""
  return np.dtype(f'<u{next(size for size in (1, 2, 4, 8) if 8 * size >= bits)}')


def keystream(key: bytes | bytearray, leaf: int, segment: int, size: int = SEGMENT) -> bytes:
  """The first `size` bytes of one segment."""
  out = bytearray(size + _TAG)
  stream(key).fill(leaf, segment, memoryview(out), size)
  return bytes(out[:size])


def add_masks(
  vectors: Sequence[np.ndarray],
  plus: Sequence[bytes | bytearray],
  minus: Sequence[bytes | bytearray],
) -> None:
  """Adds the masks of `plus` to the vectors, and takes off those of `minus`, in place.

  Arithmetic wraps at the vectors' word, a multiple of every modulus in use, so
  that a mask is exactly uniform modulo 2**bits.

  Args:
    vectors: One contiguous vector of unsigned words for each leaf.
    plus: 32-byte keys whose masks are added.
    minus: 32-byte keys whose masks are subtracted.
  """
  signed = [(stream(key), np.add) for key in plus] + [(stream(key), np.subtract) for key in minus]
  pieces = []
  for leaf, vector in enumerate(vectors):
    step = SEGMENT // vector.itemsize
    for segment, start in enumerate(range(0, vector.size, step)):
      pieces.append((leaf, segment, vector[start : start + step]))

  def mask_some(some: Iterator[tuple[int, int, np.ndarray]]) -> None:
    scratch = bytearray(SEGMENT + _TAG)
    out = memoryview(scratch)
    for leaf, segment, piece in some:
      mask = np.frombuffer(scratch, piece.dtype, piece.size)
      for masks, combine in signed:
        masks.fill(leaf, segment, out, piece.nbytes)
        combine(piece, mask, out=piece)
    scratch[:] = bytes(len(scratch))

  parallel.share(mask_some, pieces, len(signed) * sum(vector.nbytes for vector in vectors))

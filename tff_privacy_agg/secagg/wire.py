"""The bytes of every message. Little-endian; one form for each content, all else is refused.

A message is a header of 48 bytes and a body. The header: magic `TPSA`, version u8,
type u8, flags u16, session id 32, number u32, length of the body u32. The number is
the sender's id upward, and downward the number of clients that advertised, which the
receiver needs to compute k and t. Sizes are compared before anything is allocated.

    round     client to server                        server to client
    0 keys    c_pk, s_pk, nonce 16, [sig]             k x (id u32, the same, [sig])
    1 shares  commitment 32, {c}, k x ciphertext,     bitmap, their ciphertexts, {their c},
              (offers for greater ids)                (the lower ids' offers, in part)
    2 masked  leaves u32, complaint bytes u32,
              leaves x (count u32, b u8, 000),
              packed words, complaint bitmap, [sig]
    3 [set]   sig of the survivors' digest            bitmap of survivors among all
    4 unmask  bitmap of answers, 34 bytes each        bitmap of survivors, or [U4 x (id, sig)]
    5 result  verdict u8                              statement, [sig], bitmap, {sum, tag sum}

[]: authenticated mode (round 5: a server with an identity, flag 1); {}: verify='mac'; ():
version 2. `Layout` has the sizes of keys, ciphertexts and offers.
"""

import enum
import itertools
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tff_privacy_agg.secagg.errors import InvalidMessage, SecAggError
from tff_privacy_agg.secagg.layout import VERSIONS, Layout
from tff_privacy_agg.secagg.primitives import packing, shamir
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES, SIGNATURE_BYTES, Buffer
from tff_privacy_agg.secagg.rounds import Round

HEADER = struct.Struct('<4sBBH32sII')
MAGIC, VERSION = b'TPSA', VERSIONS[-1]
LARGEST_ABORT_TEXT = 256
LARGEST_ABORT_NAMES = 16
SIGNED = 1
# The sender that the server's signatures name.
SERVER = 0
_LEAF = struct.Struct('<IB3s')
_PAIR = struct.Struct('<II')
_STATEMENT = struct.Struct('<32sI32s')
Words = list[np.ndarray]


class Kind(enum.IntEnum):
  """Type of a message; the lower four bits of those below 128 are its round."""

  ADVERTISE = 0
  SHARE = 1
  MASKED = 2
  CONSISTENCY = 3
  UNMASK = 4
  VERDICT = 5
  KEYS = 16
  SHARES = 17
  SURVIVORS = 19
  UNMASK_REQUEST = 20
  RESULT = 21
  ABORT = 255

  @property
  def round(self) -> Round:
    """The round to which a message of this type belongs."""
    return Round(self & 15)


class Message(NamedTuple):
  """A message whose header has been checked."""

  kind: Kind
  flags: int
  number: int
  body: memoryview


class Advertisement(NamedTuple):
  """Round-0 content: one client's public keys."""

  cipher_key: bytes
  mask_key: bytes
  nonce: bytes

  def encode(self) -> bytes:
    """The two keys and the nonce, one after the other."""
    return self.cipher_key + self.mask_key + self.nonce

  def parts(self) -> list[bytes]:
    """The X25519 keys, and in version 2 the ML-KEM keys, each by itself."""
    both = (self.cipher_key, self.mask_key)
    parts = [key[:KEY_BYTES] for key in both] + [key[KEY_BYTES:] for key in both]
    return [part for part in parts if part]


class Abort(NamedTuple):
  """Why a party has left: code of the error, ids of the clients that it concerns, its text."""

  code: int
  clients: tuple[int, ...]
  text: str


class Statement(NamedTuple):
  """Round-5 receipt: what the server says it has summed."""

  survivors_digest: bytes
  survivors: int
  sum_digest: bytes

  def encode(self) -> bytes:
    """68 bytes."""
    return _STATEMENT.pack(*self)


def encode(
  kind: Kind,
  session_id: bytes,
  number: int,
  *body: Buffer,
  flags: int = 0,
  version: int = VERSION,
) -> bytes:
  """Puts the header before a body, which may come in parts."""
  size = sum(map(len, body))
  return b''.join([HEADER.pack(MAGIC, version, kind, flags, session_id, number, size), *body])


def decode(data: bytes | bytearray, session_id: bytes, version: int = VERSION) -> Message:
  """Checks a header and returns the message; the body is not copied.

  Raises:
    InvalidMessage: If this is no message of this session.
  """
  if not isinstance(data, bytes | bytearray):
    raise InvalidMessage(f'Bytes were expected, got {type(data).__name__}.')
  view = memoryview(data).toreadonly()
  if len(view) < HEADER.size:
    raise InvalidMessage(f'A message has at least {HEADER.size} bytes, got {len(view)}.')
  magic, given, kind, flags, session, number, length = HEADER.unpack_from(view)
  if magic != MAGIC or given != version:
    raise InvalidMessage(f'Messages of version {version} were expected, got another format.')
  try:
    kind = Kind(kind)
  except ValueError:
    raise InvalidMessage(f'There is no message of type {kind}.') from None
  if flags & ~(SIGNED if kind is Kind.RESULT else 0):
    raise InvalidMessage(f'A message of type {kind.name} has unknown flags {flags:#x}.')
  if session != session_id:
    raise InvalidMessage('The message belongs to another session.')
  body = view[HEADER.size :]
  expect(body, length, 'the body that the header announces')
  return Message(kind, flags, number, body)


def expect(body: memoryview, size: int, what: str) -> None:
  """Raises InvalidMessage unless a body has exactly `size` bytes."""
  if len(body) != size:
    raise InvalidMessage(f'{size} bytes were expected for {what}, got {len(body)}.')


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


def decode_advertisement(body: memoryview, layout: Layout) -> Advertisement:
  """Round 0, upward."""
  expect(body, layout.advertisement_bytes, 'keys and nonce')
  size = layout.public_bytes
  return Advertisement(bytes(body[:size]), bytes(body[size : 2 * size]), bytes(body[2 * size :]))


def _entries(body: memoryview, size: int) -> dict[int, memoryview]:
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


def decode_keys(
  body: memoryview, layout: Layout, signed: bool
) -> dict[int, tuple[Advertisement, bytes]]:
  """Round 0, downward: advertisement and signature of each neighbour."""
  found = {}
  size = layout.advertisement_bytes + signed * SIGNATURE_BYTES
  for client, entry in _entries(body, size).items():
    content, signature = split_signature(entry, signed)
    found[client] = (decode_advertisement(content, layout), signature)
  return found


def encode_entries(entries: Sequence[tuple[int, bytes]]) -> bytes:
  """(id, content) one after the other: round 0 and authenticated round 4, downward."""
  return b''.join(struct.pack('<I', client) + content for client, content in entries)


def decode_signatures(body: memoryview, most: int) -> dict[int, bytes]:
  """Round 4 of the authenticated mode, downward."""
  if len(body) > most * (4 + SIGNATURE_BYTES):
    raise InvalidMessage(f'Up to {most} signatures with ids were expected, got {len(body)} bytes.')
  return {client: bytes(entry) for client, entry in _entries(body, SIGNATURE_BYTES).items()}


def decode_share_upload(
  body: memoryview, layout: Layout, neighbours: int, greater: int
) -> tuple[bytes, bytes, np.ndarray, np.ndarray]:
  """Round 1, upward.

  Args:
    body: The body.
    layout: Sizes of the session.
    neighbours: k.
    greater: Those of them with a greater id than the sender's.

  Returns:
    Commitment, commitment to the contribution or b'', [k, size] ciphertexts, and [greater, size]
    offers, of size 0 in version 1.
  """
  head = KEY_BYTES + layout.contribution_bytes
  middle = head + neighbours * layout.sealed_bytes
  offered = greater * layout.offer_bytes
  expect(body, middle + offered, f'commitments and {neighbours} encrypted shares')
  ciphertexts = np.frombuffer(body[head:middle], np.uint8).reshape(neighbours, layout.sealed_bytes)
  offers = np.frombuffer(body[middle:], np.uint8).reshape(greater, layout.offer_bytes)
  return bytes(body[:KEY_BYTES]), bytes(body[KEY_BYTES:head]), ciphertexts, offers


def decode_share_download(
  body: memoryview, layout: Layout, neighbours: int, lower: int
) -> tuple[np.ndarray, list[bytes], list[bytes], list[bytes]]:
  """Round 1, downward.

  Args:
    body: The body.
    layout: Sizes of the session.
    neighbours: k.
    lower: Those of them with a lower id than the receiver's.

  Returns:
    [k] who shared; their ciphertexts and commitments to contributions; the offers of those of
    lower ids. Commitments are b'' without verify='mac', offers in version 1.
  """
  split = bitmap_bytes(neighbours)
  shared = decode_bitmap(body[:split], neighbours)
  count = int(shared.sum())
  parts = (
    (count, layout.sealed_bytes),
    (count, layout.contribution_bytes),
    (int(shared[:lower].sum()), layout.relayed_bytes),
  )
  expect(body[split:], sum(n * size for n, size in parts), f'{count} encrypted shares')
  found: list[list[bytes]] = []
  for n, size in parts:
    found.append([bytes(body[split + i * size : split + (i + 1) * size]) for i in range(n)])
    split += n * size
  ciphertexts, commitments, offers = found
  return shared, ciphertexts, commitments, offers


def masked_bytes(leaves: Sequence[tuple[int, int]]) -> int:
  """Bytes of round 2 without complaints and signature, for leaves (elements, bits)."""
  return (
    _PAIR.size
    + _LEAF.size * len(leaves)
    + sum(packing.packed_bytes(count, bits) for count, bits in leaves)
  )


def encode_masked(
  leaves: Sequence[tuple[int, int]], words: Words, complaints: np.ndarray
) -> list[Buffer]:
  """Round 2, upward, in parts; a bitmap of complaints is sent only if there are any."""
  bitmap = encode_bitmap(complaints) if complaints.any() else b''
  heads = [_LEAF.pack(count, bits, bytes(3)) for count, bits in leaves]
  packed = [
    packing.pack(vector, bits).data.cast('B')
    for vector, (_, bits) in zip(words, leaves, strict=True)
  ]
  return [_PAIR.pack(len(leaves), len(bitmap)), *heads, *packed, bitmap]


def decode_packed(body: memoryview, leaves: Sequence[tuple[int, int]]) -> Words:
  """Views of [bits, columns] words, one for each leaf; the sizes have been checked."""
  found, start = [], 0
  for count, bits in leaves:
    stop = start + packing.packed_bytes(count, bits)
    found.append(np.frombuffer(body[start:stop], '<u8').reshape(bits, -1))
    start = stop
  return found


def decode_masked(
  body: memoryview, leaves: Sequence[tuple[int, int]], neighbours: int
) -> tuple[Words, np.ndarray]:
  """Round 2, upward: packed words of each leaf, and whom the sender complains of."""
  size = masked_bytes(leaves)
  if len(body) != size:
    expect(body, size + bitmap_bytes(neighbours), 'masked leaves and complaints')
  heads, first = len(leaves), _PAIR.size + _LEAF.size * len(leaves)
  expected = _PAIR.pack(heads, len(body) - size) + b''.join(
    _LEAF.pack(count, bits, bytes(3)) for count, bits in leaves
  )
  if body[:first] != expected:
    raise InvalidMessage('Number, sizes or bits of the leaves are not those of the session.')
  complaints = np.zeros(neighbours, bool)
  if len(body) > size:
    complaints = decode_bitmap(body[size:], neighbours)
    if not complaints.any():
      raise InvalidMessage('An empty list of complaints was sent; leave it out.')
  return decode_packed(body[first:size], leaves), complaints


def decode_answers(body: memoryview, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
  """Round 4, upward: who is answered for, and [answers, 34] bytes of shares."""
  split = bitmap_bytes(neighbours)
  answered = decode_bitmap(body[:split], neighbours)
  count = int(answered.sum())
  expect(body[split:], count * shamir.SHARE_BYTES, f'{count} shares')
  shares = np.frombuffer(body[split:], np.uint8).reshape(count, shamir.SHARE_BYTES)
  if (shamir.decode(shares) >= shamir.PRIME).any():
    raise InvalidMessage('A share holds a number that is no element of the field.')
  return answered, shares


def decode_result(
  message: Message, neighbours: int, leaves: Sequence[tuple[int, int]]
) -> tuple[Statement, bytes, np.ndarray, memoryview]:
  """Round 5, downward: statement, signature or b'', surviving neighbours, packed sum."""
  body, signed = message.body, bool(message.flags & SIGNED)
  ends = np.cumsum([_STATEMENT.size, signed * SIGNATURE_BYTES, bitmap_bytes(neighbours)]).tolist()
  size = sum(packing.packed_bytes(count, bits) for count, bits in leaves)
  expect(body, ends[2] + size, 'statement, survivors and sum')
  statement = Statement(*_STATEMENT.unpack_from(body))
  survivors = decode_bitmap(body[ends[1] : ends[2]], neighbours)
  return statement, bytes(body[ends[0] : ends[1]]), survivors, body[ends[2] :]


def encode_abort(
  session_id: bytes, number: int, error: SecAggError, version: int = VERSION
) -> bytes:
  """Code and text of an error, both ways, in any round; from version 2 on, whom it concerns."""
  body = struct.pack('<H', error.code)
  if version > 1:
    named = error.clients[:LARGEST_ABORT_NAMES]
    body += struct.pack(f'<B{len(named)}I', len(named), *named)
  body += str(error).encode('ascii', 'replace')[:LARGEST_ABORT_TEXT]
  return encode(Kind.ABORT, session_id, number, body, version=version)


def decode_abort(body: memoryview, version: int = VERSION) -> Abort:
  """Decodes an abort; replaces characters that could confuse a terminal or a log."""
  head = 2 if version == 1 else 3
  count = 0 if version == 1 or len(body) < head else body[2]
  start = head + 4 * count
  if count > LARGEST_ABORT_NAMES or not start <= len(body) <= start + LARGEST_ABORT_TEXT:
    raise InvalidMessage(
      f'An abort has a code, up to {LARGEST_ABORT_NAMES} ids and {LARGEST_ABORT_TEXT} bytes of text.'
    )
  text = bytes(body[start:]).decode('ascii', 'replace')
  return Abort(
    struct.unpack_from('<H', body)[0],
    struct.unpack_from(f'<{count}I', body, head),
    ''.join(c if c.isprintable() else '?' for c in text),
  )

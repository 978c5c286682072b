"""The bodies of the messages of each round, up to the server and down to the clients."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tff_privacy_agg._wording import counted
from tff_privacy_agg.secagg.errors import InvalidMessage
from tff_privacy_agg.secagg.layout import Layout
from tff_privacy_agg.secagg.primitives import packing, shamir
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES, SIGNATURE_BYTES, Buffer
from tff_privacy_agg.secagg.wire.envelope import SIGNED, Message
from tff_privacy_agg.secagg.wire.fields import (
  bitmap_bytes,
  decode_bitmap,
  decode_entries,
  encode_bitmap,
  expect,
  split_signature,
)

_LEAF = struct.Struct('<IB3s')
_PAIR = struct.Struct('<II')
_STATEMENT = struct.Struct('<32sI32s')
Words = list[np.ndarray]


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


class Statement(NamedTuple):
  """Round-5 receipt: what the server says it has summed."""

  survivors_digest: bytes
  survivors: int
  sum_digest: bytes

  def encode(self) -> bytes:
    """68 bytes."""
    return _STATEMENT.pack(*self)


def decode_advertisement(body: memoryview, layout: Layout) -> Advertisement:
  """Round 0, upward."""
  expect(body, layout.advertisement_bytes, 'keys and nonce')
  size = layout.public_bytes
  return Advertisement(bytes(body[:size]), bytes(body[size : 2 * size]), bytes(body[2 * size :]))


def decode_keys(
  body: memoryview, layout: Layout, signed: bool
) -> dict[int, tuple[Advertisement, bytes]]:
  """Round 0, downward: advertisement and signature of each neighbour."""
  found = {}
  size = layout.advertisement_bytes + signed * SIGNATURE_BYTES
  for client, entry in decode_entries(body, size).items():
    content, signature = split_signature(entry, signed)
    found[client] = (decode_advertisement(content, layout), signature)
  return found


def decode_signatures(body: memoryview, most: int) -> dict[int, bytes]:
  """Round 4 of the authenticated mode, downward."""
  if len(body) > most * (4 + SIGNATURE_BYTES):
    raise InvalidMessage(f'Up to {most} signatures with ids were expected, got {len(body)} bytes.')
  return {client: bytes(entry) for client, entry in decode_entries(body, SIGNATURE_BYTES).items()}


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
  expect(body[split:], sum(n * size for n, size in parts), counted(count, 'encrypted share'))
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
  expect(body[split:], count * shamir.SHARE_BYTES, counted(count, 'share'))
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

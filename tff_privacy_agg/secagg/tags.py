"""Did the server sum honestly? A linear tag of each client's vector (verify='mac').

The clients of a session share a key K that the server does not know. For
each leaf, 40 random binary rows R come from AES under K; every client adds the tag
R x mod 2**b as one more masked leaf, and compares R z with the sum of the tags. A
wrong z passes with probability at most 2**-40: for each row, R e = 0 mod 2**b for at
most half of all R if e is not zero. Wrap-around is harmless, all is modulo 2**b.

Our own composition of known parts; a client that gives K to the server voids it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from tff_privacy_agg.secagg import inputs, wire
from tff_privacy_agg.secagg.errors import VerificationFailed
from tff_privacy_agg.secagg.params import SessionParams
from tff_privacy_agg.secagg.primitives import keys, packing, prg
from tff_privacy_agg.secagg.receipts import sum_digest
from tff_privacy_agg.secagg.rounds import Round

ROWS = 40
_PLANES = ROWS // 8
# Sums of 2**18 numbers below 2**35 are exact in the float64 of `bincount`.
_LIMB = 53 - 18
# In a byte of keystream, bit j says whether row j of a plane takes the element.
_TAKES = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder='little')


def wire_leaves(params: SessionParams) -> list[tuple[int, int]]:
  """(elements, bits) of what travels in round 2: the leaves, then their tags if any."""
  leaves = [(leaf.size, leaf.bits) for leaf in params.leaves]
  return leaves + [(ROWS, bits) for _, bits in leaves] if params.verify else leaves


def pack_leaves(params: SessionParams, words: Sequence[np.ndarray]) -> bytes:
  """Packs one vector of padded words for each of `wire_leaves`."""
  leaves = wire_leaves(params)
  return b''.join(
    packing.pack(vector, bits).tobytes() for vector, (_, bits) in zip(words, leaves, strict=True)
  )


def contribution_commitment(salt: bytes, contribution: bytes | bytearray) -> bytes:
  """Commitment to a client's part of the tag key, made before anyone opens it."""
  return keys.digest('contribution', salt, contribution)


def tag_key(salt: bytes, contributions: Sequence[bytes | bytearray]) -> bytes:
  """K from the contributions of all clients that shared, in any order."""
  ordered = b''.join(sorted(bytes(part) for part in contributions))
  return keys.digest('tag', salt, ordered)


def binding(salt: bytes, commitments: Mapping[int, bytes]) -> bytes:
  """Digest of U2 and of what its members contributed to K; salt of the mask keys.

  A server that shows clients different contributors gives them different K. Under one
  sum of masks the tags of two groups, with both K known to it, would tell 40 linear
  functions of one group's input. With this in the mask keys, masks between clients
  that hold different K do not cancel.

  Args:
    salt: S.
    commitments: {id: commitment to the contribution}, of all of U2.
  """
  entries = [(client, commitments[client]) for client in sorted(commitments)]
  return keys.digest('contributors', salt, wire.encode_entries(entries))


def bound_key(pair: bytes | bytearray, bound_to: bytes, first: int, second: int) -> bytes:
  """The key of a pair's mask in a session with tags."""
  return keys.derive(pair, bound_to, 'bound', *sorted((first, second)))


def tag(key: bytes | bytearray, leaf: int, words: np.ndarray, bits: int) -> np.ndarray:
  """R x mod 2**bits.

  Segments 5 i .. 5 i + 4 of K's keystream choose the rows for elements 2**18 i and on,
  one byte for each element and 8 rows.

  Args:
    key: K.
    leaf: Index of the leaf.
    words: [d] unsigned words; those above 2**bits - 1 are reduced.
    bits: b.

  Returns:
    [40] u64.
  """
  stream = prg.stream(key)
  scratch = memoryview(bytearray(prg.SEGMENT + keys.TAG_BYTES))
  sums = np.zeros((_PLANES, 256), np.uint64)
  keep = np.uint64(2**bits - 1)
  for block, start in enumerate(range(0, words.size, prg.SEGMENT)):
    piece = words[start : start + prg.SEGMENT] & words.dtype.type(keep)
    limbs = [piece]
    if bits > _LIMB:
      limbs = [piece & np.uint64(2**_LIMB - 1), piece >> np.uint64(_LIMB)]
    weights = [limb.astype(np.float64) for limb in limbs]
    for plane in range(_PLANES):
      stream.fill(leaf, _PLANES * block + plane, scratch, piece.size)
      chosen = np.frombuffer(scratch, np.uint8, piece.size)
      for index, weight in enumerate(weights):
        counts = np.bincount(chosen, weight, minlength=256).astype(np.uint64)
        sums[plane] += counts << np.uint64(_LIMB * index)
  rows = sums @ _TAKES.astype(np.uint64)
  return rows.reshape(ROWS) & keep


def tags(key: bytes | bytearray, params: SessionParams, words: Sequence[np.ndarray]) -> wire.Words:
  """The padded tag of every leaf, in the leaf's own word."""
  return [
    packing.pad(tag(key, index, words[index][: leaf.size], leaf.bits), leaf.bits)
    for index, leaf in enumerate(params.leaves)
  ]


def checked_sum(
  params: SessionParams,
  salt: bytes,
  key: bytes | bytearray,
  statement: wire.Statement,
  packed: memoryview,
) -> dict[str, np.ndarray]:
  """The published sums by leaf, if they are what the clients sent.

  Raises:
    VerificationFailed: If digest or tags do not fit.
  """
  leaves = wire_leaves(params)
  words = [
    packing.unpack(matrix, bits)
    for matrix, (_, bits) in zip(wire.decode_packed(packed, leaves), leaves, strict=True)
  ]
  count = len(params.leaves)
  expected = tags(key, params, words[:count])
  same = sum_digest(salt, packed) == statement.sum_digest
  for ours, theirs in zip(expected, words[count:], strict=True):
    same &= bool((ours == theirs).all())
  if not same:
    raise VerificationFailed(
      'The published sum does not fit the tags that the clients sent with their inputs. Discard '
      'it, and keep the receipt.',
      round=Round.RESULT,
    )
  return inputs.restore(params, words)

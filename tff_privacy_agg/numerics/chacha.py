"""The ChaCha20 key stream (RFC 8439) as plain TensorFlow integer operations.

The state of `n` blocks is four `[4, n]` matrices, one for each row of the ChaCha
square, so one operation serves four quarter rounds of every block; the diagonal
rounds are the same operations after a `tf.gather` of rows. A left shift is written
as a product, which TensorFlow's CPU kernels vectorise (shifts they do not). The ten
double rounds are a loop of five turns, which keeps the graph small; with ten turns the
loop's own operations would weigh more where few words are drawn.

There are no branches or look-ups that depend on the key.
"""

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

WORDS_PER_BLOCK = 16
# TensorFlow runs an operation on a [4, 4096] matrix in one thread. It splits larger ones between
# threads, which costs more than it saves: chunks run in parallel instead. And four such matrices
# stay in a core's cache.
BLOCKS_PER_CHUNK = 1 << 12

_DOUBLE_ROUNDS = 10
_CONSTANTS = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # 'expand 32-byte k'

_Rows = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


def _word(value: int) -> tf.Tensor:
  return tf.constant(value, tf.uint32)


def _rotate_left(x: tf.Tensor, bits: int) -> tf.Tensor:
  high = tf.bitwise.right_shift(x, _word(32 - bits))
  return tf.bitwise.bitwise_xor(x * _word(1 << bits), high)


def _quarter_rounds(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> _Rows:
  """RFC 8439 2.1 on all columns: each argument is one row of the square."""
  for d_bits, b_bits in ((16, 12), (8, 7)):
    a = a + b
    d = _rotate_left(tf.bitwise.bitwise_xor(d, a), d_bits)
    c = c + d
    b = _rotate_left(tf.bitwise.bitwise_xor(b, c), b_bits)
  return a, b, c, d


def _rotate_rows(b: tf.Tensor, c: tf.Tensor, d: tf.Tensor, steps: int) -> tuple:
  """Turns diagonals into columns (steps=1), or back (steps=-1)."""

  def turn(x: tf.Tensor, by: int) -> tf.Tensor:
    return tf.gather(x, [(i + by) % 4 for i in range(4)])

  return turn(b, steps), turn(c, 2), turn(d, -steps)


def _double_round(a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> _Rows:
  a, b, c, d = _quarter_rounds(a, b, c, d)
  a, b, c, d = _quarter_rounds(a, *_rotate_rows(b, c, d, 1))
  return a, *_rotate_rows(b, c, d, -1)


@functools.partial(
  tf.function,
  autograph=False,
  input_signature=[
    tf.TensorSpec([8], tf.uint32),
    tf.TensorSpec([4, None], tf.uint32),
  ],
)
def _blocks(key: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
  """The key stream's blocks of which `positions` has counter and nonce, uint32 `[16 * blocks]`."""
  shape = tf.shape(positions)
  start = (
    tf.broadcast_to(tf.constant(_CONSTANTS, tf.uint32)[:, tf.newaxis], shape),
    tf.broadcast_to(key[:4, tf.newaxis], shape),
    tf.broadcast_to(key[4:, tf.newaxis], shape),
    positions,
  )
  _, *final = tf.while_loop(
    lambda i, *rows: i < _DOUBLE_ROUNDS,
    lambda i, *rows: (i + 2, *_double_round(*_double_round(*rows))),
    (0, *start),
  )
  square = tf.concat([x + y for x, y in zip(final, start, strict=True)], axis=0)
  return tf.reshape(tf.transpose(square), [-1])


def chacha20_words(
  key: tf.Tensor, nonce: Sequence[int], count: int | tf.Tensor, first_block: int = 0
) -> tf.Tensor:
  """The ChaCha20 key stream as 32-bit words, in the order of RFC 8439 2.4.

  The same arguments give the same words: `nonce` must differ for each use of `key`.

  Args:
    key: int32 `[8]`, the 256-bit key, little-endian words.
    nonce: Three integers in [0, 2^32), the 96-bit nonce.
    count: Number of words, a Python integer or an int32 scalar tensor, not negative.
    first_block: Initial block counter, in [0, 2^31).

  Returns:
    int32 `[count]`: uniform on all 2^32 values for whoever does not hold the key.

  Raises:
    ConfigurationError: If a Python argument is outside its range.
  """
  if len(nonce) != 3 or not all(0 <= word < 2**32 for word in nonce):
    raise ConfigurationError(f'`nonce` must be three integers in [0, 2^32), got {nonce!r}.')
  _validate.at_least(0, first_block=first_block)
  if first_block >= 2**31:
    raise ConfigurationError(f'`first_block` must be below 2^31, got {first_block}.')
  static_count = tf.get_static_value(count)
  if static_count is not None:
    count = static_count = int(static_count)
    _validate.at_least(0, count=count)

  key_words = tf.bitcast(tf.ensure_shape(key, [8]), tf.uint32)
  nonce_words = tf.constant(nonce, tf.uint32)
  blocks = -(-count // WORDS_PER_BLOCK)
  if static_count is not None and blocks <= BLOCKS_PER_CHUNK:
    words = _blocks(key_words, _positions(nonce_words, _word(first_block), blocks))
  else:
    words = _chunks(key_words, nonce_words, first_block, blocks)
  words = tf.ensure_shape(words[:count], [static_count])
  return tf.bitcast(words, tf.int32)


@functools.partial(
  tf.function,
  autograph=False,
  experimental_attributes={'_noinline': True},
  input_signature=[
    tf.TensorSpec([8], tf.int32),
    tf.TensorSpec([3], tf.uint32),
    tf.TensorSpec([], tf.int32),
  ],
)
def rare_words(key: tf.Tensor, nonce: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
  """`chacha20_words` for a branch that is hardly ever taken.

  Kept a function of its own at run time: inlined, its hundreds of operations are visited, as
  dead ones, in every round that does not take the branch.

  Args:
    key: int32 `[8]`.
    nonce: uint32 `[3]`.
    count: int32 scalar.
  """
  blocks = -(-count // WORDS_PER_BLOCK)
  return tf.bitcast(_chunks(tf.bitcast(key, tf.uint32), nonce, 0, blocks)[:count], tf.int32)


def chacha20_streams(key: tf.Tensor, counts: Mapping[int, int]) -> Mapping[int, tf.Tensor]:
  """`chacha20_words` of several nonces (number, 0, 0) at the price of one call.

  Args:
    key: int32 `[8]`.
    counts: Number of words by number; positive, known, and few: at most `BLOCKS_PER_CHUNK` blocks.

  Returns:
    int32 `[count]` by number: the words that `chacha20_words` gives.
  """
  blocks = {number: -(-count // WORDS_PER_BLOCK) for number, count in counts.items()}
  # Constants of the graph: nothing of them is computed again in a round.
  positions = np.zeros([4, sum(blocks.values())], np.uint32)
  start = 0
  for number, size in blocks.items():
    positions[0, start : start + size] = np.arange(size)
    positions[1, start : start + size] = number
    start += size
  words = _blocks(tf.bitcast(tf.ensure_shape(key, [8]), tf.uint32), tf.constant(positions))
  words = tf.bitcast(tf.ensure_shape(words, [WORDS_PER_BLOCK * positions.shape[1]]), tf.int32)
  found, start = {}, 0
  for number, count in counts.items():
    found[number] = words[start : start + count]
    start += WORDS_PER_BLOCK * blocks[number]
  return found


def _positions(nonce: tf.Tensor, first: tf.Tensor, blocks: int | tf.Tensor) -> tf.Tensor:
  """Counters `first` to `first + blocks - 1` above the nonce, uint32 `[4, blocks]`."""
  counters = tf.cast(tf.range(blocks), tf.uint32) + first
  nonces = tf.broadcast_to(nonce[:, tf.newaxis], tf.stack([3, blocks]))
  return tf.concat([counters[tf.newaxis], nonces], axis=0)


def _chunks(
  key: tf.Tensor, nonce: tf.Tensor, first_block: int, blocks: int | tf.Tensor
) -> tf.Tensor:
  """At least `blocks` blocks, in equal chunks of at most BLOCKS_PER_CHUNK."""
  chunks = tf.maximum(1, -(-blocks // BLOCKS_PER_CHUNK))
  size = -(-blocks // chunks)
  stride = tf.cast(size, tf.uint32)

  def body(i: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
    first = _word(first_block) + tf.cast(i, tf.uint32) * stride
    return i + 1, parts.write(i, _blocks(key, _positions(nonce, first, size)))

  parts = tf.TensorArray(tf.uint32, size=chunks)
  _, parts = tf.while_loop(lambda i, _: i < chunks, body, (0, parts))
  return tf.reshape(parts.stack(), [-1])

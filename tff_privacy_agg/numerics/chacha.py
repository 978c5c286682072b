"""The ChaCha20 key stream (RFC 8439) as plain TensorFlow integer operations.

The state of `n` blocks is four `[4, n]` matrices, one for each row of the ChaCha
square, so one operation serves four quarter rounds of every block; the diagonal
rounds are the same operations after a `tf.gather` of rows. A left shift is written
as a product, which TensorFlow's CPU kernels vectorise (shifts they do not). The ten
double rounds are a loop of five turns, which keeps the graph small; with ten turns the
loop's own operations would weigh more where few words are drawn.

There are no branches or look-ups that depend on the key.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import structures
from tff_privacy_agg.numerics.tracing import traced_once

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


class _Rounds:
  """Rounds of the cipher in one graph, where each of their constants is one operation."""

  def __init__(self) -> None:
    self._factors = {bits: _word(1 << bits) for bits in (16, 12, 8, 7)}
    self._shifts = {bits: _word(32 - bits) for bits in self._factors}
    self._orders = {by: tf.constant([(i + by) % 4 for i in range(4)]) for by in (1, 2, 3)}
    self._axis = tf.constant(0)

  def double(self, a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> _Rows:
    a, b, c, d = self._quarters(a, b, c, d)
    # Diagonals become columns, and columns again.
    a, b, c, d = self._quarters(a, self._turn(b, 1), self._turn(c, 2), self._turn(d, 3))
    return a, self._turn(b, 3), self._turn(c, 2), self._turn(d, 1)

  def _quarters(self, a: tf.Tensor, b: tf.Tensor, c: tf.Tensor, d: tf.Tensor) -> _Rows:
    """RFC 8439 2.1 on all columns: each argument is one row of the square."""
    for d_bits, b_bits in ((16, 12), (8, 7)):
      a = a + b
      d = self._rotate_left(tf.bitwise.bitwise_xor(d, a), d_bits)
      c = c + d
      b = self._rotate_left(tf.bitwise.bitwise_xor(b, c), b_bits)
    return a, b, c, d

  def _rotate_left(self, x: tf.Tensor, bits: int) -> tf.Tensor:
    high = tf.bitwise.right_shift(x, self._shifts[bits])
    return tf.bitwise.bitwise_xor(x * self._factors[bits], high)

  def _turn(self, x: tf.Tensor, by: int) -> tf.Tensor:
    return tf.gather(x, self._orders[by], axis=self._axis)


def _blocks(key: tf.Tensor, positions: tf.Tensor, at_once: int = 2) -> tf.Tensor:
  """The key stream's blocks of which `positions` has counter and nonce, uint32 `[16 * blocks]`.

  Args:
    key: uint32 `[8]`.
    positions: uint32 `[4, blocks]`.
    at_once: Double rounds in one turn of the loop, 1, 2, 5 or 10: more are faster for few blocks,
      and as many times the operations.
  """
  shape = tf.shape(positions)
  constants = tf.constant(_CONSTANTS, tf.uint32, [4, 1])
  halves = tf.split(tf.reshape(key, [8, 1]), 2)
  start = *(tf.broadcast_to(column, shape) for column in (constants, *halves)), positions

  def turn(i: tf.Tensor, *rows: tf.Tensor) -> tuple[tf.Tensor, ...]:
    rounds = _Rounds()
    for _ in range(at_once):
      rows = rounds.double(*rows)
    return i + at_once, *rows

  _, *final = tf.while_loop(lambda i, *_: i < _DOUBLE_ROUNDS, turn, (0, *start))
  square = tf.concat([x + y for x, y in zip(final, start, strict=True)], axis=0)
  return tf.reshape(tf.transpose(square), [-1])


_blocks_function = traced_once(tf.TensorSpec([8], tf.uint32), tf.TensorSpec([4, None], tf.uint32))(
  _blocks
)


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
    words = _blocks_function(key_words, _positions(nonce_words, _word(first_block), blocks))
  else:
    words = _chunks(key_words, nonce_words, first_block, blocks)
  return tf.ensure_shape(structures.first(tf.bitcast(words, tf.int32), count), [static_count])


@traced_once(
  tf.TensorSpec([8], tf.int32),
  tf.TensorSpec([3], tf.uint32),
  tf.TensorSpec([], tf.int32),
  apart=True,
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
  words = _blocks(tf.bitcast(key, tf.uint32), _positions(nonce, _word(0), blocks), at_once=1)
  return structures.first(tf.bitcast(words, tf.int32), count)


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
  # No function of its own: to prepare one in a session takes longer than its operations.
  words = _blocks(tf.bitcast(tf.ensure_shape(key, [8]), tf.uint32), tf.constant(positions))
  sizes = []
  for number, count in counts.items():
    sizes += [count, WORDS_PER_BLOCK * blocks[number] - count]
  return dict(zip(counts, tf.split(tf.bitcast(words, tf.int32), sizes)[::2], strict=True))


def _positions(nonce: tf.Tensor, first: tf.Tensor, blocks: int | tf.Tensor) -> tf.Tensor:
  """Counters `first` to `first + blocks - 1` above the nonce, uint32 `[4, blocks]`."""
  counters = tf.cast(tf.range(blocks), tf.uint32) + first
  nonces = tf.broadcast_to(tf.reshape(nonce, [3, 1]), [3, blocks])
  return tf.concat([tf.reshape(counters, [1, -1]), nonces], axis=0)


def _chunks(
  key: tf.Tensor, nonce: tf.Tensor, first_block: int, blocks: int | tf.Tensor
) -> tf.Tensor:
  """At least `blocks` blocks, in equal chunks of at most BLOCKS_PER_CHUNK."""
  chunks = tf.maximum(1, -(-blocks // BLOCKS_PER_CHUNK))
  size = -(-blocks // chunks)
  stride = tf.cast(size, tf.uint32)

  def body(i: tf.Tensor, parts: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
    first = _word(first_block) + tf.cast(i, tf.uint32) * stride
    return i + 1, parts.write(i, _blocks_function(key, _positions(nonce, first, size)))

  parts = tf.TensorArray(tf.uint32, size=chunks)
  _, parts = tf.while_loop(lambda i, _: i < chunks, body, (0, parts))
  return tf.reshape(parts.stack(), [-1])

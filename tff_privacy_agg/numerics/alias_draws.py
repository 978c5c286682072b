"""Draws from packed alias tables, in TensorFlow.

A draw takes w = 16 random bits, or 24 where the table is large: k of them choose a column and
the rest is compared with the top w-k bits of the column's threshold. Equal bits (a tie,
probability 2^-(w-k)) say nothing, so those draws, and only those, are settled with the
threshold's other 96 bits. One draw in 2^78 then falls on the table's remainder, and takes 128 more.
"""

import tensorflow as tf

from tff_privacy_agg.numerics import alias, randomness, structures
from tff_privacy_agg.numerics.tracing import traced_once


def uniform_numbers(table: alias.AliasTable, words: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
  """Uniform numbers of `table.draw_bits` bits, int32 `[count]`: every bit of `words` serves once."""
  quarters = None
  if table.draw_bits == 24:
    words, quarters = tf.split(words, [table.halves(count), table.quarters(count)])
  numbers = _part_of_words(words, tf.uint16, count)
  if quarters is not None:
    numbers += _part_of_words(quarters, tf.uint8, count) * 2**16
  return numbers


def _part_of_words(words: tf.Tensor, dtype: tf.DType, count: int | tf.Tensor) -> tf.Tensor:
  """The first `count` parts of 16 or of 8 bits, int32."""
  parts = structures.first(tf.reshape(tf.bitcast(words, dtype), [-1]), count)
  return tf.cast(parts, tf.int32)


def draw(
  table: alias.AliasTable,
  numbers: tf.Tensor,
  stream: randomness.RandomStream,
  stream_id: int,
  index: int,
  count: int | tf.Tensor,
) -> tf.Tensor:
  """Draws of `table`, int32 `[count]`, one from each uniform number."""
  mask = tf.constant(table.columns - 1)
  column = tf.bitwise.bitwise_and(numbers, mask)
  packed = tf.gather(tf.constant(table.packed), column)
  other = tf.bitwise.bitwise_and(packed, mask)
  # Both have the bits to compare above k others: the column in `numbers`, the alias in `packed`.
  uniform, threshold = numbers - column, packed - other
  value = tf.where(uniform < threshold, column, other)
  tied = tf.where(tf.equal(uniform, threshold))

  # Without a branch for no ties: they are few, and a branch takes longer to prepare than they do.
  own = tf.gather_nd(column, tied)
  words = _tie_words(table, stream, randomness.tie_stream(stream_id, index), tf.size(own), count)
  pairs, singles = tf.split(tf.reshape(words, [alias.TIE_WORDS, -1]), [2, 1])
  high, low = _pairs(pairs), tf.bitcast(tf.reshape(singles, [-1]), tf.uint32)
  own_high = tf.gather(tf.constant(table.rest.high), own)
  own_low = tf.gather(tf.constant(table.rest.low), own)
  below = (high < own_high) | (tf.equal(high, own_high) & (low < own_low))
  settled = tf.where(below, own, tf.gather_nd(other, tied))
  # The last column's threshold has no bit above its last 96, so none but ties reach its value.
  rare = tf.where(tf.equal(settled, mask))
  settled = tf.cond(
    tf.size(rare) > 0,
    lambda: tf.tensor_scatter_nd_update(
      settled,
      rare,
      remainder(table, stream, randomness.remainder_stream(stream_id, index), tf.size(rare)),
    ),
    lambda: settled,
  )
  return tf.tensor_scatter_nd_update(value, tied, settled) + table.offset


def _tie_words(
  table: alias.AliasTable,
  stream: randomness.RandomStream,
  stream_id: int,
  ties: tf.Tensor,
  count: int | tf.Tensor,
) -> tf.Tensor:
  """The words of so many ties among `count` draws."""
  if not tf.is_tensor(count) and table.likely_ties(count) == count:  # enough whatever comes
    return structures.first(
      stream.words(stream_id, alias.TIE_WORDS * count), alias.TIE_WORDS * ties
    )
  return stream.words(stream_id, alias.TIE_WORDS * ties)


def remainder(
  table: alias.AliasTable, stream: randomness.RandomStream, stream_id: int, count: tf.Tensor
) -> tf.Tensor:
  """Draws of the remainder of `table` by inversion, int32 `[count]`, less the table's offset."""
  words = stream.words(stream_id, alias.REMAINDER_WORDS * count)
  thresholds = tf.constant(table.remainder.high), tf.constant(table.remainder.low)
  return _invert(words, *thresholds) - table.offset


# A function of its own at run time: inlined, it is visited in every round that does not take it.
@traced_once(
  tf.TensorSpec([None], tf.int32),
  tf.TensorSpec([None], tf.uint64),
  tf.TensorSpec([None], tf.uint64),
  apart=True,
)
def _invert(words: tf.Tensor, above: tf.Tensor, below: tf.Tensor) -> tf.Tensor:
  """Draws by inversion, four words each, between the upper and lower halves of thresholds."""
  high, low = tf.split(tf.reshape(_pairs(words), [-1, 2]), 2, axis=1)
  reached = (above < high) | (tf.equal(above, high) & (below <= low))
  magnitude = tf.reduce_sum(tf.cast(reached, tf.int32), axis=1)
  last = tf.bitwise.bitwise_and(tf.reshape(low, [-1]), tf.constant(1, tf.uint64))
  return magnitude * (1 - 2 * tf.cast(last, tf.int32))


def _pairs(words: tf.Tensor) -> tf.Tensor:
  """Words, int32 `[2 * n]`, as uint64 `[n]`."""
  return tf.bitcast(tf.reshape(words, [-1, 2]), tf.uint64)

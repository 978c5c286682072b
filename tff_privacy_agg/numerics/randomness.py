"""Streams of random words for one client in one round, all from one key.

Each use of randomness has a stream number of its own. Streams are spaced by
`STREAM_SPACING`: a sampler that is given stream `s` may also use the numbers up to
`s + STREAM_SPACING - 1`, for the rare words that settle ties.
"""

import dataclasses

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.numerics import chacha

KINDS = ('chacha20', 'philox')

STREAM_SPACING = 16
ROUNDING = 0
MODEL_NOISE = STREAM_SPACING
# The noise of channel i is drawn from stream CHANNEL_NOISE + i * STREAM_SPACING.
CHANNEL_NOISE = 2 * STREAM_SPACING


def tie_stream(stream: int, table: int) -> int:
  """The stream that settles the ties of a sampler's table 0 or 1 on `stream`."""
  return stream + 1 + table


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomStream:
  """Random words from a key, by a cipher or by a simulation-grade generator.

  `chacha20` is the ChaCha20 key stream (RFC 8439) with the nonce (stream, 0, 0). `philox`
  is TensorFlow's counter-based Philox 4x32-10 seeded with 128 bits folded from the key:
  several times faster, of good statistical quality, and not designed to resist an
  adversary. Both give the same words for the same key, stream and count.

  Args:
    kind: 'chacha20' or 'philox'.
    key: int32 `[8]`, fresh for each client and round, known to nobody else.

  Raises:
    ConfigurationError: If `kind` is neither.
  """

  kind: str
  key: tf.Tensor

  def __post_init__(self):
    _validate.one_of(KINDS, kind=self.kind)

  def words(self, stream: int, count: int | tf.Tensor) -> tf.Tensor:
    """Uniform 32-bit words, int32 `[count]`; `count` may be a scalar tensor."""
    if self.kind == 'chacha20':
      return chacha.chacha20_words(self.key, (stream, 0, 0), count)
    return tf.random.stateless_uniform(
      [count], self.seed(stream), minval=None, maxval=None, dtype=tf.int32, alg='philox'
    )

  def seed(self, stream: int) -> tf.Tensor:
    """A seed for TensorFlow's stateless generators, for coins that need no secrecy.

    Args:
      stream: A stream number of which `words` is not used.

    Returns:
      int64 `[2]`.
    """
    _validate.at_least(0, stream=stream)
    if self.kind == 'chacha20':
      words = chacha.chacha20_words(self.key, (stream, 0, 0), 4)
    else:
      folded = tf.bitwise.bitwise_xor(self.key[:4], self.key[4:])
      words = tf.bitwise.bitwise_xor(folded, tf.constant([stream, 0, 0, 0]))
    low, high = tf.unstack(tf.reshape(tf.cast(words, tf.int64), [2, 2]))
    return high * 2**32 + tf.bitwise.bitwise_and(low, 2**32 - 1)

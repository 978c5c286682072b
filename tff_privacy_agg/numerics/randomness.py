"""Streams of random words for one client in one round, all from one key.

Each use of randomness has a stream number of its own. Streams are spaced by
`STREAM_SPACING`: a sampler that is given stream `s` may also use the numbers up to
`s + STREAM_SPACING - 1`, for the rare words that settle ties.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.numerics import chacha

KINDS = ('chacha20', 'philox')

SEED_WORDS = 4
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
    ready: Words that `prefetch` has drawn already, by stream.

  Raises:
    ConfigurationError: If `kind` is neither.
  """

  kind: str
  key: tf.Tensor
  ready: Mapping[int, tf.Tensor] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    _validate.one_of(KINDS, kind=self.kind)

  def prefetch(self, counts: Mapping[int, int]) -> 'RandomStream':
    """The same stream, with words of several streams drawn by one run of the cipher.

    A run costs some hundred operations whatever it draws, so few words are as dear as many.

    Args:
      counts: Number of words that will be drawn, by stream.
    """
    blocks = sum(-(-count // chacha.WORDS_PER_BLOCK) for count in counts.values())
    if self.kind != 'chacha20' or not 0 < blocks <= chacha.BLOCKS_PER_CHUNK:
      return self
    return dataclasses.replace(self, ready=chacha.chacha20_streams(self.key, counts))

  def _cipher_words(self, stream: int, count: int | tf.Tensor) -> tf.Tensor:
    ready = self.ready.get(stream)
    if ready is not None and isinstance(count, int) and count <= ready.shape[0]:
      return ready[:count]
    return chacha.chacha20_words(self.key, (stream, 0, 0), count)

  def words(self, stream: int, count: int | tf.Tensor) -> tf.Tensor:
    """Uniform 32-bit words, int32 `[count]`; `count` may be a scalar tensor."""
    if self.kind == 'chacha20':
      return self._cipher_words(stream, count)
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
      words = self._cipher_words(stream, SEED_WORDS)
    else:
      folded = tf.bitwise.bitwise_xor(self.key[:4], self.key[4:])
      words = tf.bitwise.bitwise_xor(folded, tf.constant([stream, 0, 0, 0]))
    low, high = tf.unstack(tf.reshape(tf.cast(words, tf.int64), [2, 2]))
    return high * 2**32 + tf.bitwise.bitwise_and(low, 2**32 - 1)

"""Streams of random words for one client in one round, all from one key.

Each use of randomness has a stream number of its own. Streams are spaced by
`STREAM_SPACING`: a sampler that is given stream `s` may also use the numbers up to
`s + STREAM_SPACING - 1`, for the rare words that settle ties and draw from the remainder.
"""

import dataclasses
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg._names import RANDOMNESS
from tff_privacy_agg.numerics import chacha, structures

SEED_WORDS = 4
_PHILOX = 1  # TensorFlow's number of the algorithm
_PHILOX_STREAM = 2**40  # blocks of four words from one stream to the next
STREAM_SPACING = 16
ROUNDING = 0
MODEL_NOISE = STREAM_SPACING
# The noise of channel i is drawn from stream CHANNEL_NOISE + i * STREAM_SPACING.
CHANNEL_NOISE = 2 * STREAM_SPACING


def tie_stream(stream: int, table: int) -> int:
  """The stream that settles the ties of a sampler's table 0 or 1 on `stream`."""
  return stream + 1 + table


def remainder_stream(stream: int, table: int) -> int:
  """The stream that draws from the remainder of a sampler's table 0 or 1 on `stream`."""
  return stream + 3 + table


def philox_words(seed: tf.Tensor, count: int | tf.Tensor, stream: int | tf.Tensor = 0) -> tf.Tensor:
  """Words of Philox 4x32-10, int32 `[count]`, for what needs no secrecy.

  Args:
    seed: int64 `[2]`, any numbers: the key, and the upper half of the counter.
    count: Number of words, at most 2^42, a Python integer or an int32 scalar tensor.
    stream: From 0 on, below 2^24: those of one seed never overlap.
  """
  key, high = tf.split(tf.bitcast(seed, tf.uint64), 2)
  if isinstance(stream, int):
    _validate.at_least(0, stream=stream)
    low = tf.constant([stream * _PHILOX_STREAM], tf.uint64)
  else:
    low = tf.reshape(tf.cast(stream, tf.uint64) * _PHILOX_STREAM, [1])
  return tf.raw_ops.StatelessRandomUniformFullIntV2(
    shape=[count], key=key, counter=tf.concat([low, high], axis=0), alg=_PHILOX, dtype=tf.int32
  )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomStream:
  """Random words from a key, by a cipher or by a simulation-grade generator.

  `chacha20` is the ChaCha20 key stream (RFC 8439) with the nonce (stream, 0, 0). `philox`
  is TensorFlow's counter-based Philox 4x32-10: 128 bits folded from the key are its key
  and the upper half of its counter, and the lower half starts at stream * 2^40. It is several
  times faster, of good statistical quality, and not designed to resist an adversary. Both give
  the same words for the same key, stream and count, and never overlap between streams.

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
  _folded: tf.Tensor | None = dataclasses.field(init=False, repr=False, default=None)

  def __post_init__(self) -> None:
    _validate.one_of(tuple(RANDOMNESS), kind=self.kind)
    if self.kind == 'philox':  # here, and not in a branch of the graph that cannot be left
      folded = tf.bitwise.bitwise_xor(*tf.split(self.key, 2))
      object.__setattr__(self, '_folded', tf.bitcast(tf.reshape(folded, [2, 2]), tf.int64))

  def prefetch(self, counts: Mapping[int, int]) -> 'RandomStream':
    """The same stream, with words of several streams drawn by one run of the cipher.

    A run costs some hundred operations whatever it draws, so few words are as dear as many.
    What is drawn beyond `counts` takes a run of its own, and the words are the same either way.

    Args:
      counts: Number of words that are likely to be drawn, by stream.
    """
    if self.kind != 'chacha20':
      return self
    # The short streams: a long one is worth a run of its own.
    chosen: dict[int, int] = {}
    free = chacha.BLOCKS_PER_CHUNK
    for stream, count in sorted(counts.items(), key=lambda item: item[1]):
      free -= -(-count // chacha.WORDS_PER_BLOCK)
      if free < 0:
        break
      if count:
        chosen[stream] = count
    if not chosen:
      return self
    return dataclasses.replace(self, ready=chacha.chacha20_streams(self.key, chosen))

  def _cipher_words(self, stream: int, count: int | tf.Tensor) -> tf.Tensor:
    nonce = (stream, 0, 0)
    ready = self.ready.get(stream)
    known = tf.get_static_value(count)
    if known is not None:
      if ready is None or known > ready.shape[0]:
        return chacha.chacha20_words(self.key, nonce, count)
      return structures.first(ready, int(known))

    def beyond() -> tf.Tensor:
      return chacha.rare_words(self.key, tf.constant(nonce, tf.uint32), count)

    if ready is None:
      return beyond()
    return tf.cond(count <= ready.shape[0], lambda: structures.first(ready, count), beyond)

  def words(self, stream: int, count: int | tf.Tensor) -> tf.Tensor:
    """Uniform 32-bit words, int32 `[count]`; `count` may be a scalar tensor."""
    if self._folded is None:
      return self._cipher_words(stream, count)
    return philox_words(self._folded, count, stream)

  def seed(self, stream: int) -> tf.Tensor:
    """A seed for TensorFlow's stateless generators, for coins that need no secrecy.

    Args:
      stream: A stream number of which `words` is used for nothing else.

    Returns:
      int64 `[2]`.
    """
    return tf.bitcast(tf.reshape(self.words(stream, SEED_WORDS), [2, 2]), tf.int64)

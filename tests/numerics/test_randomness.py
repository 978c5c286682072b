"""Streams: reproducible, separate from each other, uniform."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tff_privacy_agg._names import RANDOMNESS
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import chacha, randomness
from tff_privacy_agg.numerics.randomness import RandomStream

KEY = np.arange(1, 9, dtype=np.int32) * 123_456_789


def words(kind, stream=0, count=4096, key=KEY):
  return RandomStream(kind=kind, key=tf.constant(key)).words(stream, count).numpy()


kinds = pytest.mark.parametrize('kind', tuple(RANDOMNESS))


def test_chacha20_words_are_the_key_stream_of_the_stream_number():
  expected = chacha.chacha20_words(tf.constant(KEY), (33, 0, 0), 100)
  np.testing.assert_array_equal(words('chacha20', 33, 100), expected)


@kinds
def test_same_key_and_stream_give_the_same_words(kind):
  np.testing.assert_array_equal(words(kind, 5), words(kind, 5))


@kinds
@pytest.mark.parametrize('count', [0, 1, 1000])
def test_count_may_be_a_tensor(kind, count):
  result = words(kind, 5, tf.constant(count))
  assert result.dtype == np.int32
  np.testing.assert_array_equal(result, words(kind, 5, count))


@kinds
def test_streams_and_keys_are_independent(kind):
  """Bitwise agreement with the base stream is a fair coin: |z| < 5, false alarm 6e-7 each."""
  others = [words(kind, stream) for stream in (1, 2, randomness.STREAM_SPACING, 2**20)]
  for word in range(8):
    key = KEY.copy()
    key[word] ^= 1  # one bit
    others.append(words(kind, key=key))
  base = np.unpackbits(words(kind).view(np.uint8))
  for other in others:
    agreement = np.mean(base == np.unpackbits(other.view(np.uint8)))
    assert abs(agreement - 0.5) * 2 * np.sqrt(base.size) < 5


@kinds
def test_words_are_uniform(kind):
  """Chi-square on the top and the bottom byte: both tails, false alarm 4e-5 in all."""
  drawn = words(kind, 9, 200_000).view(np.uint32)
  for byte in (drawn >> 24, drawn & 255):
    p = stats.chisquare(np.bincount(byte, minlength=256)).pvalue
    assert 1e-5 < p < 1 - 1e-5


@kinds
def test_seeds_differ_between_streams_and_keys(kind):
  stream = RandomStream(kind=kind, key=tf.constant(KEY))
  other = RandomStream(kind=kind, key=tf.constant(KEY[::-1].copy()))
  seeds = [tuple(source.seed(i).numpy()) for source in (stream, other) for i in range(50)]
  assert len(set(seeds)) == 100
  assert stream.seed(0).dtype == tf.int64


@kinds
def test_seed_holds_all_bits_of_four_words(kind):
  four = words(kind, 7, 4).view(np.uint32).tolist()
  seed = RandomStream(kind=kind, key=tf.constant(KEY)).seed(7).numpy().view(np.uint64)
  assert [int(s) for s in seed] == [four[1] << 32 | four[0], four[3] << 32 | four[2]]


def test_stream_numbers_leave_room_for_ties():
  numbers = [randomness.ROUNDING, randomness.MODEL_NOISE, randomness.CHANNEL_NOISE]
  used = [n + extra for n in numbers for extra in range(randomness.STREAM_SPACING)]
  assert len(set(used)) == len(used)
  for table in (0, 1):
    assert randomness.tie_stream(16, table) in range(17, 16 + randomness.STREAM_SPACING)


def test_refuses_an_unknown_kind():
  with pytest.raises(ConfigurationError, match='kind'):
    RandomStream(kind='mersenne', key=tf.constant(KEY))


@kinds
def test_words_drawn_ahead_are_the_same_words(kind):
  stream = RandomStream(kind=kind, key=tf.constant(KEY))
  ahead = stream.prefetch({0: 4, 16: 1000, 32: 2, 48: 16})
  for number, count in ((0, 4), (16, 1000), (16, 999), (16, 1001), (32, 2), (48, 16), (64, 5)):
    np.testing.assert_array_equal(ahead.words(number, count), stream.words(number, count))
  np.testing.assert_array_equal(ahead.seed(0), stream.seed(0))
  np.testing.assert_array_equal(ahead.words(16, tf.constant(7)), stream.words(16, 7))
  assert bool(ahead.ready) == (kind == 'chacha20')


def test_the_short_streams_are_drawn_ahead():
  stream = RandomStream(kind='chacha20', key=tf.constant(KEY))
  most = chacha.BLOCKS_PER_CHUNK * chacha.WORDS_PER_BLOCK
  assert set(stream.prefetch({0: most}).ready) == {0}
  assert set(stream.prefetch({0: most, 16: 1, 32: 40}).ready) == {16, 32}
  assert not stream.prefetch({0: most + 1}).ready
  assert not stream.prefetch({}).ready


@kinds
def test_a_number_of_words_known_only_to_the_graph_is_drawn_ahead_or_beyond(kind):
  @tf.function(autograph=False, input_signature=[tf.TensorSpec([], tf.int32)])
  def drawn(count):
    return RandomStream(kind=kind, key=tf.constant(KEY)).prefetch({16: 100}).words(16, count)

  for count in (0, 1, 100, 101, 5000):
    np.testing.assert_array_equal(drawn(count), words(kind, 16, count))


def test_philox_streams_start_2_to_the_40_blocks_apart():
  """Words of the next stream are those that the generator gives 2^40 blocks of 4 words later."""
  seed = tf.constant([3, -5], tf.int64)
  key, high = tf.split(tf.bitcast(seed, tf.uint64), 2)
  for stream in (0, 1, 33):
    generator = tf.random.Generator.from_state(
      tf.bitcast(tf.concat([tf.constant([stream * 2**40], tf.uint64), high, key], 0), tf.int64),
      alg='philox',
    )
    expected = generator.uniform_full_int([50], tf.int32)
    np.testing.assert_array_equal(randomness.philox_words(seed, 50, stream), expected)

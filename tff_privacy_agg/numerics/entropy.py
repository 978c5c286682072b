"""A fresh secret key from the operating system, read inside the running graph.

The kernel's generator is read through `/proc/sys/kernel/random/uuid`, which gives a
new version 4 UUID at every read: random bits as text of a known length, which
plain TensorFlow operations can parse. Linux only: elsewhere, or where `/proc` is
hidden, the read is an error. There is no fallback.

It is read as the lines of a `TextLineDataset`, with a buffer of 64 bytes: `tf.io.read_file`
asks for a mebibyte each time, which costs more than all else that is done for a key.

An operation that TensorFlow takes for a function of its inputs may be evaluated once by the graph
optimiser, and every later execution of the graph gets that one text as a constant; two reads of
one path may be merged. Both would break privacy without a sign. So
  - the operations that read are registered as stateful: no optimiser folds or merges them;
  - the paths depend on `unfoldable`, a value of the running round, and on `tf.timestamp`, which is
    stateful too, and they differ from read to read: that alone would prevent either;
  - the graph fails unless the texts that were read differ.
"""

import tensorflow as tf

from tff_privacy_agg.errors import ConfigurationError

_DIRECTORY = '/proc/sys/kernel/random/'
_READS = 4
_TEXT_BYTES = 36
_BUFFER_BYTES = 64
_HEX_DIGITS_PER_WORD = 8
# The first and last eight digits of a version 4 UUID are random bits in full.
_RANDOM_DIGITS = (*range(8), *range(28, 36))


def _paths(variant: int) -> tf.Tensor:
  """Spellings of the one path, all different between reads and variants."""
  return tf.constant([_DIRECTORY + './' * (2 * read + variant) + 'uuid' for read in range(_READS)])


def _read_lines(paths: tf.Tensor) -> tf.Tensor:
  """The lines of all files, string `[_READS]`; an error if there are more or none."""
  # The plain operations: the classes of `tf.data` wrap them in others that cost more.
  lines = tf.raw_ops.TextLineDataset(
    filenames=paths, compression_type='', buffer_size=_BUFFER_BYTES
  )
  types, shapes = [tf.string], [tf.TensorShape([None])]
  batch = tf.raw_ops.BatchDataset(
    input_dataset=lines, batch_size=_READS, output_types=types, output_shapes=shapes
  )
  (texts,) = tf.raw_ops.DatasetToSingleElement(
    dataset=batch, output_types=types, output_shapes=shapes
  )
  return tf.ensure_shape(texts, [_READS])


def operating_system_key(unfoldable: tf.Tensor) -> tf.Tensor:
  """Reads 256 bits from the kernel's random generator, anew at every execution.

  Args:
    unfoldable: Integer scalar tensor that is known only when the graph runs (a
      broadcast or a client's value). Any value serves; it does not enter the key.

  Returns:
    int32 `[8]`, uniform: two words that hold random bits only from each of four UUIDs.

  Raises:
    ConfigurationError: If `unfoldable` is a constant of the graph.
    tf.errors.OpError: At execution, if the file is missing or has another length, or if
      two reads give the same text.
  """
  if not tf.executing_eagerly() and tf.get_static_value(unfoldable) is not None:
    raise ConfigurationError(
      f'`unfoldable` must be known only when the graph runs, got the constant {unfoldable!r}. '
      'Pass a tensor that the round broadcasts.'
    )
  microseconds = tf.cast(1e6 * tf.timestamp(), tf.int64)
  odd = tf.bitwise.bitwise_and(tf.cast(unfoldable, tf.int64) + microseconds, 1) > 0
  texts = _read_lines(tf.where(odd, _paths(1), _paths(0)))
  distinct = tf.size(tf.unique(texts).y)
  check = tf.debugging.Assert(
    tf.equal(distinct, _READS),
    ['Reads of the random generator gave equal texts; distinct ones:', distinct],
  )
  with tf.control_dependencies([check] if check is not None else []):
    return _words(texts)


def _words(texts: tf.Tensor) -> tf.Tensor:
  """Parses the random digits of UUIDs, string `[n]`, as int32 `[2 * n]`."""
  characters = tf.ensure_shape(tf.io.decode_raw(texts, tf.uint8), [None, _TEXT_BYTES])
  codes = tf.cast(tf.gather(characters, _RANDOM_DIGITS, axis=1), tf.int32)
  # '0'-'9' are 0x30-0x39 and 'a'-'f' are 0x61-0x66.
  digits = tf.bitwise.bitwise_and(codes, 15) + 9 * tf.bitwise.right_shift(codes, 6)
  digits = tf.reshape(digits, [-1, _HEX_DIGITS_PER_WORD])
  shifted = tf.bitwise.left_shift(digits, tf.range(28, -1, -4))
  return tf.reduce_sum(shifted, axis=1)

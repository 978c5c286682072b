"""Measures the parts of a client's work next to TensorFlow's own normal numbers: one core, CPU time."""

import argparse
import os
import statistics
import sys
import time

os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'

import _measure as measure
import tensorflow as tf

from tff_privacy_agg.numerics import alias, entropy, hadamard, rounding, samplers
from tff_privacy_agg.numerics.randomness import MODEL_NOISE, RandomStream, philox_words

NORMAL, NOTHING = 'tf.random.normal', 'an empty graph'
PRODUCT = 'rotation, without signs and padding'
SIGMAS = (5, 50, 100, 200, 250, 1000, 3500, 6400, 10_000, 100_000)
PADDED = (1_000, 1_500, 7_850, 10_000, 33_000, 65_537, 100_000, 1_000_000, 1_199_882, 10_000_000)
_UUID = '/proc/sys/kernel/random/uuid'


def kernels(dim: int) -> dict:
  """Graphs by name; each ends in one number, so that nothing is copied out."""
  key = tf.Variable(tf.range(8) * 77_777)
  vector = tf.Variable(tf.random.normal([dim]))
  padded = tf.Variable(tf.random.normal([hadamard.padded_dimension(dim)]))
  seed = tf.Variable(tf.constant([5, 6], tf.int64))

  def noise(sigma, kind):
    sampler = samplers.noise_sampler('discrete_gaussian', sigma**2)
    stream = RandomStream(kind=kind, key=key.read_value())
    return sampler.sample(stream.prefetch(sampler.random_words(MODEL_NOISE, dim)), MODEL_NOISE, dim)

  found = {
    NOTHING: lambda: vector.read_value(),
    NORMAL: lambda: tf.random.normal([dim]),
    PRODUCT: lambda: hadamard._transform(padded.read_value(), inverse=False),
    'rotation': lambda: hadamard.rotate(vector.read_value(), seed.read_value()),
    'rotation back': lambda: hadamard.unrotate(padded.read_value(), seed.read_value(), dim),
    'rounding': lambda: rounding.conditional_round(
      vector.read_value(), 1e7, seed.read_value(), tf.int32
    ),
    'words, philox': lambda: philox_words(seed.read_value(), dim),
    'words, chacha20': lambda: RandomStream(kind='chacha20', key=key.read_value()).words(0, dim),
  }
  for sigma in SIGMAS:
    for kind in ('philox', 'chacha20'):
      found[f'noise {sigma}, {kind}'] = lambda sigma=sigma, kind=kind: noise(sigma, kind)
  return {
    name: tf.function(lambda work=work: tf.reduce_max(work()), autograph=False)
    for name, work in found.items()
  }


def keys() -> dict:
  """The secret key, and four reads in the way that asks for a mebibyte each."""
  unfoldable = tf.Variable(0, dtype=tf.int64)

  def by_read_file():
    odd = tf.where(unfoldable.read_value() > 0, 'x', '')
    return [tf.io.read_file(tf.strings.join(['/.' * i + _UUID, odd])) for i in range(4)]

  found = {
    'an empty graph': lambda: unfoldable.read_value(),
    'key': lambda: entropy.operating_system_key(unfoldable.read_value()),
    'four times tf.io.read_file': by_read_file,
  }
  return {name: tf.function(work, autograph=False) for name, work in found.items()}


def cpu_times(graphs: dict, rounds: int) -> dict[str, float]:
  """Median CPU seconds of each graph, all run in turn."""
  for graph in graphs.values():
    graph()
  found: dict[str, list[float]] = {name: [] for name in graphs}
  for _ in range(rounds):
    for name, graph in graphs.items():
      started = time.process_time()
      graph()
      found[name].append(time.process_time() - started)
  return {name: statistics.median(seconds) for name, seconds in found.items()}


def bits_of_a_value(sigma: float) -> float:
  """Random bits of a draw, ties included: the expectation."""
  tables = samplers.noise_sampler('discrete_gaussian', sigma**2).tables
  return sum(
    t.draw_bits + 32 * alias.TIE_WORDS * 2.0 ** (t.log_columns - t.draw_bits) for t in tables
  )


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--json', metavar='FILE', help='write the results')
  parser.add_argument('--values', type=int, default=1_000_000)
  parser.add_argument('--rounds', type=int, default=15)
  args = parser.parse_args()
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  environment = measure.environment()
  print(environment)

  seconds = cpu_times(kernels(args.values), args.rounds)
  nothing = seconds.pop(NOTHING)
  seconds = {name: cost - nothing for name, cost in seconds.items()}
  base = seconds[NORMAL]
  over_normal = {name: round(cost / base, 2) for name, cost in seconds.items()}
  print(f'\n{args.values:,} values, one core, medians of {args.rounds} interleaved runs,')
  print(f'less {1e9 * nothing / args.values:.1f} ns for a graph that does nothing:\n')
  rows = [
    [name, over_normal[name], f'{1e9 * cost / args.values:.1f}'] for name, cost in seconds.items()
  ]
  print(measure.table(['', f'x {NORMAL}', 'ns a value here'], rows))

  chacha_over_philox = round(seconds['words, chacha20'] / seconds['words, philox'], 2)
  print(f'\nChaCha20 takes {chacha_over_philox} times as long for a word as Philox.')

  bits = {str(sigma): round(bits_of_a_value(sigma), 2) for sigma in SIGMAS}
  rounding_bits = 128 / args.values
  print(f'\nSecret bits a value for noise (and {rounding_bits:g} for the seed of the rounding):\n')
  print(measure.table(['standard deviation', 'bits'], list(bits.items())))

  padding = {str(dim): round(hadamard.padded_dimension(dim) / dim - 1, 4) for dim in PADDED}
  worst = max(hadamard.padded_dimension(dim) / dim - 1 for dim in range(1000, 20_000))
  print(f'\nPadding, at most {100 * worst:.1f} % from 1,000 to 20,000 values:\n')
  print(measure.table(['values', 'padding'], [[d, f'{100 * p:.1f} %'] for d, p in padding.items()]))

  key_seconds = cpu_times(keys(), 20 * args.rounds)
  print("\nA client's key, microseconds of CPU time here:\n")
  print(measure.table(['', 'us'], [[n, round(1e6 * s)] for n, s in key_seconds.items()]))

  measure.write_json(
    args.json,
    {
      'environment': environment,
      'values': args.values,
      'rounds': args.rounds,
      'cpu_over_normal': over_normal,
      'nanoseconds_a_value_here': {n: round(1e9 * s / args.values, 2) for n, s in seconds.items()},
      'chacha20_word_over_philox_word': chacha_over_philox,
      'secret_bits_of_noise': bits,
      'padding': {**padding, 'worst from 1000 to 20000': round(worst, 4)},
      'key_microseconds_here': {name: round(1e6 * s, 1) for name, s in key_seconds.items()},
    },
  )
  return 0


if __name__ == '__main__':
  sys.exit(main())

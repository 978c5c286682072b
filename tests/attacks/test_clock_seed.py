"""Noise seeded by the clock can be found in the sum of all clients, and removed."""

import numpy as np
import tensorflow as tf
from attack_runs import messages, plain_layers, stack_of, stream, sums_of

from tff_privacy_agg.numerics import entropy, modular, samplers
from tff_privacy_agg.numerics.randomness import MODEL_NOISE, RandomStream

DIM, CLIENTS, WINDOW = 4096, 10, 2000
STDDEV = 400.0


def microseconds() -> int:
  return int(1e6 * tf.timestamp())


@tf.function(autograph=False)
def clock_share(seed):
  """What a clock-seeded client adds."""
  normal = tf.random.stateless_normal([DIM], tf.stack([seed, tf.zeros_like(seed)]))
  return tf.round(STDDEV * normal)


def scores(total, candidates, regenerate):
  """Correlation of the sum with each candidate's share; standard normal if unrelated."""
  total = total / np.linalg.norm(total)
  shares = np.stack([regenerate(tf.constant(c, tf.int64)).numpy() for c in candidates])
  return shares @ total / np.sqrt(np.mean(np.square(shares, dtype=np.float64), axis=1))


def test_of_the_test_clock_seeds_are_found_and_the_sum_is_bared():
  """A true share's score is about sqrt(d / n) = 20; of 2,000 others the largest is below 6."""
  start = microseconds()
  seeds = start + np.sort(np.random.default_rng(0).choice(WINDOW, CLIENTS, replace=False))
  secret = np.arange(DIM) % 7
  total = secret + sum(clock_share(tf.constant(s)).numpy() for s in seeds)
  found = scores(total, range(start, start + WINDOW), clock_share)
  others = np.delete(found, seeds - start)
  assert found[seeds - start].min() > 12
  assert np.abs(others).max() < 6
  top = start + np.argsort(found)[-CLIENTS:]
  bared = total - sum(clock_share(tf.constant(s)).numpy() for s in top)
  np.testing.assert_array_equal(bared, secret)


def guesses(stack):
  """Generators that an attacker who knows the code and the time would try."""
  sampler = samplers.noise_sampler('discrete_gaussian', stack.binding.design.local_variance)

  def keyed(words):
    def regenerate(seed):
      low = tf.bitcast(seed, tf.int32)[0]
      return sampler.sample(RandomStream(kind='philox', key=words(low)), MODEL_NOISE, DIM)

    return tf.function(regenerate, autograph=False)

  yield clock_share
  yield keyed(lambda low: tf.stack([low, *[0] * 7]))
  yield keyed(lambda low: tf.stack([low] * 8))


def test_no_integer_of_the_clock_gives_our_noise():
  """6,000 candidates, none above 6: false alarm rate 1e-5."""
  stack = stack_of(plain_layers(bits=20, z=8.0), DIM)
  params = stack.prepare(stack.init())
  before = microseconds()
  sent = []
  for _ in range(CLIENTS):
    key = entropy.operating_system_key(params['round'])
    sent.append(stack.client(params, tf.zeros([DIM]), RandomStream(kind='philox', key=key)))
  middle = (before + microseconds()) // 2
  total = modular.centre(sums_of(stack, sent)['vector'], 20).numpy().astype(np.float64)
  # It is noise of the stated size, all that an attacker who knows every value would see.
  variance = CLIENTS * stack.binding.design.local_variance
  assert 0.9 < np.var(total) / variance < 1.1
  for regenerate in guesses(stack):
    found = scores(total, range(middle - WINDOW // 2, middle + WINDOW // 2), regenerate)
    assert np.abs(found).max() < 6


def test_of_the_test_the_attack_finds_a_key_that_it_can_guess():
  """The same attack, on our encoder with a key made from the clock."""
  stack = stack_of(plain_layers(bits=20, z=8.0), DIM)
  params = stack.prepare(stack.init())
  start = microseconds()
  low = int(np.int64(start).astype(np.int32))
  guessable = RandomStream(kind='philox', key=tf.constant([low, *[0] * 7]))
  sent = [stack.client(params, tf.zeros([DIM]), guessable)]
  sent += messages(stack, np.zeros([CLIENTS - 1, DIM]))
  total = modular.centre(sums_of(stack, sent)['vector'], 20).numpy().astype(np.float64)
  _, keyed, _ = guesses(stack)
  found = scores(total, range(start - 500, start + 500), keyed)
  assert np.argmax(found) == 500
  assert found[500] > 12


def test_streams_of_different_keys_do_not_correlate():
  stack = stack_of(plain_layers(z=8.0), DIM)
  sampler = samplers.noise_sampler('discrete_gaussian', stack.binding.design.local_variance)
  for kind in ('philox', 'chacha20'):
    draws = np.stack([sampler.sample(stream(i, kind=kind), MODEL_NOISE, DIM) for i in range(30)])
    correlation = np.corrcoef(draws)[np.triu_indices(30, 1)] * np.sqrt(DIM)
    assert np.abs(correlation).max() < 6  # 435 pairs: false alarm 1e-6

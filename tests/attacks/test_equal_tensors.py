"""Two tensors of one client, equal in shape and value, must not get equal noise."""

import numpy as np
import tensorflow as tf
from attack_runs import adaptive_layers, stack_of

from tff_privacy_agg.aggregation.layers import AdaptiveQuantile
from tff_privacy_agg.numerics import structures
from tff_privacy_agg.numerics.randomness import RandomStream

SIZE, RUNS = 4, 10_000


def test_of_the_test_a_seed_from_the_clock_for_each_tensor_repeats():
  """As upstream does, tensor by tensor: two fast draws can fall into one tick."""

  def noise():
    # A clock with ten ticks a second makes it frequent, on slow machines too.
    seed = tf.cast(10 * tf.timestamp(), tf.int64)
    return tf.random.stateless_poisson([SIZE], [seed, 0], 1e4, tf.int64)

  equal = [np.array_equal(noise(), noise()) for _ in range(100)]
  assert np.mean(equal) > 0.2


def test_equal_tensors_get_different_noise_in_ten_thousand_runs():
  """Equal by chance: (1 / (2 sigma sqrt(pi)))^4 a run, 1e-7 in all."""
  quantile = AdaptiveQuantile(initial=1.0, target=0.5)
  stack = stack_of(adaptive_layers(quantile, z=20.0), 2 * SIZE)
  assert stack.binding.design.local_variance > 100**2
  state = stack.init()
  params = stack.prepare(state)
  tensor = tf.fill([2, SIZE // 2], 0.1)
  keys = np.random.default_rng(0).integers(-(2**31), 2**31, [RUNS, 8]).astype(np.int32)

  def one(key):
    vector = structures.concatenate([tensor, tensor], tf.float32)
    return stack.client(params, vector, RandomStream(kind='philox', key=key))

  signature = {'vector': tf.int32, 'channels': tf.int32}
  run = tf.function(
    lambda k: tf.map_fn(lambda key: dict(one(key)), k, fn_output_signature=signature),
    autograph=False,
  )
  sent = run(keys)
  first, second = np.split(sent['vector'].numpy(), 2, axis=1)
  assert not np.any(np.all(first == second, axis=1))
  # Nor do runs repeat each other, or the bit's noise the vector's.
  assert len(np.unique(sent['vector'], axis=0)) == RUNS
  bits = sent['channels'].numpy()[:, 1].astype(np.float64)
  for column in sent['vector'].numpy().astype(np.float64).T:
    assert abs(np.corrcoef(bits, column)[0, 1]) * np.sqrt(RUNS) < 5  # 8 of them: 5e-6

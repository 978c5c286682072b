"""From two consecutive thresholds, the count of clients below the first."""

import math

import numpy as np
import tensorflow as tf
import tensorflow_privacy as tfp
from attack_runs import adaptive_layers, channel_sums, stack_of

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import AdaptiveQuantile

CLIENTS, ROUNDS = 20, 500
TARGET, RATE = 0.5, math.log(10.0)
LENGTHS = np.linspace(0.5, 3.5, CLIENTS)
BELOW = int(np.sum(LENGTHS <= 2.0))


def recovered(threshold, next_threshold):
  """The attack on `2 quantile + 1`, known target and learning rate: clients below."""
  before, after = ((np.asarray(t) - 1) / 2 for t in (threshold, next_threshold))
  return CLIENTS * (TARGET - np.log(after / before) / RATE)


def test_of_the_test_the_quantile_without_noise_gives_the_exact_count():
  """TensorFlow Privacy's estimator, which TFF's zeroing uses without noise."""
  query = tfp.NoPrivacyQuantileEstimatorQuery(
    initial_estimate=2.0, target_quantile=TARGET, learning_rate=RATE, geometric_update=True
  )
  state = query.initial_global_state()
  params = query.derive_sample_params(state)
  total = query.initial_sample_state(tf.TensorSpec([], tf.float32))
  for length in LENGTHS:
    record = query.preprocess_record(params, tf.constant(length, tf.float32))
    total = query.accumulate_preprocessed_record(total, record)
  estimate, _, _ = query.get_noised_result(total, state)
  found = recovered(2 * 2.0 + 1, 2 * float(estimate) + 1)
  assert abs(found - BELOW) < 0.01


def test_our_thresholds_give_a_count_that_is_off_by_the_noise():
  """Mean and deviation of 500 recovered counts, 4 standard errors each (1.3e-4 in all)."""
  quantile = AdaptiveQuantile(
    initial=2.0, target=TARGET, learning_rate=RATE, multiplier=2.0, increment=1.0
  )
  stack = stack_of(adaptive_layers(quantile, z=0.5), 1, Cohort(expected=CLIENTS))
  (plan,) = stack.binding.channels
  state = stack.init()
  server = tf.function(lambda sums: stack.server(state, sums, None)[::2], autograph=False)
  found = []
  for channels in channel_sums(stack, LENGTHS[:, None], ROUNDS):
    new_state, measurements = server({'vector': tf.zeros([1], tf.int32), 'channels': channels})
    after = 2 * new_state['zeroing']['estimate'] + 1
    found.append(recovered(measurements['zeroing']['threshold'], after))
  # The deviation of the sum of +1 and -1, halved; the default of this cohort is one client.
  stddev = math.sqrt(CLIENTS * plan.local_variance) / plan.resolution / 2
  assert 1.0 <= stddev < 1.1
  assert abs(np.mean(found) - BELOW) < 4 * stddev / math.sqrt(ROUNDS)
  score = math.sqrt(ROUNDS / 2)
  assert abs(np.var(found) / stddev**2 - 1) * score < 4
  assert abs(np.var(found) / (0.7 * stddev) ** 2 - 1) * score > 4
  assert abs(np.var(found) / (1.4 * stddev) ** 2 - 1) * score > 4

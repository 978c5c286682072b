"""An exact count next to a noised one undoes the noise."""

import numpy as np
import tensorflow as tf
from attack_runs import adaptive_layers, channel_sums, messages, stack_of, sums_of

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import AdaptiveQuantile

DIM, CLIENTS = 16, 12
THRESHOLD = AdaptiveQuantile(initial=2.0, target=0.5)
COHORT = Cohort(expected=CLIENTS)


def values(moved: bool):
  """Twelve clients, five above the threshold; the last one just below or just above."""
  lengths = np.array([0.5] * 6 + [3.0] * 5 + [2.01 if moved else 1.99])
  return lengths[:, None] * np.eye(DIM)[0]


def numbers(measurements, state):
  """Every number that the server puts out besides the model."""
  found = {}
  for layer, entry in measurements.items():
    found |= {(layer, key): float(value) for key, value in entry.items()}
  for layer, entry in state.items():
    for key, value in entry.items():
      found |= {(layer, key, i): float(x) for i, x in enumerate(np.ravel(value))}
  return found


def one_round(stack, moved, seed):
  sent = messages(stack, values(moved), seed=seed)
  state, vector, measurements = stack.server(stack.init(), sums_of(stack, sent), None)
  return sent, vector.numpy(), numbers(measurements, state)


def test_one_client_across_the_threshold_changes_noised_channels_only():
  stack = stack_of(adaptive_layers(THRESHOLD, z=1.0), DIM, COHORT)
  (plan,) = stack.binding.channels
  assert plan.local_variance > 0
  (sent, vector, told), (sent_moved, vector_moved, told_moved) = (
    one_round(stack, moved, seed=4) for moved in (False, True)
  )
  for before, after in zip(sent[:-1], sent_moved[:-1], strict=True):
    for name in before:
      np.testing.assert_array_equal(before[name], after[name])
  # The one who moved: its noised bit by two steps, its noised vector, and not the count of heads.
  difference = (sent_moved[-1]['channels'] - sent[-1]['channels']).numpy()
  modulus = 2**stack.binding.channel_bits
  assert difference[0] == 0
  assert difference[1] % modulus == 2 * plan.resolution
  assert np.any(vector != vector_moved)
  # Of the server's numbers, the bit's sum and what follows from it.
  changed = {key for key in told if told[key] != told_moved[key]}
  assert changed == {('zeroing', 'above'), ('zeroing', 'estimate', 0)}


def counts_told(z, rounds):
  """The number above the threshold, 6 in truth, as the server's metric gives it each round."""
  stack = stack_of(adaptive_layers(THRESHOLD, z=z), DIM, COHORT)
  state = stack.init()
  server = tf.function(lambda sums: stack.server(state, sums, None)[2]['zeroing']['above'])
  zeros = tf.zeros([DIM], tf.int32)
  sums = channel_sums(stack, values(moved=True), rounds)
  return [CLIENTS * float(server({'vector': zeros, 'channels': one})) for one in sums]


def test_no_output_gives_the_count_away():
  """Noise of one client's deviation: the nearest count is right in 38 % of 400 rounds.

  5 deviations on either side (6e-7). Reported without noise, as upstream's `zeroed_count`, it
  is right always.
  """
  right = np.mean(np.round(counts_told(z=0.5, rounds=400)) == 6)
  assert abs(right - 0.383) < 5 * np.sqrt(0.383 * 0.617 / 400)
  np.testing.assert_allclose(counts_told(z=0.0, rounds=5), 6, rtol=1e-6)


def test_every_channel_of_a_private_stack_is_noised():
  stack = stack_of(adaptive_layers(THRESHOLD), DIM, COHORT)
  assert [plan.name for plan in stack.binding.channels] == ['above']
  assert all(plan.local_variance > 0 for plan in stack.binding.channels)
  assert messages(stack, values(False))[0]['channels'].shape == [2]  # and the count of heads

"""What the sum is divided by must not tell who sent what."""

import numpy as np
import pytest
from attack_runs import messages, run, stack_of, sums_of

from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import (
  Clipping,
  DiscreteGaussianNoise,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  WeightedMean,
  Zeroing,
)

DIM = 6
VALUES = np.tile(np.linspace(0.1, 0.3, DIM), [5, 1])


def replaced(row):
  """The neighbour: the last client's vector is another one."""
  neighbour = VALUES.copy()
  neighbour[-1] = row
  return neighbour


@pytest.mark.parametrize('row', [0.0, np.nan, 1e6], ids=['zeros', 'nan', 'zeroed'])
def test_mean_divides_by_the_public_count(row):
  """A zeroed client still counts: four fifths of the mean are left, exactly."""
  stack = stack_of([Mean(), Zeroing(threshold=10.0), Clipping(norm=1.0), PlainSum()], DIM)
  _, before, _ = run(stack, VALUES)
  _, after, measurements = run(stack, replaced(row))
  np.testing.assert_allclose(after, 0.8 * before, rtol=1e-6)
  assert measurements['privacy']['survivors'] == 5


def test_of_the_test_a_mean_of_those_who_were_kept_hides_nothing():
  """Dividing by the number that passed: the mean is the same, so the divisor was 4, not 5."""
  kept = replaced(0.0)[np.any(replaced(0.0), axis=1)]
  np.testing.assert_allclose(kept.sum(axis=0) / len(kept), VALUES.mean(axis=0), rtol=1e-12)


def private_weighted():
  layers = [
    WeightedMean(maximum=2.0),
    Clipping(norm=1.0),
    Quantization(),
    DiscreteGaussianNoise(noise_multiplier=1.0),
    SecureModularSum(bits=20),
  ]
  return stack_of(layers, DIM, Cohort(expected=5))


def test_weights_enter_through_a_noised_channel_only():
  stack = private_weighted()
  (plan,) = stack.binding.channels
  assert (plan.layer, plan.name) == ('weighted_mean', 'weight')
  assert plan.local_variance > 0
  told = []
  for weight in (0.0, 2.0):
    weights = [1.0, 1.0, 1.0, 1.0, weight]
    sent = messages(stack, np.zeros([5, DIM]), weights=weights)
    told.append(sums_of(stack, sent))
  # Of the two sums, the noised channel alone differs: by one unit of its sensitivity.
  np.testing.assert_array_equal(told[0]['vector'], told[1]['vector'])
  difference = (told[1]['channels'] - told[0]['channels']).numpy() % 2**stack.binding.channel_bits
  np.testing.assert_array_equal(difference, [0, plan.resolution])


def test_the_divisor_of_a_weighted_mean_is_that_channel():
  """Nothing else: the decoded vector times the reported weight is the noised sum."""
  stack = private_weighted()
  state = stack.init()
  vectors = []
  for weights in ([1.0] * 5, [2.0] * 5):
    sums = sums_of(stack, messages(stack, np.zeros([5, DIM]), weights=weights))
    _, vector, measurements = stack.server(state, sums, None)
    divisor = max(float(measurements['weighted_mean']['weight']) / 2.0, 1.0)
    vectors.append(vector.numpy() * divisor)
  np.testing.assert_allclose(vectors[0], vectors[1], rtol=1e-5)

"""TFF's factories inside a stack, and stacks inside TFF's factories."""

import cases
import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

VALUES = [np.array(row, np.float32) for row in ([1, -2, 3, 0], [4, 5, -6, 1], [0, 0, 1, 8])]
TOTAL = np.sum(VALUES, axis=0)

BITS = 40
FOREIGN = {
  'SumFactory': tff.aggregators.SumFactory(),
  'SecureModularSumFactory': tff.aggregators.SecureModularSumFactory(2**BITS),
  # What the sum of the residues of three clients stays below.
  'SecureSumFactory': tff.aggregators.SecureSumFactory(2**BITS),
}


@pytest.mark.parametrize('name', FOREIGN)
def test_foreign_sum_equals_the_secure_modular_sum(name):
  process = tpa.compose(
    [
      tpa.Clipping(norm=100.0),
      tpa.Quantization(),
      tpa.ForeignSum(factory=FOREIGN[name], modulus=2**BITS),
    ],
    cohort=tpa.Cohort(expected=3),
  ).create(cases.VECTOR)
  state = process.initialize()
  for _ in range(2):
    output = process.next(state, VALUES)
    state = output.state
    np.testing.assert_allclose(output.result, TOTAL, atol=1e-5)
  assert state['privacy']['rounds'] == 2


def test_foreign_sum_carries_private_channels():
  cohort = tpa.Cohort(expected=3)
  layers = cases.noised(cohort).layers[:-1]
  foreign = tpa.ForeignSum(factory=FOREIGN['SecureModularSumFactory'], modulus=2**BITS)
  process = tpa.compose([*layers, foreign], cohort=cohort).create(cases.VECTOR)
  output = process.next(process.initialize(), VALUES)
  assert output.measurements['privacy']['survivors'] == 3
  assert np.all(np.isfinite(output.result))


def test_foreign_modulus_must_hold_the_counts():
  foreign = tpa.ForeignSum(factory=tff.aggregators.SumFactory(), modulus=2**8)
  stack = [tpa.Clipping(norm=1.0), tpa.Quantization(), foreign]
  factory = tpa.compose(stack, cohort=tpa.Cohort(expected=1000, minimum=1))
  with pytest.raises(tpa.ConfigurationError, match=r'at least 2\*\*11 .* got 2\*\*8'):
    factory.create(cases.VECTOR)


def test_foreign_secure_sum_leaks_nothing_more():
  stack = [tpa.Clipping(norm=1.0), tpa.Quantization()]
  foreign = tpa.ForeignSum(factory=FOREIGN['SecureModularSumFactory'], modulus=2**BITS)
  process = tpa.compose([*stack, foreign], cohort=tpa.Cohort(expected=3)).create(cases.VECTOR)
  tff.test.assert_not_contains_unsecure_aggregation(process.next)


def test_a_stack_works_inside_tffs_clipping():
  factory = tff.aggregators.clipping_factory(1.0, cases.exact())
  process = factory.create(cases.VECTOR)
  output = process.next(process.initialize(), VALUES)
  want = sum(value / np.linalg.norm(value) for value in VALUES)
  np.testing.assert_allclose(output.result, want, atol=1e-5)


def test_a_stack_works_inside_tffs_zeroing():
  factory = tff.aggregators.zeroing_factory(7.0, cases.exact())
  process = factory.create(cases.VECTOR)
  output = process.next(process.initialize(), VALUES)
  np.testing.assert_allclose(output.result, VALUES[0] + VALUES[1], atol=1e-5)


def test_a_stack_works_inside_tffs_mean():
  factory = tff.aggregators.UnweightedMeanFactory(value_sum_factory=cases.exact())
  process = factory.create(cases.VECTOR)
  output = process.next(process.initialize(), VALUES)
  np.testing.assert_allclose(output.result, TOTAL / 3, atol=1e-5)
  assert output.measurements['mean_value']['privacy']['survivors'] == 3


def test_a_weighted_stack_works_inside_tffs_clipping():
  inner = tpa.robust_aggregator(zeroing=False, clipping=False)
  process = tff.aggregators.clipping_factory(1.0, inner).create(cases.VECTOR, cases.WEIGHT)
  weights = np.array([1, 2, 3], np.float32)
  output = process.next(process.initialize(), VALUES, list(weights))
  clipped = [value / np.linalg.norm(value) for value in VALUES]
  np.testing.assert_allclose(
    output.result, np.average(clipped, axis=0, weights=weights), rtol=1e-5, atol=1e-6
  )

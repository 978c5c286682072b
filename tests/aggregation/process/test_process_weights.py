"""Weighted stacks compute the weighted mean."""

import cases
import numpy as np
import pytest

import tff_privacy_agg as tpa

pytestmark = pytest.mark.integration

MAXIMUM = 10.0
VALUES = [np.array(row, np.float32) for row in 0.1 * np.arange(20).reshape(5, 4)]
WEIGHTS = {
  'integers': [1, 2, 3, 4, 5],
  'fractions': [0.125, 0.7, 1e-3, 9.99, 2.5],
  'zeros among them': [0, 0, 3, 0, 1],
  'above the maximum': [5, 11, 1e9, 10, 1],
  'not numbers': [np.nan, 1, np.inf, -np.inf, 2],
  'negative': [-3, 1, 2, -0.5, 4],
}


def weighted(*, secure):
  end = [tpa.Quantization(), tpa.SecureModularSum(bits=50)] if secure else [tpa.PlainSum()]
  return tpa.compose_weighted(
    [tpa.Clipping(norm=10.0), tpa.WeightedMean(maximum=MAXIMUM), *end],
    cohort=tpa.Cohort(expected=5),
  )


FACTORIES = {
  'modular': lambda: weighted(secure=True),
  'plain': lambda: weighted(secure=False),
  'secure_aggregator': lambda: tpa.secure_aggregator(clipping=False, maximum_weight=MAXIMUM),
  'robust_aggregator': lambda: tpa.robust_aggregator(clipping=False, maximum_weight=MAXIMUM),
}


@pytest.mark.parametrize('name', FACTORIES)
def test_equals_the_weighted_mean_or_zeros(name):
  process = FACTORIES[name]().create(cases.VECTOR, cases.WEIGHT)
  for case, given in WEIGHTS.items():
    weights = np.array(given, np.float32)
    output = process.next(process.initialize(), VALUES, list(weights))
    # A weight that is not a finite number counts as 0, others are clipped.
    used = np.clip(np.where(np.isfinite(weights), weights, 0).astype(np.float64), 0, MAXIMUM)
    want = np.average(VALUES, axis=0, weights=used)
    np.testing.assert_allclose(output.result, want, rtol=1e-4, err_msg=case)
    total = output.measurements['weighted_mean']['weight']
    np.testing.assert_allclose(total, used.sum(), rtol=1e-6, err_msg=case)
  output = process.next(process.initialize(), VALUES, [np.float32(0)] * len(VALUES))
  np.testing.assert_array_equal(output.result, np.zeros(4))


def test_default_maximum_keeps_small_weights():
  # Weights are numbers of examples: a thousandth of a percent of the largest one must do.
  process = tpa.secure_aggregator().create(cases.VECTOR, cases.WEIGHT)
  weights = np.array([1, 2, 3, 40, 5], np.float32)
  values = [value / 10 for value in VALUES]
  output = process.next(process.initialize(), values, list(weights))
  np.testing.assert_allclose(output.result, np.average(values, axis=0, weights=weights), rtol=1e-3)

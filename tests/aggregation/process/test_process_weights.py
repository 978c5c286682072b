"""Weighted stacks compute the weighted mean."""

import warnings

import cases
import numpy as np
import pytest
import tensorflow_federated as tff

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


def _spread_vectors(norm, dim):
  normal = np.random.default_rng(5).normal(size=(4, dim))
  return list((norm * normal / np.linalg.norm(normal, axis=1, keepdims=True)).astype(np.float32))


def _error(found, values, weights):
  want = np.average(np.array(values, np.float64), axis=0, weights=np.array(weights, np.float64))
  return np.linalg.norm(found - want) / np.linalg.norm(want)


@pytest.mark.parametrize('clipping', [True, False])
def test_defaults_keep_any_weight_and_the_measurement_states_what_is_lost(clipping):
  dim, norm = 20_000, 0.1
  factory = tpa.secure_aggregator(clipping=clipping)
  with warnings.catch_warnings():
    warnings.simplefilter('error', UserWarning)
    process = factory.create(tff.TensorType(np.float32, [dim]), cases.WEIGHT)
  values = _spread_vectors(norm, dim)
  for weights in ([1] * 4, [8, 12, 16, 20], [1, 100, 10_000, 1_000_000]):
    output = process.next(process.initialize(), values, list(np.array(weights, np.float32)))
    error = _error(output.result, values, weights)
    stated = output.measurements['quantization']['relative_error']
    # Of 20,000 errors: their norm is within 2 % of the expected one. The result is in float32.
    np.testing.assert_allclose(error, stated, rtol=0.03, atol=6e-8)
    assert error < 3e-5  # what TFF's loses in this case: 1.9e-5


def test_rounding_at_random_loses_what_the_measurement_states():
  factory = tpa.compose(
    [tpa.Mean(), tpa.Clipping(norm=1.0), tpa.Quantization(), tpa.SecureModularSum(bits=24)],
    cohort=tpa.Cohort(expected=4),
  )
  process = factory.create(tff.TensorType(np.float32, [20_000]))
  values = _spread_vectors(0.5, 20_000)
  output = process.next(process.initialize(), values)
  stated = output.measurements['quantization']['relative_error']
  np.testing.assert_allclose(_error(output.result, values, np.ones(4)), stated, rtol=0.03)


@pytest.mark.parametrize('weighted', [True, False])
def test_too_few_bits_for_the_weights_are_said_to_be(weighted):
  factory = tpa.secure_aggregator(bits=44 if weighted else 24, weighted=weighted)
  types = [tff.TensorType(np.float32, [20_000])] + [cases.WEIGHT] * weighted
  with pytest.warns(UserWarning, match='a relative error of 0.00') as caught:
    factory.create(*types)
  assert ('weight 1' in str(caught[0].message)) == weighted


@pytest.mark.parametrize('secure', [True, False])
def test_weights_that_are_too_small_to_count_move_nothing(secure):
  # Half of a step of the sum of weights and less: nothing may be divided by what is left of it.
  process = weighted(secure=secure).create(cases.VECTOR, cases.WEIGHT)
  tiny = [np.float32(MAXIMUM * 2.0**-42)] * len(VALUES)
  output = process.next(process.initialize(), VALUES, tiny)
  np.testing.assert_array_equal(output.result, np.zeros(4))


def test_all_weights_of_0_give_zeros_where_tff_gives_nan():
  nothing = [np.float32(0)] * len(VALUES)
  process = tff.aggregators.MeanFactory().create(cases.VECTOR, cases.WEIGHT)
  output = process.next(process.initialize(), VALUES, nothing)
  assert np.isnan(output.result).all()
  assert set(output.measurements) == {'mean_value', 'mean_weight'}
  assert set(process.initialize()) == {'value_sum_process', 'weight_sum_process'}
  for make in (tpa.secure_aggregator, tpa.robust_aggregator):
    process = make().create(cases.VECTOR, cases.WEIGHT)
    output = process.next(process.initialize(), VALUES, nothing)
    np.testing.assert_array_equal(output.result, np.zeros(4))
    assert {'weighted_mean', 'privacy'} <= set(output.measurements)
    assert set(process.initialize()) == {'zeroing', 'clipping', 'privacy'}

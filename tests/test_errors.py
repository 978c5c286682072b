"""Refusals of values: numbers, cohorts, sums, randomness and recipes."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.errors import (
  CompositionError,
  ConfigurationError,
  PrivacyAggError,
  RuntimeUnavailableError,
)

COHORT = tpa.Cohort(expected=10)
QUANTILE = tpa.AdaptiveQuantile(initial=1.0, target=0.5)
CLIP, QUANTIZE = tpa.Clipping(norm=1.0), tpa.Quantization()
NOT_NUMBERS = ['1', None, True, [1.0], 1j]
NOT_POSITIVE = [0, 0.0, -1, -1e-9, math.nan, math.inf, -math.inf]
NOT_INTEGERS = [1.5, '1', None, True, math.nan]


def ids(value):
  return repr(value)[:40]


def bad(values):
  return pytest.mark.parametrize('value', values, ids=ids)


# The tree.


@pytest.mark.parametrize(
  ('error', 'builtin'),
  [
    (CompositionError, TypeError),
    (ConfigurationError, ValueError),
    (RuntimeUnavailableError, RuntimeError),
  ],
)
def test_errors_are_of_this_package_and_of_python(error, builtin):
  assert issubclass(error, PrivacyAggError)
  assert issubclass(error, builtin)


# Numbers.

POSITIVE_NUMBERS = {
  'Clipping.norm': ('norm', lambda x: tpa.Clipping(norm=x)),
  'Zeroing.threshold': ('threshold', lambda x: tpa.Zeroing(threshold=x)),
  'WeightedMean.maximum': ('maximum', lambda x: tpa.WeightedMean(maximum=x)),
  'AdaptiveQuantile.initial': ('initial', lambda x: dataclasses.replace(QUANTILE, initial=x)),
  'AdaptiveQuantile.learning_rate': (
    'learning_rate',
    lambda x: dataclasses.replace(QUANTILE, learning_rate=x),
  ),
  'AdaptiveQuantile.multiplier': (
    'multiplier',
    lambda x: dataclasses.replace(QUANTILE, multiplier=x),
  ),
  'DiscreteGaussianNoise': (
    'noise_multiplier',
    lambda x: tpa.DiscreteGaussianNoise(noise_multiplier=x),
  ),
  'SkellamNoise': ('noise_multiplier', lambda x: tpa.SkellamNoise(noise_multiplier=x)),
  'CentralDiscreteGaussianNoise': (
    'noise_multiplier',
    lambda x: tpa.CentralDiscreteGaussianNoise(noise_multiplier=x),
  ),
  'CorrelatedNoise': (
    'noise_multiplier',
    lambda x: tpa.CorrelatedNoise(
      noise_multiplier=x, strategy=tpa.BandedToeplitz.from_floats([1.0], separation=1)
    ),
  ),
  'ddp_secure_aggregator': ('noise_multiplier', lambda x: tpa.ddp_secure_aggregator(x, 100)),
  'dp_aggregator.z': ('noise_multiplier', lambda x: tpa.dp_aggregator(x, 100)),
  'dp_aggregator.n': ('clients_per_round', lambda x: tpa.dp_aggregator(1.0, x)),
}


@pytest.mark.parametrize(('name', 'make'), POSITIVE_NUMBERS.values(), ids=POSITIVE_NUMBERS.keys())
def test_numbers_that_are_not_positive_are_refused(name, make):
  for value in NOT_NUMBERS:
    with pytest.raises(ConfigurationError, match=rf'`{name}` must be a (positive )?number'):
      make(value)
  for value in NOT_POSITIVE:
    with pytest.raises(ConfigurationError, match=f'`{name}` must be finite and positive, got'):
      make(value)
  make(2)  # of the test: an ordinary number is taken
  make(2.5)


@bad([0, 1, -0.1, 1.5, math.nan, math.inf])
def test_fractions_lie_strictly_between_zero_and_one(value):
  for name, make in {
    'target': lambda x: dataclasses.replace(QUANTILE, target=x),
    'modclip_prob': lambda x: tpa.Quantization(modclip_prob=x),
    'delta': lambda x: tpa.compose([tpa.PlainSum()], cohort=COHORT, delta=x),
  }.items():
    with pytest.raises(ConfigurationError, match=f'`{name}` must lie strictly between 0 and 1'):
      make(value)
    make(0.5)


@bad([-0.5, math.nan, math.inf])
def test_numbers_below_zero_are_refused_where_zero_is_allowed(value):
  with pytest.raises(ConfigurationError, match='`increment` must be finite and not negative'):
    dataclasses.replace(QUANTILE, increment=value)
  with pytest.raises(ConfigurationError, match='`beta` must be finite and not negative'):
    tpa.Quantization(beta=value)
  with pytest.raises(ConfigurationError, match='`colluding_fraction` must be finite and not neg'):
    tpa.Cohort(expected=10, colluding_fraction=value)


def test_numbers_beyond_a_limit_of_their_own_are_refused():
  with pytest.raises(ConfigurationError, match='`multiplier` must be at least 1, got'):
    dataclasses.replace(QUANTILE, multiplier=0.5)
  with pytest.raises(ConfigurationError, match='`beta` must be below 1, got 1'):
    tpa.Quantization(beta=1.0)
  for value in (0, -1.0, math.nan, True):
    with pytest.raises(ConfigurationError, match='`count_stddev` must be'):
      dataclasses.replace(QUANTILE, count_stddev=value)
    with pytest.raises(ConfigurationError, match='`weight_stddev` must be'):
      tpa.WeightedMean(maximum=1.0, weight_stddev=value)


@bad(NOT_INTEGERS)
def test_numbers_that_are_no_integers_are_refused(value):
  for name, make in {
    'bits': lambda x: tpa.SecureModularSum(bits=x),
    'modulus': lambda x: tpa.ForeignSum(factory=tff.aggregators.SumFactory(), modulus=x),
    'expected': lambda x: tpa.Cohort(expected=x),
    'expected_clients_per_round': lambda x: tpa.ddp_secure_aggregator(1.0, x),
  }.items():
    with pytest.raises(ConfigurationError, match=f'`{name}` must be an integer, got'):
      make(value)


# Cohorts.

COHORTS = {
  'none': ({'expected': 0}, '`expected` must be at least 1, got 0'),
  'negative': ({'expected': -3}, '`expected` must be at least 1'),
  'maximum': ({'expected': 10, 'maximum': 9}, '`maximum` must be at least 10, got 9'),
  'minimum_zero': ({'expected': 10, 'minimum': 0}, '`minimum` must be at least 1, got 0'),
  'minimum': (
    {'expected': 10, 'minimum': 11},
    r'`minimum` must be at most the 10 honest .* got 11. Lower `minimum`',
  ),
  'colluders': (
    {'expected': 10, 'minimum': 8, 'colluding_fraction': 0.3},
    '`minimum` must be at most the 7 honest clients among 10 expected, got 8',
  ),
  'all_collude': (
    {'expected': 10, 'colluding_fraction': 1.0},
    '`colluding_fraction` must be below 1, got 1.0. With no honest client',
  ),
  'text': ({'expected': 10, 'colluding_fraction': 'half'}, '`colluding_fraction` must be a number'),
  'maximum_text': ({'expected': 10, 'maximum': '12'}, '`maximum` must be an integer'),
  'minimum_float': ({'expected': 10, 'minimum': 7.0}, '`minimum` must be an integer'),
}


@pytest.mark.parametrize(('arguments', 'message'), COHORTS.values(), ids=COHORTS.keys())
def test_cohorts_that_cannot_be_are_refused(arguments, message):
  with pytest.raises(ConfigurationError, match=message):
    tpa.Cohort(**arguments)


def test_a_cohort_s_maximum_and_minimum_follow_from_what_is_expected():
  cohort = tpa.Cohort(expected=10, colluding_fraction=0.25)
  assert (cohort.maximum, cohort.minimum) == (10, 8)
  assert [cohort.honest(k) for k in (0, 1, 3, 4, 8, 10)] == [0, 1, 3, 3, 6, 8]


# Sums, randomness, recipes.


@pytest.mark.parametrize(
  ('bits', 'message'),
  [(1, 'least 2, got 1'), (-4, 'least 2, got -4'), (63, 'most 62, got 63: .* int64')],
)
def test_bits_out_of_range_are_refused(bits, message):
  with pytest.raises(ConfigurationError, match=f'`bits` must be at {message}'):
    tpa.SecureModularSum(bits=bits)


@pytest.mark.parametrize(
  ('modulus', 'message'),
  [
    (3, '`modulus` must be at least 4, got 3'),
    (1000, r'`modulus` must be a power of two up to 2\*\*62, got 1000. Sums in machine'),
    (2**63, r'`modulus` must be a power of two up to 2\*\*62'),
  ],
)
def test_moduli_that_are_no_power_of_two_up_to_2_to_the_62_are_refused(modulus, message):
  with pytest.raises(ConfigurationError, match=message):
    tpa.ForeignSum(factory=tff.aggregators.SumFactory(), modulus=modulus)


@bad([None, 'sum', tff.aggregators.SumFactory.__init__, 5])
def test_a_foreign_sum_needs_a_factory(value):
  with pytest.raises(ConfigurationError, match=r'`factory` must be a .* factory with `create`'):
    tpa.ForeignSum(factory=value, modulus=2**20)


@pytest.mark.filterwarnings('ignore:.* bits round .* coordinates:UserWarning')
def test_a_modulus_that_cannot_count_the_clients_is_refused():
  foreign = tpa.ForeignSum(factory=tff.aggregators.SumFactory(), modulus=2**6)
  factory = tpa.compose([CLIP, QUANTIZE, foreign], cohort=tpa.Cohort(expected=100, minimum=1))
  with pytest.raises(ConfigurationError, match=r'`modulus` must be at least 2\*\*\d+|works is'):
    factory.bind(tff.TensorType(np.float32, [3]))


@bad(['os', 'ChaCha20', '', None, 7])
def test_randomness_is_one_of_two(value):
  message = "`randomness` must be one of 'chacha20', 'philox', got"
  with pytest.raises(ConfigurationError, match=message):
    tpa.compose([tpa.PlainSum()], cohort=COHORT, randomness=value)
  with pytest.raises(ConfigurationError, match=message):
    tpa.ddp_secure_aggregator(1.0, 100, randomness=value)


@bad([10, None, {'expected': 10}, tpa.Cohort])
def test_the_cohort_is_a_cohort(value):
  for compose in (tpa.compose, tpa.compose_weighted):
    with pytest.raises(ConfigurationError, match='`cohort` must be a Cohort, got'):
      compose([tpa.PlainSum()], cohort=value)


RECIPES = {
  'rotation': (
    lambda: tpa.ddp_secure_aggregator(1.0, 100, rotation_type='hadamard'),
    "`rotation_type` must be one of 'hd', 'dft', got 'hadamard'",
  ),
  'mechanism': (
    lambda: tpa.ddp_secure_aggregator(1.0, 100, mechanism='gauss'),
    "`mechanism` must be one of 'distributed_dgauss', 'distributed_skellam'",
  ),
  'clients': (
    lambda: tpa.ddp_secure_aggregator(1.0, 0),
    '`expected_clients_per_round` must be at least 1, got 0',
  ),
  'bits': (lambda: tpa.ddp_secure_aggregator(1.0, 10, bits=70), '`bits` must be at most 62'),
  'minimum': (
    lambda: tpa.ddp_secure_aggregator(1.0, 10, minimum_clients=11),
    '`minimum` must be at most the 10 honest clients',
  ),
  'maximum': (
    lambda: tpa.ddp_secure_aggregator(1.0, 10, maximum_clients=5),
    '`maximum` must be at least 10, got 5',
  ),
  'delta': (
    lambda: tpa.ddp_secure_aggregator(1.0, 10, delta=0.0),
    '`delta` must lie strictly between 0 and 1, got 0.0',
  ),
  'dp_delta': (
    lambda: tpa.dp_aggregator(1.0, 10, delta=2.0),
    '`delta` must lie strictly between 0 and 1, got 2.0',
  ),
  'secure_bits': (lambda: tpa.secure_aggregator(bits=1), '`bits` must be at least 2'),
  'secure_clients': (
    lambda: tpa.secure_aggregator(maximum_clients=0),
    '`expected` must be at least 1, got 0',
  ),
  'secure_weight': (
    lambda: tpa.secure_aggregator(maximum_weight=0.0),
    '`maximum` must be finite and positive, got 0.0',
  ),
  'robust_weight': (
    lambda: tpa.robust_aggregator(maximum_weight=math.inf),
    '`maximum` must be finite and positive, got inf',
  ),
}


@pytest.mark.parametrize(('make', 'message'), RECIPES.values(), ids=RECIPES.keys())
def test_arguments_of_recipes_that_cannot_be_are_refused(make, message):
  with pytest.raises(ConfigurationError, match=message):
    make()


def test_thresholds_that_could_overflow_are_refused():
  with pytest.raises(tpa.ConfigurationError, match=r'must keep a threshold below 1e\+24'):
    tpa.AdaptiveQuantile(initial=1.0, target=0.5, multiplier=1e30)


@pytest.mark.parametrize('fraction', [0.0, 0.05, 0.1, 0.29, 1 / 3, 0.57, 0.99])
def test_a_cohort_counts_the_honest_as_the_account_does(fraction):
  cohort = tpa.Cohort(expected=200, minimum=1, colluding_fraction=fraction)
  for survivors in range(201):
    counted = tpa.accounting.honest_survivors(survivors, fraction)
    assert cohort.honest(survivors) == counted

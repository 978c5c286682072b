"""Refusals: what was asked, what was found, how to fix it, for every bad input."""

import collections
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
CLIP, QUANTIZE, SUM = tpa.Clipping(norm=1.0), tpa.Quantization(), tpa.SecureModularSum(bits=20)
NOISE = tpa.DiscreteGaussianNoise(noise_multiplier=1.0)
CENTRAL = tpa.CentralDiscreteGaussianNoise(noise_multiplier=1.0)
ROTATE = tpa.HadamardRotation()
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
def test_errors_are_ours_and_pythons(error, builtin):
  assert issubclass(error, PrivacyAggError)
  assert issubclass(error, builtin)


# Orders of layers.

ORDERS = {
  'empty': ([], 'A stack needs layers; got none'),
  'not_a_layer': ([CLIP, 'sum'], "takes layers; got 'sum'"),
  'a_class': ([tpa.Mean, SUM], 'takes layers; got <class'),
  'no_sum': ([CLIP, QUANTIZE], r"ends with a sum; the last layer is 'quantization'.*Add"),
  'sum_first': ([SUM, CLIP], r"'secure_modular_sum' ends a stack; .*'clipping' stands after it"),
  'two_sums': (
    [CLIP, QUANTIZE, SUM, tpa.PlainSum()],
    r"'secure_modular_sum' ends a stack.*Put the sum last",
  ),
  'one_name': (
    [tpa.Mean(name='a'), tpa.Clipping(norm=1.0, name='a'), tpa.PlainSum()],
    r"different names; 'a' is used 2 times.*pass `name=`",
  ),
  'same_twice': ([CLIP, CLIP, tpa.PlainSum()], r"'clipping' is used 2 times"),
  'reserved': ([tpa.Mean(name='privacy'), tpa.PlainSum()], r"cannot be named 'privacy'.*Rename"),
  'noise_first': ([NOISE, CLIP, QUANTIZE, SUM], r'takes IntegerVectors.*Put `Quantization` before'),
  'noise_on_reals': ([CLIP, NOISE, SUM], r'IntegerVectors; .* gives L2-bounded real vectors'),
  'noise_twice': (
    [CLIP, QUANTIZE, NOISE, tpa.SkellamNoise(noise_multiplier=1.0), SUM],
    r'takes noiseless integer vectors.*Keep one noise layer',
  ),
  'quantize_unclipped': ([QUANTIZE, SUM], r'gives unbounded real vectors. Put `Clipping` before'),
  'quantize_twice': (
    [CLIP, QUANTIZE, tpa.Quantization(name='again'), SUM],
    r"'again' takes RealVectors.*Keep one layer that rounds",
  ),
  'clip_integers': (
    [CLIP, QUANTIZE, tpa.Clipping(norm=2.0, name='late'), SUM],
    r"'late' takes RealVectors.*Clip before quantizing",
  ),
  'clip_twice': (
    [CLIP, tpa.Clipping(norm=2.0, name='late'), QUANTIZE, SUM],
    r'vectors that are not clipped yet.*Keep one `Clipping`',
  ),
  'clip_after_noise': (
    [CLIP, QUANTIZE, NOISE, tpa.Clipping(norm=1.0, name='c'), SUM],
    'Clip before',
  ),
  'zero_clipped': (
    [CLIP, tpa.Zeroing(threshold=1.0), tpa.PlainSum()],
    r'Put `Zeroing` before `Clip',
  ),
  'zero_integers': ([CLIP, QUANTIZE, tpa.Zeroing(threshold=1.0), SUM], r'`Zeroing` before `Quant'),
  'rotate_integers': ([CLIP, QUANTIZE, ROTATE, SUM], r'Rotate before quantizing'),
  'rotate_twice': (
    [CLIP, ROTATE, tpa.DFTRotation(name='again'), QUANTIZE, SUM],
    r'vectors that are not rotated yet.*Keep one rotation',
  ),
  'mean_integers': ([CLIP, QUANTIZE, tpa.Mean(), SUM], r'Put `Mean` before `Quantization`'),
  'secure_reals': ([CLIP, SUM], r'takes IntegerVectors.*Put `Quantization` before the sum'),
  'plain_integers': ([CLIP, QUANTIZE, tpa.PlainSum()], r'Use `SecureModularSum` for quantized'),
  'central_unclipped': (
    [CENTRAL, tpa.PlainSum()],
    r'Put `Clipping` before `CentralDiscreteGaussianNoise`',
  ),
  'central_twice': (
    [
      CLIP,
      CENTRAL,
      tpa.CentralDiscreteGaussianNoise(noise_multiplier=1.0, name='b'),
      tpa.PlainSum(),
    ],
    r'integer vectors that the server adds noise to.*without `Quantization`',
  ),
  'central_quantized': (
    [CLIP, CENTRAL, QUANTIZE, SUM],
    r'that the server adds noise to. Keep one layer that rounds',
  ),
  'central_secure': ([CLIP, CENTRAL, SUM], r'that the server adds the noise to. Use `PlainSum`'),
  'central_integers': (
    [CLIP, QUANTIZE, CENTRAL, SUM],
    r'Put it after `Clipping`, without `Quantization`',
  ),
}


@pytest.mark.parametrize(('layers', 'message'), ORDERS.values(), ids=ORDERS.keys())
def test_layers_that_form_no_stack(layers, message):
  with pytest.raises(CompositionError, match=f'(?s){message}'):
    tpa.compose(layers, cohort=COHORT)


def test_weights_need_the_weighted_factory_and_it_needs_weights():
  weighted = tpa.WeightedMean(maximum=1.0)
  with pytest.raises(CompositionError, match=r"'weighted_mean' uses.*Use `compose_weighted`"):
    tpa.compose([weighted, tpa.PlainSum()], cohort=COHORT)
  with pytest.raises(CompositionError, match=r"none of \['plain_sum'\] does. Use `compose`"):
    tpa.compose_weighted([tpa.PlainSum()], cohort=COHORT)
  with pytest.raises(CompositionError, match='Put `WeightedMean` before `Quantization`'):
    tpa.compose_weighted([CLIP, QUANTIZE, weighted, SUM], cohort=COHORT)


# Types of values.

VALUE_TYPES = {
  'integers': (np.int32, r'float tensors; `value` is int32. Cast it to float32'),
  'strings': (np.str_, r'float tensors; `value` is str'),
  'booleans': ([('a', np.float32), ('b', np.bool_)], r'`value\.b` is bool'),
  'complex': (np.complex64, r'float tensors; `value` is complex64'),
  'nested': ([('a', [('b', np.float32), ('c', np.int64)])], r'`value\.a\.c` is int64'),
  'unnamed': ([np.float32, (np.float32, np.int32)], r'`value\[1\]\[1\]` is int32'),
  'unknown_size': (tff.TensorType(np.float32, [None, 2]), r'known shapes; `value`.*static shape'),
  'unknown_rank': (tff.TensorType(np.float32, None), r'known shapes; `value`'),
  'sequence': (tff.SequenceType(np.float32), r'structures of tensors; `value` is float32\*'),
  'no_coordinates': (tff.TensorType(np.float32, [0]), r'at least one number.*holds none'),
  'empty': (tff.StructType([]), r'at least one number; <> holds none'),
  'empty_dictionary': (collections.OrderedDict(), r'at least one number'),
  'function': (tff.FunctionType(np.float32, np.float32), r'structures of tensors'),
  'placed': (tff.FederatedType(np.float32, tff.CLIENTS), r'structures of tensors'),
}


@pytest.mark.parametrize(('value_type', 'message'), VALUE_TYPES.values(), ids=VALUE_TYPES.keys())
def test_values_that_cannot_be_summed(value_type, message):
  factory = tpa.compose([CLIP, QUANTIZE, SUM], cohort=COHORT)
  for use in (factory.bind, factory.create):
    with pytest.raises(CompositionError, match=message):
      use(tff.to_type(value_type))


@pytest.mark.parametrize(
  'weight_type',
  [
    np.bool_,
    np.str_,
    tff.TensorType(np.float32, [1]),
    [np.float32],
    tff.TensorType(np.int32, None),
    np.complex64,
  ],
  ids=str,
)
def test_weights_that_are_no_scalar_numbers(weight_type):
  factory = tpa.compose_weighted([tpa.WeightedMean(maximum=1.0), tpa.PlainSum()], cohort=COHORT)
  with pytest.raises(CompositionError, match='A weight is a scalar number; got'):
    factory.create(tff.TensorType(np.float32, [2]), tff.to_type(weight_type))


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
  'ddp_secure_aggregator': ('noise_multiplier', lambda x: tpa.ddp_secure_aggregator(x, 100)),
  'dp_aggregator.z': ('noise_multiplier', lambda x: tpa.dp_aggregator(x, 100)),
  'dp_aggregator.n': ('clients_per_round', lambda x: tpa.dp_aggregator(1.0, x)),
}


@pytest.mark.parametrize(('name', 'make'), POSITIVE_NUMBERS.values(), ids=POSITIVE_NUMBERS.keys())
def test_numbers_that_must_be_positive(name, make):
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
def test_numbers_that_may_be_zero_but_not_less(value):
  with pytest.raises(ConfigurationError, match='`increment` must be finite and not negative'):
    dataclasses.replace(QUANTILE, increment=value)
  with pytest.raises(ConfigurationError, match='`beta` must be finite and not negative'):
    tpa.Quantization(beta=value)
  with pytest.raises(ConfigurationError, match='`colluding_fraction` must be finite and not neg'):
    tpa.Cohort(expected=10, colluding_fraction=value)


def test_numbers_with_a_limit_of_their_own():
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
def test_numbers_that_must_be_integers(value):
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
def test_cohorts_that_cannot_be(arguments, message):
  with pytest.raises(ConfigurationError, match=message):
    tpa.Cohort(**arguments)


def test_defaults_of_a_cohort():
  cohort = tpa.Cohort(expected=10, colluding_fraction=0.25)
  assert (cohort.maximum, cohort.minimum) == (10, 8)
  assert [cohort.honest(k) for k in (0, 1, 3, 4, 8, 10)] == [0, 1, 3, 3, 6, 8]


# Sums, randomness, recipes.


@pytest.mark.parametrize(
  ('bits', 'message'),
  [(1, 'least 2, got 1'), (-4, 'least 2, got -4'), (63, 'most 62, got 63: .* int64')],
)
def test_bits_out_of_range(bits, message):
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
def test_moduli_of_a_foreign_sum(modulus, message):
  with pytest.raises(ConfigurationError, match=message):
    tpa.ForeignSum(factory=tff.aggregators.SumFactory(), modulus=modulus)


@bad([None, 'sum', tff.aggregators.SumFactory.__init__, 5])
def test_a_foreign_sum_needs_a_factory(value):
  with pytest.raises(ConfigurationError, match=r'`factory` must be a .* factory with `create`'):
    tpa.ForeignSum(factory=value, modulus=2**20)


def test_a_modulus_that_cannot_count_the_clients():
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
def test_arguments_of_recipes(make, message):
  with pytest.raises(ConfigurationError, match=message):
    make()


# What cannot be bound.


def test_noise_that_the_channels_alone_exceed():
  """A count of one client's deviation cannot carry a noise multiplier of ten."""
  layers = [
    tpa.Clipping(norm=dataclasses.replace(QUANTILE, count_stddev=1.0)),
    QUANTIZE,
    tpa.DiscreteGaussianNoise(noise_multiplier=10.0),
    SUM,
  ]
  with pytest.raises(ConfigurationError) as info:
    tpa.compose(layers, cohort=COHORT).bind(tff.TensorType(np.float32, [10]))
  assert 'noise multiplier' in str(info.value)


def test_a_curve_of_nothing():
  bound = tpa.compose([CLIP, QUANTIZE, SUM], cohort=COHORT).bind(tff.TensorType(np.float32, [3]))
  with pytest.raises(
    ConfigurationError, match=r'without a noise layer\. Epsilon is infinite there'
  ):
    bound.curve(5)


@pytest.mark.parametrize(('layers', 'message'), ORDERS.values(), ids=ORDERS.keys())
def test_messages_are_sentences(layers, message):
  with pytest.raises(CompositionError) as info:
    tpa.compose(layers, cohort=COHORT)
  text = str(info.value)
  assert text[0].isupper()
  assert text.endswith('.')
  assert len(text.split('. ')) >= 2  # what was found, and how to fix it


@pytest.mark.parametrize('layers', [None, tpa.Mean(), 7], ids=repr)
def test_what_is_no_sequence_of_layers_is_refused(layers):
  with pytest.raises(tpa.CompositionError, match='takes a sequence of layers; got'):
    tpa.compose(layers, cohort=tpa.Cohort(expected=3))


def test_thresholds_that_could_overflow_are_refused():
  with pytest.raises(tpa.ConfigurationError, match=r'must keep a threshold below 1e\+24'):
    tpa.AdaptiveQuantile(initial=1.0, target=0.5, multiplier=1e30)


@pytest.mark.parametrize('fraction', [0.0, 0.05, 0.1, 0.29, 1 / 3, 0.57, 0.99])
def test_a_cohort_counts_the_honest_as_the_account_does(fraction):
  cohort = tpa.Cohort(expected=200, minimum=1, colluding_fraction=fraction)
  for survivors in range(201):
    counted = tpa.accounting.honest_survivors(survivors, fraction)
    assert cohort.honest(survivors) == counted

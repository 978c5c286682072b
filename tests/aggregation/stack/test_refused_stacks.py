"""Layers that form no stack, and values that a stack cannot sum: what is said of each."""

import collections
import dataclasses

import numpy as np
import pytest
import tensorflow_federated as tff

import tff_privacy_agg as tpa
from tff_privacy_agg.errors import CompositionError, ConfigurationError

COHORT = tpa.Cohort(expected=10)
QUANTILE = tpa.AdaptiveQuantile(initial=1.0, target=0.5)
CLIP, QUANTIZE, SUM = tpa.Clipping(norm=1.0), tpa.Quantization(), tpa.SecureModularSum(bits=20)
NOISE = tpa.DiscreteGaussianNoise(noise_multiplier=1.0)
CENTRAL = tpa.CentralDiscreteGaussianNoise(noise_multiplier=1.0)
ROTATE = tpa.HadamardRotation()

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
def test_layers_that_form_no_stack_are_refused(layers, message):
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
def test_values_that_cannot_be_summed_are_refused(value_type, message):
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
def test_weights_that_are_no_scalar_numbers_are_refused(weight_type):
  factory = tpa.compose_weighted([tpa.WeightedMean(maximum=1.0), tpa.PlainSum()], cohort=COHORT)
  with pytest.raises(CompositionError, match='A weight is a scalar number; got'):
    factory.create(tff.TensorType(np.float32, [2]), tff.to_type(weight_type))


# What cannot be bound.


def test_a_noise_multiplier_that_the_channels_alone_exceed_is_refused():
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


def test_a_stack_without_noise_has_no_curve():
  bound = tpa.compose([CLIP, QUANTIZE, SUM], cohort=COHORT).bind(tff.TensorType(np.float32, [3]))
  with pytest.raises(
    ConfigurationError, match=r'without a noise layer has no privacy curve: its epsilon is infinite'
  ):
    bound.curve(5)


@pytest.mark.parametrize(('layers', 'message'), ORDERS.values(), ids=ORDERS.keys())
def test_refusals_are_sentences_that_say_what_to_do(layers, message):
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

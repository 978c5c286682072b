"""One instance of every layer and setting, and the slots that they are tried in."""

import dataclasses
import math

import numpy as np
import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation import layers
from tff_privacy_agg.aggregation.domains import Cohort, IntegerVectors, RealVectors
from tff_privacy_agg.aggregation.layers import AdaptiveQuantile, ModularTerminal, Slot
from tff_privacy_agg.errors import CompositionError
from tff_privacy_agg.numerics import modular
from tff_privacy_agg.numerics.randomness import RandomStream

COHORT = Cohort(expected=10, maximum=12, minimum=8)
DIM = 7
BITS = 20
BETA = math.exp(-0.5)


@dataclasses.dataclass(frozen=True)
class AnyFactory:
  """Stands for a TFF factory: the layer only looks for `create`."""

  def create(self, value_type):
    raise NotImplementedError


QUANTILE = AdaptiveQuantile(initial=2.0, target=0.6, multiplier=1.5, increment=0.25)

STRATEGY = accounting.BandedToeplitz.from_floats([1.0, 0.5, 0.375], separation=4)

ALL_LAYERS = (
  layers.Mean(),
  layers.WeightedMean(maximum=10.0),
  layers.Zeroing(threshold=2.0),
  layers.Zeroing(threshold=QUANTILE, name='zeroing_adaptive'),
  layers.Clipping(norm=0.5),
  layers.Clipping(norm=QUANTILE, name='clipping_adaptive'),
  layers.Clipping(norm=dataclasses.replace(QUANTILE, frozen_after=2), name='clipping_frozen'),
  layers.CoordinateClipping(maximum=(1.0, 2.0, 0.5, 100.0, 1e-3, 1e3, 3.0)),
  layers.HadamardRotation(),
  layers.DFTRotation(name='rotation_dft'),
  layers.Quantization(),
  layers.Quantization(beta=0.0, name='quantization_unconditional'),
  layers.DiscreteGaussianNoise(noise_multiplier=1.0),
  layers.SkellamNoise(noise_multiplier=1.0),
  layers.CentralDiscreteGaussianNoise(noise_multiplier=1.0),
  layers.CorrelatedNoise(noise_multiplier=1.0, strategy=STRATEGY),
  layers.SecureModularSum(bits=BITS),
  layers.SecureModularSum(bits=40, name='secure_modular_sum_40'),
  layers.ForeignSum(factory=AnyFactory(), modulus=2**BITS),
  layers.PlainSum(),
)

HOSTILE = {
  'nan': np.nan,
  'inf': np.inf,
  'minus_inf': -np.inf,
  'largest': 3.4e38,
  'large': 1e38,
  'subnormal': 1e-40,
  'least': 1.4e-45,
  'minus_zero': -0.0,
}


def stream(*numbers: int, kind: str = 'philox') -> RandomStream:
  """A stream whose key is set by `numbers`."""
  key = np.random.default_rng(numbers).integers(-(2**31), 2**31, 8).astype(np.int32)
  return RandomStream(kind=kind, key=tf.constant(key))


def domain_before(layer, dim=DIM):
  """The plainest domain that `layer` takes."""
  for domain in (
    RealVectors(dim=dim),
    RealVectors(dim=dim, l2_bounded=True),
    IntegerVectors(dim=dim),
  ):
    try:
      layer.output_domain(domain)
    except CompositionError:
      continue
    return domain
  raise AssertionError(f'{layer!r} takes none of the domains')


def slot_for(layer, dim=DIM, dtype=tf.float32, bits=None):
  """A slot such as `bind` makes."""
  if bits is None:
    bits = layer.width if isinstance(layer, ModularTerminal) else BITS
  law = getattr(layer, 'mechanism', 'discrete_gaussian')
  if isinstance(layer, layers.CentralDiscreteGaussianNoise):
    design = layer.integer_design(
      noise_multiplier=1.0, cohort_maximum=COHORT.maximum, dimension=dim
    )
    return Slot(dim=dim, cohort=COHORT, design=design, dtype=dtype, vector_noise_multiplier=1.0)
  design = accounting.solve(
    noise_multiplier=1.0,
    cohort_maximum=COHORT.maximum,
    minimum_honest=COHORT.minimum,
    bits=bits,
    dimension=dim,
    beta=getattr(layer, 'beta', BETA),
    mechanism=law,
  )
  return Slot(dim=dim, cohort=COHORT, design=design, dtype=dtype, vector_noise_multiplier=1.0)


def params_for(layer, slot, state=None, seed=1):
  """What `encode` and `decode` get: prepared values, randomness, weight."""
  params = dict(layer.prepare(slot, layer.init(slot) if state is None else state))
  if layer.uses_randomness:
    params['randomness'] = stream(seed)
  if layer.uses_weight:
    params['client_weight'] = tf.constant(4.0)
  return params


def value_for(layer, slot, seed=0, scale=1.0):
  """A value of the domain before `layer`."""
  rng = np.random.default_rng(seed)
  if isinstance(domain_before(layer), IntegerVectors):
    dtype = modular.dtype_for(slot.design.bits)
    return tf.constant(rng.integers(-50, 50, slot.dim), dtype)
  real = rng.normal(size=slot.dim)
  if domain_before(layer).l2_bounded:
    real *= 0.99 / np.linalg.norm(real)
  return tf.constant(real * scale, slot.dtype)


def sums_for(layer, survivors=10.0):
  """Sums of the channels, all zero, and of the survivors."""
  sums = {name: tf.constant(0.0, tf.float64) for name in layer.channels}
  return {'survivors': tf.constant(survivors, tf.float64), **sums}

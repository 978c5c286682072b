"""Layers: what a stack is composed of."""

from tff_privacy_agg import _requires_tff as _requires_tff  # refuses where it is not
from tff_privacy_agg.aggregation.layers.averaging import Mean, WeightedMean
from tff_privacy_agg.aggregation.layers.base import Layer, Mechanism, Slot
from tff_privacy_agg.aggregation.layers.central import CentralDiscreteGaussianNoise, GaussianNoise
from tff_privacy_agg.aggregation.layers.clipping import Clipping
from tff_privacy_agg.aggregation.layers.coordinates import CoordinateClipping
from tff_privacy_agg.aggregation.layers.correlated import CorrelatedNoise
from tff_privacy_agg.aggregation.layers.noise import (
  DiscreteGaussianNoise,
  SkellamNoise,
)
from tff_privacy_agg.aggregation.layers.quantization import Quantization
from tff_privacy_agg.aggregation.layers.rotation import DFTRotation, HadamardRotation
from tff_privacy_agg.aggregation.layers.summation import (
  ForeignSum,
  ModularTerminal,
  PlainSum,
  SecureModularSum,
  Terminal,
)
from tff_privacy_agg.aggregation.layers.thresholds import AdaptiveQuantile
from tff_privacy_agg.aggregation.layers.zeroing import Zeroing

__all__ = [
  'AdaptiveQuantile',
  'CentralDiscreteGaussianNoise',
  'Clipping',
  'CoordinateClipping',
  'CorrelatedNoise',
  'DFTRotation',
  'DiscreteGaussianNoise',
  'ForeignSum',
  'GaussianNoise',
  'HadamardRotation',
  'Layer',
  'Mean',
  'Mechanism',
  'ModularTerminal',
  'PlainSum',
  'Quantization',
  'SecureModularSum',
  'SkellamNoise',
  'Slot',
  'Terminal',
  'WeightedMean',
  'Zeroing',
]

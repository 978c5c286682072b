"""Layers: what a stack is composed of."""

from tff_privacy_agg import _requires_tff as _requires_tff  # refuses where it is not
from tff_privacy_agg.layers.averaging import Mean, WeightedMean
from tff_privacy_agg.layers.base import Layer, Mechanism, Slot
from tff_privacy_agg.layers.clipping import Clipping
from tff_privacy_agg.layers.coordinates import CoordinateClipping
from tff_privacy_agg.layers.noise import DiscreteGaussianNoise, GaussianNoise, SkellamNoise
from tff_privacy_agg.layers.quantization import Quantization
from tff_privacy_agg.layers.rotation import DFTRotation, HadamardRotation
from tff_privacy_agg.layers.summation import (
  ForeignSum,
  ModularTerminal,
  PlainSum,
  SecureModularSum,
  Terminal,
)
from tff_privacy_agg.layers.thresholds import AdaptiveQuantile
from tff_privacy_agg.layers.zeroing import Zeroing

__all__ = [
  'AdaptiveQuantile',
  'Clipping',
  'CoordinateClipping',
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

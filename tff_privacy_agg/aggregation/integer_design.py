"""The integer design of a stack, and a warning where rounding loses more than is silent."""

import typing
import warnings
from collections.abc import Sequence

import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting import IntegerDesign
from tff_privacy_agg.aggregation.domains import Cohort, Domain, RealVectors
from tff_privacy_agg.aggregation.layers import (
  CentralDiscreteGaussianNoise,
  Layer,
  Mechanism,
  ModularTerminal,
  Quantization,
  WeightedMean,
)

# A scaled coordinate above this loses its fraction in float32.
_LARGEST_FLOAT32_SCALE = 2**16
# About what TFF's secure sums lose to 32 bits in a million coordinates.
_LARGEST_SILENT_ERROR = 1e-4


def solve_design(
  layers: Sequence[Layer],
  domains: Sequence[Domain],
  mechanism: Mechanism | None,
  cohort: Cohort,
  vector_noise_multiplier: float,
  dtype: tf.DType,
) -> tuple[IntegerDesign | None, tf.DType]:
  """The integer design of a stack, None if it sums floats, and the float dtype that it asks for.

  Args:
    layers: The layers of the stack.
    domains: Before each layer and after the last one, with their dimensions.
    mechanism: Its noise layer, or None.
    cohort: The cohort.
    vector_noise_multiplier: Noise multiplier of the vector alone; 0 without noise.
    dtype: The least float dtype of the vectors.

  Raises:
    ConfigurationError: If the modulus cannot carry the noise.
  """
  design = None
  terminal = layers[-1]
  for layer, domain in zip(layers, domains, strict=False):
    if layer is mechanism and isinstance(mechanism, CentralDiscreteGaussianNoise):
      design = mechanism.integer_design(
        noise_multiplier=vector_noise_multiplier,
        cohort_maximum=cohort.maximum,
        dimension=typing.cast(int, domain.dim),
      )
      dtype = tf.float64  # a float32 has no bits left behind the steps
    if isinstance(layer, Quantization) and isinstance(terminal, ModularTerminal):
      size, flat = typing.cast(int, domain.dim), typing.cast(RealVectors, domain).flat
      design = accounting.solve(
        noise_multiplier=vector_noise_multiplier,
        cohort_maximum=cohort.maximum,
        minimum_honest=cohort.minimum,
        bits=terminal.width,
        dimension=size,
        modclip_prob=layer.modclip_prob,
        rho=1.0 if flat else float(size),
        beta=layer.beta,
        mechanism=mechanism.mechanism if mechanism else None,
      )
      if design.scaled_norm > _LARGEST_FLOAT32_SCALE:
        dtype = tf.float64
  return design, dtype


def _relative_error(layers: Sequence[Layer], design: IntegerDesign) -> float:
  """Expected rounding error of one client of weight 1 at the clip norm, over that norm.

  Args:
    layers: The layers of the stack.
    design: Its integer design, without noise.
  """
  largest = max((layer.maximum for layer in layers if isinstance(layer, WeightedMean)), default=1.0)
  return design.rounding_error(1) * max(largest, 1.0) / design.scaled_norm


def warn_if_coarse(layers: Sequence[Layer], design: IntegerDesign) -> None:
  """Warns where rounding is all that makes a sum inexact, and costs more than 1e-4.

  Args:
    layers: The layers of the stack.
    design: Its integer design; one with noise is never warned of, as it states its error.
  """
  if design.mechanism is not None:
    return
  error = _relative_error(layers, design)
  if error <= _LARGEST_SILENT_ERROR:
    return
  weighted = any(isinstance(layer, WeightedMean) for layer in layers)
  warnings.warn(
    f'{design.bits} bits round {design.dimension} coordinates to a relative error of {error:.2g}'
    + (' for a client of weight 1' if weighted else '')
    + ' at the clip norm, and more below it. Use more bits'
    + (', a lower maximum weight' if weighted else '')
    + ' or a smaller largest cohort.',
    stacklevel=4,
  )

"""Loss by rounding in a stack without noise, reported before the first round."""

import warnings
from collections.abc import Sequence

from tff_privacy_agg.accounting import IntegerDesign
from tff_privacy_agg.aggregation.layers import Layer, WeightedMean

# About what TFF's secure sums lose to 32 bits in a million coordinates.
LARGEST_SILENT_ERROR = 1e-4


def relative_error(layers: Sequence[Layer], design: IntegerDesign) -> float:
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
  error = relative_error(layers, design)
  if error <= LARGEST_SILENT_ERROR:
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

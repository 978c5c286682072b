"""Recipes without noise: one secure sum, or sums in the clear."""

from collections.abc import Sequence

import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import (
  ComposedFactory,
  WeightedComposedFactory,
  compose,
  compose_weighted,
)
from tff_privacy_agg.aggregation.layers import (
  Layer,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  WeightedMean,
)
from tff_privacy_agg.aggregation.recipes import parts

_LARGEST_WEIGHT = float(2**20 - 1)


@_validate.plain_numbers
def secure_aggregator(
  *,
  zeroing: bool = True,
  clipping: bool = True,
  weighted: bool = True,
  bits: int | None = None,
  maximum_clients: int = 1000,
  maximum_weight: float = _LARGEST_WEIGHT,
  debug_measurements_fn: None = None,
) -> tff.aggregators.AggregationFactory:
  """Adaptive zeroing and clipping, then one secure modular sum, without noise.

  Takes the place of `tff.learning.secure_aggregator`, with these changes: one
  modular sum in place of ten secure sums; a bound on the number of clients sizes
  the modulus; quantization is relative to a bound on the L2 norm, so `clipping=False`
  still clips at twice the 95 % quantile of the norms (TFF: of the largest coordinates); zeroing
  goes by L2 norms, too. No noise is added: epsilon is infinite, and
  the counts for zeroing and clipping are exact.

  Each coordinate is rounded to steps of `clip * maximum_weight / 2^51` with the defaults, of
  the sum of weight times value: relative to a vector of norm `x` and weight `w` in dimension `d`
  the error is about `0.29 sqrt(d) (clip / x) (maximum_weight / w) / 2^51`, 4e-5 at most for
  d = 100,000, w = 1 and x a thousandth of the clip, as in TFF's. `quantization/relative_error` in the
  measurements is that of each round; a stack that loses more than 1e-4 of a vector of
  weight 1 at the clip norm warns when it is built.

  Args:
    zeroing: Whether vectors far larger than most are replaced by zeros.
    clipping: Whether norms are clipped at their 80 % quantile.
    weighted: Whether the mean is weighted.
    bits: Bits a coordinate that leave a client, 2 to 62; None takes 62 if `weighted`, else 48.
      With a `maximum_weight` near the weights that there are, fewer are enough.
    maximum_clients: Most clients of a round.
    maximum_weight: Largest weight; larger ones are clipped to it.
    debug_measurements_fn: None.

  Returns:
    A `tff.aggregators.WeightedAggregationFactory` if `weighted`, else an
    `UnweightedAggregationFactory`.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Examples:
    >>> [layer.name for layer in tpa.secure_aggregator(maximum_clients=100).layers]
    ['zeroing', 'clipping', 'weighted_mean', 'quantization', 'secure_modular_sum']
  """
  parts.refuse_debugging(debug_measurements_fn)
  layers = [
    *([parts.zeroing()] if zeroing else []),
    parts.clipping() if clipping else parts.bounding(),
    *_mean(weighted, maximum_weight),
    Quantization(),
    SecureModularSum(bits=(62 if weighted else 48) if bits is None else bits),
  ]
  return _compose(layers, weighted, _any_cohort(maximum_clients))


@_validate.plain_numbers
def robust_aggregator(
  *,
  zeroing: bool = True,
  clipping: bool = True,
  weighted: bool = True,
  maximum_clients: int = parts.MANY_CLIENTS,
  maximum_weight: float = _LARGEST_WEIGHT,
  debug_measurements_fn: None = None,
) -> tff.aggregators.AggregationFactory:
  """Adaptive zeroing and clipping, summed in the clear: robust, not private.

  Takes the place of `tff.learning.robust_aggregator`, with these changes: vectors
  with NaN count as zeros (upstream's mean becomes NaN); a bound on the number of
  clients and on a weight is needed; `debug_measurements_fn` must be None.

  Args:
    zeroing: Whether vectors far larger than most are replaced by zeros.
    clipping: Whether norms are clipped at their 80 % quantile.
    weighted: Whether the mean is weighted.
    maximum_clients: Most clients of a round.
    maximum_weight: Largest weight; larger ones are clipped to it.
    debug_measurements_fn: None.

  Returns:
    A `tff.aggregators.WeightedAggregationFactory` if `weighted`, else an
    `UnweightedAggregationFactory`.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Examples:
    >>> [layer.name for layer in tpa.robust_aggregator().layers]
    ['zeroing', 'clipping', 'weighted_mean', 'plain_sum']
  """
  parts.refuse_debugging(debug_measurements_fn)
  layers = [
    *([parts.zeroing()] if zeroing else []),
    *([parts.clipping()] if clipping else []),
    *_mean(weighted, maximum_weight),
    PlainSum(),
  ]
  return _compose(layers, weighted, _any_cohort(maximum_clients))


def _mean(weighted: bool, maximum_weight: float) -> list[Layer]:
  return [WeightedMean(maximum=maximum_weight) if weighted else Mean()]


def _any_cohort(maximum_clients: int) -> Cohort:
  return Cohort(expected=maximum_clients, minimum=1)


def _compose(
  layers: Sequence[Layer], weighted: bool, cohort: Cohort
) -> ComposedFactory | WeightedComposedFactory:
  if weighted:
    return compose_weighted(layers, cohort=cohort)
  return compose(layers, cohort=cohort)

"""Recipes: chosen stacks under the names and arguments that TFF users know.

Each says what it changes against the function of the same name in `tff.learning`
(0.87), and why. All of them zero by L2 norms where TFF goes by the largest
coordinate: the norm is then one number for zeroing and clipping.
"""

import math
from collections.abc import Sequence

import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting import BandedToeplitz
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import (
  ComposedFactory,
  WeightedComposedFactory,
  compose,
  compose_weighted,
)
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  CentralDiscreteGaussianNoise,
  Clipping,
  CorrelatedNoise,
  DFTRotation,
  DiscreteGaussianNoise,
  HadamardRotation,
  Layer,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
  WeightedMean,
  Zeroing,
)
from tff_privacy_agg.aggregation.layers.thresholds import Threshold
from tff_privacy_agg.errors import ConfigurationError

_ROTATIONS = {'hd': HadamardRotation, 'dft': DFTRotation}
_MECHANISMS = {
  'distributed_dgauss': DiscreteGaussianNoise,
  'distributed_skellam': SkellamNoise,
}
_LARGEST_WEIGHT = float(2**20 - 1)
_MANY_CLIENTS = 10_000


def _zeroing() -> Zeroing:
  """TFF's default: zero above twice the 98 % quantile of the norms plus one.

  By L2 norms, where TFF goes by the largest coordinate.
  """
  return Zeroing(
    threshold=AdaptiveQuantile(
      initial=10.0, target=0.98, learning_rate=math.log(10.0), multiplier=2.0, increment=1.0
    )
  )


def _clipping() -> Clipping:
  """TFF's default for robustness: clip at the 80 % quantile of the norms."""
  return Clipping(norm=AdaptiveQuantile(initial=1.0, target=0.8))


def _bounding() -> Clipping:
  """TFF's default bound for secure sums: twice the 95 % quantile of the norms."""
  return Clipping(
    norm=AdaptiveQuantile(initial=50.0, target=0.95, learning_rate=1.0, multiplier=2.0)
  )


def _private_clipping() -> Clipping:
  """TFF's default for differential privacy: clip at the median of the norms."""
  return Clipping(norm=AdaptiveQuantile(initial=0.1, target=0.5))


@_validate.plain_numbers
def ddp_secure_aggregator(
  noise_multiplier: float,
  expected_clients_per_round: int,
  bits: int = 20,
  zeroing: bool = True,
  rotation_type: str = 'hd',
  *,
  mechanism: str = 'distributed_dgauss',
  minimum_clients: int | None = None,
  maximum_clients: int | None = None,
  delta: float | None = None,
  randomness: str = 'chacha20',
  debug_measurements_fn: None = None,
) -> tff.aggregators.UnweightedAggregationFactory:
  """Adaptive zeroing and clipping, distributed differential privacy, one secure modular sum.

  Takes the place of `tff.learning.ddp_secure_aggregator`, with these changes:

  *   `noise_multiplier` is the effective one of a whole round, after rounding and
      with the bits for zeroing and clipping paid for. Upstream's is nominal: at
      its advised bit widths the true epsilon was up to four times larger.
  *   Epsilon is in the measurements; upstream reports none.
  *   The counts for zeroing and clipping carry distributed noise; upstream
      releases them, and two exact counts next to them, without.
  *   The noise comes from a cipher keyed by the operating system, not from the
      clock, and the sum is modular before the server sees it, not after.
  *   Discrete Gaussian noise by default: its samples are exact at every scale
      (`mechanism='distributed_skellam'` is upstream's).
  *   `bits` may exceed 22; a width that cannot carry the noise is refused.
  *   A round with fewer than `minimum_clients` survivors leaves the model
      unchanged; one with more than `maximum_clients` is refused.

  Args:
    noise_multiplier: Effective noise multiplier of a round at `minimum_clients`. Positive.
    expected_clients_per_round: Clients that a round is planned with.
    bits: Bits a coordinate that leave a client, 2 to 62.
    zeroing: Whether vectors far larger than most are replaced by zeros.
    rotation_type: `'hd'` (Hadamard) or `'dft'` (discrete Fourier).
    mechanism: `'distributed_dgauss'` or `'distributed_skellam'`.
    minimum_clients: Fewest honest survivors; defaults to the expected number.
    maximum_clients: Most clients; defaults to a quarter above the expected number.
    delta: Delta of the reported epsilon; None takes 1e-6.
    randomness: `'chacha20'`, or `'philox'` for simulations.
    debug_measurements_fn: None. What TFF's would measure is in no account.

  Returns:
    A `tff.aggregators.UnweightedAggregationFactory`.

  Raises:
    ConfigurationError: If an argument is outside its range.
    CompositionError: Never for these stacks.

  Reference: arXiv:2102.06387 and arXiv:2110.04995 for the mechanisms,
  arXiv:1905.03871 for the adaptive clip.

  Examples:
    >>> factory = tpa.ddp_secure_aggregator(
    ...   noise_multiplier=1.0, expected_clients_per_round=100
    ... )
    >>> [layer.name for layer in factory.layers]
    ['mean', 'zeroing', 'clipping', 'rotation', 'quantization', 'discrete_gaussian_noise', 'secure_modular_sum']
  """
  _refuse_debugging(debug_measurements_fn)
  _validate.noise_multiplier(noise_multiplier)
  _validate.at_least(1, expected_clients_per_round=expected_clients_per_round)
  _validate.one_of(tuple(_ROTATIONS), rotation_type=rotation_type)
  _validate.one_of(tuple(_MECHANISMS), mechanism=mechanism)
  if maximum_clients is None:
    maximum_clients = math.ceil(1.25 * expected_clients_per_round)
  layers: list[Layer] = [
    Mean(),
    *([_zeroing()] if zeroing else []),
    _private_clipping(),
    _ROTATIONS[rotation_type](),
    Quantization(),
    _MECHANISMS[mechanism](noise_multiplier=noise_multiplier),
    SecureModularSum(bits=bits),
  ]
  cohort = Cohort(
    expected=expected_clients_per_round,
    maximum=maximum_clients,
    minimum=expected_clients_per_round if minimum_clients is None else minimum_clients,
  )
  return compose(layers, cohort=cohort, delta=delta, randomness=randomness)


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
  _refuse_debugging(debug_measurements_fn)
  layers = [
    *([_zeroing()] if zeroing else []),
    _clipping() if clipping else _bounding(),
    *_mean(weighted, maximum_weight),
    Quantization(),
    SecureModularSum(bits=(62 if weighted else 48) if bits is None else bits),
  ]
  return _compose(layers, weighted, _any_cohort(maximum_clients))


@_validate.plain_numbers
def dp_aggregator(
  noise_multiplier: float,
  clients_per_round: float,
  zeroing: bool = True,
  *,
  correlated: BandedToeplitz | None = None,
  clipping_norm: Threshold | None = None,
  maximum_clients: int = _MANY_CLIENTS,
  delta: float | None = None,
) -> tff.aggregators.UnweightedAggregationFactory:
  """Adaptive zeroing and clipping with discrete Gaussian noise that the server adds.

  Takes the place of `tff.learning.dp_aggregator`, with these changes: the counts
  for zeroing carry noise, too, and are accounted; `noise_multiplier` covers all of
  them; `release_epsilon` is in the measurements; vectors are rounded to integers, summed and
  noised as integers. The server sees every update in
  the clear, so `epsilon`, its view, is infinite. The sum is divided by the number
  of clients that took part, which is public under zero-out adjacency.

  Args:
    noise_multiplier: Effective noise multiplier of a round, and with `correlated` of one
      participation in all rounds that it moves. Positive.
    clients_per_round: Expected number of clients of a round.
    zeroing: Whether vectors far larger than most are replaced by zeros.
    correlated: How noise is correlated over rounds (`CorrelatedNoise`), which takes a `clipping_norm`,
      and cohorts as separate as it says; None for independent noise.
    clipping_norm: L2 norm at which vectors are clipped, or an `AdaptiveQuantile`; None follows the
      median. With `correlated` a quantile needs `frozen_after`: noise of the rounds before is in other
      units and cancels in part.
    maximum_clients: Most clients of a round.
    delta: Delta of the reported epsilon; None takes 1e-6.

  Returns:
    A `tff.aggregators.UnweightedAggregationFactory`.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Reference: arXiv:1710.06963; arXiv:1905.03871 for the adaptive clip; docs/proofs/correlated.md.

  Examples:
    >>> factory = tpa.dp_aggregator(noise_multiplier=1.0, clients_per_round=100)
    >>> [layer.name for layer in factory.layers]
    ['mean', 'zeroing', 'clipping', 'central_discrete_gaussian_noise', 'plain_sum']
  """
  _validate.noise_multiplier(noise_multiplier)
  _validate.positive(clients_per_round=clients_per_round)
  expected = math.ceil(clients_per_round)
  if correlated is not None and clipping_norm is None:
    raise ConfigurationError(
      '`correlated` noise cancels only in units that stay, and the clip norm adapts by default. '
      'Pass `clipping_norm`: the median norm of an update, or an `AdaptiveQuantile` with '
      '`frozen_after`.'
    )
  noise: Layer = CentralDiscreteGaussianNoise(noise_multiplier=noise_multiplier)
  if correlated is not None:
    noise = CorrelatedNoise(noise_multiplier=noise_multiplier, strategy=correlated)
  layers = [
    Mean(),
    *([_zeroing()] if zeroing else []),
    _private_clipping() if clipping_norm is None else Clipping(norm=clipping_norm),
    noise,
    PlainSum(),
  ]
  cohort = Cohort(expected=expected, minimum=1, maximum=max(expected, maximum_clients))
  return compose(layers, cohort=cohort, delta=delta)


@_validate.plain_numbers
def robust_aggregator(
  *,
  zeroing: bool = True,
  clipping: bool = True,
  weighted: bool = True,
  maximum_clients: int = _MANY_CLIENTS,
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
  _refuse_debugging(debug_measurements_fn)
  layers = [
    *([_zeroing()] if zeroing else []),
    *([_clipping()] if clipping else []),
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


def _refuse_debugging(debug_measurements_fn: object) -> None:
  if debug_measurements_fn is not None:
    raise ConfigurationError(
      f'`debug_measurements_fn` must be None, got {debug_measurements_fn!r}: what it measures of the '
      'clients is in no account. Leave it out.'
    )

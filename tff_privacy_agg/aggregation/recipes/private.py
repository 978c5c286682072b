"""Recipes with noise: of the clients in one secure sum, or of the server."""

import math

import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting import BandedToeplitz
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import compose
from tff_privacy_agg.aggregation.layers import (
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
)
from tff_privacy_agg.aggregation.layers.thresholds import Threshold
from tff_privacy_agg.aggregation.recipes import parts
from tff_privacy_agg.errors import ConfigurationError

_ROTATIONS = {'hd': HadamardRotation, 'dft': DFTRotation}
_MECHANISMS = {
  'distributed_dgauss': DiscreteGaussianNoise,
  'distributed_skellam': SkellamNoise,
}


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
  parts.refuse_debugging(debug_measurements_fn)
  _validate.noise_multiplier(noise_multiplier)
  _validate.at_least(1, expected_clients_per_round=expected_clients_per_round)
  _validate.one_of(tuple(_ROTATIONS), rotation_type=rotation_type)
  _validate.one_of(tuple(_MECHANISMS), mechanism=mechanism)
  if maximum_clients is None:
    maximum_clients = math.ceil(1.25 * expected_clients_per_round)
  layers: list[Layer] = [
    Mean(),
    *([parts.zeroing()] if zeroing else []),
    parts.private_clipping(),
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
def dp_aggregator(
  noise_multiplier: float,
  clients_per_round: float,
  zeroing: bool = True,
  *,
  correlated: BandedToeplitz | None = None,
  clipping_norm: Threshold | None = None,
  maximum_clients: int = parts.MANY_CLIENTS,
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
    *([parts.zeroing()] if zeroing else []),
    parts.private_clipping() if clipping_norm is None else Clipping(norm=clipping_norm),
    noise,
    PlainSum(),
  ]
  cohort = Cohort(expected=expected, minimum=1, maximum=max(expected, maximum_clients))
  return compose(layers, cohort=cohort, delta=delta)

"""Correlated noise: the server's noise of one round cancels much of that of the rounds before."""

import dataclasses
from collections import OrderedDict

import tensorflow as tf

from tff_privacy_agg import _validate, accounting
from tff_privacy_agg._names import CORRELATED
from tff_privacy_agg.accounting.correlated.column import FRACTION_BITS, ONE
from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz
from tff_privacy_agg.aggregation.domains import Domain, RealVectors
from tff_privacy_agg.aggregation.layers import _checks
from tff_privacy_agg.aggregation.layers.base import Params, Slot, State
from tff_privacy_agg.aggregation.layers.central import CentralDiscreteGaussianNoise
from tff_privacy_agg.aggregation.noise_history import HISTORY
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import randomness

# The design of the sum leaves room for noise below this.
_LARGEST_NOISE = 2**31


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrelatedNoise(CentralDiscreteGaussianNoise):
  """The server adds discrete Gaussian noise that is correlated over rounds to a sum of integers.

  Clients do what they do under `CentralDiscreteGaussianNoise`. In round t the server adds
  `n_t = z_t - round(sum_j c_j n_(t-j))` to the exact sum, with `z_t` a fresh draw and `c_j` the
  coefficients of `strategy`. Noise of later rounds takes back much of what earlier rounds added, so
  a model that adds up the rounds has less of it. It takes that no client returns within
  `strategy.separation` rounds: let a `PrivacyLedger` check the cohorts.

  The server sees the sum without noise, so nothing holds against it: epsilon in the server's view
  is infinite, and only the `release_epsilon` is finite.

  `history` is a secret: a release less its noise is the exact sum. It stays in the server's state
  and in its checkpoints, and no round may run twice with it: after a round that may have been
  released and whose state was lost, restart it (`PrivateLearningProcess.restart_noise`).

  Domain: RealVectors(l2_bounded=True) whose norm stays, from some round on -> IntegerVectors(noised=True,
  central=True).
  Sensitivity: of one participation in all rounds together, the square root of
  `strategy.column.squared_sensitivity(B^2, d)`, with B as for `CentralDiscreteGaussianNoise`.
  Channels: none. State: `history`, int64 `[bands - 1, d]`, the noise of the last rounds, latest
  first.
  Reference: docs/proofs/correlated.md; arXiv:2306.08153 (banded matrices).

  Args:
    noise_multiplier: Standard deviation of a fresh draw over the sensitivity of one participation,
      all channels together: p participations cost what p rounds of this noise multiplier do.
    strategy: The coefficients, and how often one client takes part.
    name: Key of this layer's state.

  Raises:
    ConfigurationError: If `noise_multiplier` is not finite and positive.

  Examples:
    >>> from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz
    >>> strategy = BandedToeplitz.from_floats([1.0, 0.5], separation=3)
    >>> tpa.CorrelatedNoise(noise_multiplier=1.0, strategy=strategy).output_domain(
    ...   tpa.RealVectors(dim=1000, l2_bounded=True)
    ... )
    IntegerVectors(dim=1000, flat=False, noised=True, central=True)
  """

  strategy: BandedToeplitz
  name: str = 'correlated_noise'

  def __post_init__(self) -> None:
    super().__post_init__()
    _validate.instance(BandedToeplitz, strategy=self.strategy)

  @property
  def mechanism(self) -> str:
    return CORRELATED

  @property
  def keeps_noise(self) -> bool:
    return self.strategy.bands > 1

  def output_domain(self, domain: Domain) -> Domain:
    found = super().output_domain(domain)
    domain = _checks.takes(self.name, RealVectors, domain, fix='Put it after `Clipping`.')
    _checks.require(
      not domain.moving,
      self.name,
      needs='a clip norm that stays: noise in other units would not cancel',
      found='a norm that adapts in all rounds',
      fix='Pass `Clipping` a number, or an `AdaptiveQuantile` with `frozen_after`.',
    )
    return found

  def integer_design(
    self, *, noise_multiplier: float, cohort_maximum: int, dimension: int
  ) -> accounting.IntegerDesign:
    design = accounting.central_design(
      noise_multiplier=noise_multiplier,
      cohort_maximum=cohort_maximum,
      dimension=dimension,
      column=self.strategy.column,
    )
    column = self.strategy.column
    largest = column.largest_noise(self.sampler(design).radius)
    # The products of `decode_keeping` are summed in int64.
    products = sum(abs(step) for step in column.steps[1:]) * largest + ONE
    if largest >= _LARGEST_NOISE or products >= 2**63:
      raise ConfigurationError(
        f'Noise of {column.bands} bands can reach {largest} steps, and its products with the '
        f'coefficients {products}; there is room for 2^31 and 2^63. Use smaller coefficients.'
      )
    return design

  def init(self, slot: Slot) -> State:
    if not self.keeps_noise:
      return OrderedDict()
    return OrderedDict({HISTORY: tf.zeros([self.strategy.bands - 1, slot.dim], tf.int64)})

  def decode_keeping(
    self, slot: Slot, params: Params, total: tf.Tensor, state: State
  ) -> tuple[tf.Tensor, State]:
    fresh = self.sampler(slot.integer_design).sample(
      params['randomness'], randomness.MODEL_NOISE, slot.dim
    )
    history = state[HISTORY]
    carried = tf.linalg.matvec(
      history, tf.constant(self.strategy.column.steps[1:], tf.int64), transpose_a=True
    )
    rounded = tf.bitwise.right_shift(carried + ONE // 2, tf.constant(FRACTION_BITS, tf.int64))
    noise = tf.cast(fresh, tf.int64) - rounded
    kept = tf.concat([noise[tf.newaxis], history[:-1]], axis=0)
    return slot.to_floats(total + noise), OrderedDict({HISTORY: kept})

"""Thresholds: fixed numbers, or quantiles of the clients' norms that are followed."""

import dataclasses
from typing import Any

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Channel
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import quantiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveQuantile:
  """A threshold that follows a quantile of the clients' norms.

  Each client contributes one bit (norm at or below the estimate, or not), which
  enters the secure sum with distributed noise of its own; the server moves the
  estimate by `exp(-learning_rate * (fraction - target))`. Reference:
  arXiv:1905.03871, Algorithm 1.

  Attributes:
    initial: First estimate, in the unit of the norms; 1e-12 to 1e12.
    target: Quantile that is followed, strictly between 0 and 1.
    learning_rate: Positive; 0.2 moves slowly, ln 10 moves fast.
    multiplier: The threshold is `multiplier * estimate + increment`. At least 1.
    increment: See `multiplier`. Not negative.
    count_stddev: Standard deviation of the noise in the count of bits, in
      clients, over `Cohort.expected` clients. None takes the larger of
      `expected / 20` and twice the noise multiplier, so that the bit costs at
      most a sixteenth of the round's privacy.

  Raises:
    ConfigurationError: If a number is outside its range.
  """

  initial: float
  target: float
  learning_rate: float = 0.2
  multiplier: float = 1.0
  increment: float = 0.0
  count_stddev: float | None = None

  def __post_init__(self):
    _validate.positive(learning_rate=self.learning_rate)
    _in_range(initial=self.initial)
    _validate.fraction(target=self.target)
    _validate.non_negative(increment=self.increment)
    _validate.positive(multiplier=self.multiplier)
    if self.multiplier < 1:
      raise ConfigurationError(f'`multiplier` must be at least 1, got {self.multiplier!r}.')
    largest = self.multiplier * quantiles.HIGHEST + self.increment
    if largest > quantiles.HIGHEST**2:
      raise ConfigurationError(
        f'`multiplier` and `increment` must keep a threshold below {quantiles.HIGHEST**2:g}, '
        f'got {self.multiplier!r} and {self.increment!r}, with which it could reach {largest:g}.'
      )
    if self.count_stddev is not None:
      _validate.positive(count_stddev=self.count_stddev)

  @property
  def channel(self) -> Channel:
    """The channel of the bit: +1 or -1, so a count is half the sum plus half the clients."""
    return Channel(stddev=None if self.count_stddev is None else 2 * self.count_stddev)

  def threshold(self, estimate: tf.Tensor) -> tf.Tensor:
    """The threshold for an estimate."""
    return estimate * self.multiplier + self.increment

  def next_estimate(self, estimate: tf.Tensor, at_or_below: tf.Tensor) -> tf.Tensor:
    """The estimate after a round in which that (noised) fraction was at or below it."""
    return quantiles.geometric_update(estimate, at_or_below, self.target, self.learning_rate)


Threshold = float | AdaptiveQuantile


def check(**values: Any) -> None:
  """Raises unless every value is a number from 1e-12 to 1e12 or an `AdaptiveQuantile`."""
  for name, value in values.items():
    if not isinstance(value, AdaptiveQuantile):
      if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigurationError(
          f'`{name}` must be a positive number or an AdaptiveQuantile, got {value!r}.'
        )
      _in_range(**{name: value})


def _in_range(**values: Any) -> None:
  _validate.positive(**values)
  for name, value in values.items():
    if not quantiles.LOWEST <= value <= quantiles.HIGHEST:
      raise ConfigurationError(
        f'`{name}` must lie between {quantiles.LOWEST:g} and {quantiles.HIGHEST:g}, where norms '
        f'neither underflow nor overflow, got {value!r}.'
      )


def fraction_positive(sums, channel: str) -> tf.Tensor:
  """Fraction of clients that sent +1, in [0, 1], from the noised sum of +-1 bits."""
  survivors = tf.maximum(tf.cast(sums['survivors'], tf.float32), 1)
  return tf.clip_by_value((tf.cast(sums[channel], tf.float32) / survivors + 1) / 2, 0.0, 1.0)

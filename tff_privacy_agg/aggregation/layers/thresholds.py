"""Thresholds: fixed numbers, or quantiles of the clients' norms that are followed."""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation.domains import Channel
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import quantiles

# In a layer's state, next to the estimate of a threshold that settles.
_MOVES = 'moves'


@_validate.plain_numbers
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
    frozen_after: Number of accepted rounds after which the estimate stays as it
      is; at least 1. None follows it always. The bits are sent and paid for in
      all rounds.

  Raises:
    ConfigurationError: If a number is outside its range.

  Examples:
    >>> median = tpa.AdaptiveQuantile(initial=1.0, target=0.5)
    >>> list(tpa.Clipping(norm=median).channels)
    ['below']
  """

  initial: float
  target: float
  learning_rate: float = 0.2
  multiplier: float = 1.0
  increment: float = 0.0
  count_stddev: float | None = None
  frozen_after: int | None = None

  def __post_init__(self) -> None:
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
    if self.frozen_after is not None:
      _validate.at_least(1, frozen_after=self.frozen_after)

  def __repr__(self) -> str:
    # A ledger knows its layers by it: one that was begun before thresholds could settle goes on.
    given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    if not self.settles:
      del given['frozen_after']
    return f'AdaptiveQuantile({", ".join(f"{name}={value!r}" for name, value in given.items())})'

  @property
  def settles(self) -> bool:
    """Whether the threshold stays, from some round on."""
    return self.frozen_after is not None

  def channels(self, name: str) -> dict[str, Channel]:
    """The channel of the bit: +1 or -1, so a count is half the sum plus half the clients."""
    return {name: Channel(stddev=None if self.count_stddev is None else 2 * self.count_stddev)}

  def state(self, key: str) -> OrderedDict[str, tf.Tensor]:
    """The state of a layer: under `key` the estimate, float32, and how often it moved if that ends."""
    state = OrderedDict({key: tf.constant(self.initial, tf.float32)})
    if self.settles:
      state[_MOVES] = tf.constant(0, tf.int64)
    return state

  def params(self, state: Mapping[str, tf.Tensor], key: str) -> OrderedDict[str, tf.Tensor]:
    """What a layer broadcasts: the estimate."""
    return OrderedDict({key: state[key]})

  def estimate(self, params: Mapping[str, tf.Tensor], key: str) -> tf.Tensor:
    """The estimate of a round."""
    return params[key]

  def limit(self, params: Mapping[str, tf.Tensor], key: str) -> tf.Tensor:
    """The threshold of a round."""
    limit = params[key]
    if self.multiplier != 1:
      limit *= self.multiplier
    return limit + self.increment if self.increment else limit

  def message(self, name: str, bit: tf.Tensor, dtype: tf.DType) -> dict[str, tf.Tensor]:
    """One client's bit in the channel `name`."""
    return {name: tf.where(bit, tf.constant(1, dtype), tf.constant(-1, dtype))}

  def update(
    self, state: Mapping[str, tf.Tensor], key: str, sums: Any, name: str, *, counts_above: bool
  ) -> tuple[OrderedDict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """The state after a round, and the fraction of clients that the channel `name` counted.

    Args:
      state: As from `state`.
      key: Where the estimate is.
      sums: Sums of the channels, and the number of `survivors`.
      name: The channel of the bits.
      counts_above: Whether a bit says that a norm is above the estimate, not at or below it.
    """
    counted = fraction_positive(sums, name)
    below = 1 - counted if counts_above else counted
    moved = quantiles.geometric_update(state[key], below, self.target, self.learning_rate)
    if self.frozen_after is None:
      return OrderedDict({key: moved}), {name: counted}
    moves = state[_MOVES]
    kept = tf.where(moves < self.frozen_after, moved, state[key])
    return OrderedDict({key: kept, _MOVES: moves + 1}), {name: counted}


@dataclasses.dataclass(frozen=True)
class FixedThreshold:
  """A threshold that stays: the same methods as `AdaptiveQuantile`, without channel and state."""

  value: float
  settles = True

  def channels(self, name: str) -> dict[str, Channel]:
    """None: no client says anything of its norm."""
    return {}

  def state(self, key: str) -> OrderedDict[str, tf.Tensor]:
    """Nothing."""
    return OrderedDict()

  def params(self, state: Mapping[str, tf.Tensor], key: str) -> OrderedDict[str, tf.Tensor]:
    """Nothing."""
    return OrderedDict()

  def estimate(self, params: Mapping[str, tf.Tensor], key: str) -> float:
    """The threshold."""
    return self.value

  def limit(self, params: Mapping[str, tf.Tensor], key: str) -> float:
    """The threshold."""
    return self.value

  def message(self, name: str, bit: tf.Tensor, dtype: tf.DType) -> dict[str, tf.Tensor]:
    """Nothing."""
    return {}

  def update(
    self, state: Mapping[str, tf.Tensor], key: str, sums: Any, name: str, *, counts_above: bool
  ) -> tuple[OrderedDict[str, tf.Tensor], dict[str, tf.Tensor]]:
    """Nothing moves, nothing was counted."""
    return OrderedDict(state), {}


Threshold = float | AdaptiveQuantile


def threshold_of(**values: Any) -> AdaptiveQuantile | FixedThreshold:
  """The one named threshold: an `AdaptiveQuantile`, or a number from 1e-12 to 1e12.

  Raises:
    ConfigurationError: If it is neither.
  """
  ((name, value),) = values.items()
  if isinstance(value, AdaptiveQuantile):
    return value
  if isinstance(value, bool) or not isinstance(value, int | float):
    raise ConfigurationError(
      f'`{name}` must be a positive number or an AdaptiveQuantile, got {value!r}.'
    )
  _in_range(**{name: value})
  return FixedThreshold(value)


def _in_range(**values: Any) -> None:
  _validate.positive(**values)
  for name, value in values.items():
    if not quantiles.LOWEST <= value <= quantiles.HIGHEST:
      raise ConfigurationError(
        f'`{name}` must lie between {quantiles.LOWEST:g} and {quantiles.HIGHEST:g}, where norms '
        f'neither underflow nor overflow, got {value!r}.'
      )


def fraction_positive(sums: Mapping[str, tf.Tensor], channel: str) -> tf.Tensor:
  """Fraction of clients that sent +1, in [0, 1], from the noised sum of +-1 bits."""
  survivors = tf.maximum(tf.cast(sums['survivors'], tf.float32), 1)
  return tf.clip_by_value((tf.cast(sums[channel], tf.float32) / survivors + 1) / 2, 0.0, 1.0)

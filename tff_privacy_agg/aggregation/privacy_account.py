"""Run time of the privacy account: what the rounds of a stack have cost, kept in its state."""

import dataclasses
import math
from collections import OrderedDict

import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.aggregation.layers.base import Measurements, State
from tff_privacy_agg.aggregation.noise_history import SINCE_RESTART
from tff_privacy_agg.numerics import epsilon


@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivacyAccount:
  """The account of a bound stack.

  Attributes:
    binding: The constants.
    delta: Delta of the epsilon in the metrics, in (0, 1).
    limit: Budget at its fixed order; None without one.
  """

  binding: Binding
  delta: float
  limit: accounting.Filter | None

  def init(self) -> State:
    """The account before the first round."""
    nothing = tf.zeros_like(self._costs[0])
    zero = tf.constant(0, tf.int64)
    correlated = self.binding.price.separation is not None
    return self._state(nothing, zero, zero, zero if correlated else None)

  def restarted(self, state: State, lost: int) -> State:
    """The account of correlated noise that begins anew; the arguments are those of `Stack`."""
    privacy = {key: tf.convert_to_tensor(value) for key, value in state.items()}
    cost, shares = privacy['cost'], privacy['shares']
    zero = tf.constant(0, tf.int64)
    for number in range(lost):
      adds = self._adds(privacy[SINCE_RESTART] if number == 0 else zero, shares)
      cost = tf.where(adds, self._add(cost, self._costs[1]), cost)
      shares = shares + tf.cast(adds, tf.int64)
    return self._state(cost, shares, privacy['rounds'] + lost, zero)

  def update(
    self,
    state: State,
    survivors: tf.Tensor,
    honest: tf.Tensor,
    accepted: tf.Tensor,
    halted: tf.Tensor,
  ) -> tuple[State, Measurements]:
    """The account after a round, and what is measured of it.

    Args:
      state: The account before it.
      survivors: Clients in its sum.
      honest: Those of them whose noise the server does not know.
      accepted: Whether they were enough, and the process not halted.
      halted: Whether it was.
    """
    binding = self.binding
    rounds = state['rounds'] + tf.cast(~halted, tf.int64)
    infinite = tf.constant(math.inf, tf.float64)
    cost, shares = state['cost'], state['shares']
    since_restart = state.get(SINCE_RESTART)  # where noise is correlated over rounds
    if binding.mechanism is None:
      spent = infinite
    else:
      counted = tf.cast(honest, tf.int64) if binding.distributed else tf.constant(1, tf.int64)
      free = halted if since_restart is None else halted | ~self._adds(since_restart, shares)
      cost = tf.where(free, cost, self._add(cost, tf.gather(self._costs, honest)))
      shares = tf.where(free, shares, shares + counted)
      spent = self._epsilon(cost, self._distance(shares))
    multipliers = [binding.noise_multiplier(h) for h in range(self.binding.cohort.maximum + 1)]
    multiplier = tf.gather(tf.constant(multipliers, tf.float64), honest)
    measurements = OrderedDict(
      epsilon=spent if binding.holds_against_server else infinite,
      release_epsilon=spent,
      delta=tf.constant(self.delta, tf.float64),
      noise_multiplier=multiplier,
      rounds=rounds,
      survivors=survivors,
      honest=honest,
      accepted=accepted,
    )
    if self.limit is not None:
      measurements['halted'] = halted
    if since_restart is not None:
      since_restart += tf.cast(~halted, tf.int64)
    return self._state(cost, shares, rounds, since_restart), measurements

  def _state(
    self,
    cost: tf.Tensor,
    shares: tf.Tensor,
    rounds: tf.Tensor,
    since_restart: tf.Tensor | None = None,
  ) -> State:
    """The account; with a budget, whether the next round at its worst is outside it."""
    state: OrderedDict[str, tf.Tensor] = OrderedDict(cost=cost, shares=shares, rounds=rounds)
    if since_restart is not None:
      state[SINCE_RESTART] = since_restart
    if self.limit is not None:
      worst = tf.constant(self.binding.worst_round.astype(self.binding.costs.dtype))
      most = shares + self.binding.price.shares(self.binding.cohort.maximum)
      if since_restart is not None:
        adds = self._adds(since_restart, shares)
        worst, most = tf.where(adds, worst, tf.zeros_like(worst)), tf.where(adds, most, shares)
      limit = self.limit.limit
      left = tf.constant(limit, cost.dtype) - tf.gather(worst, self.limit.parts)
      past = tf.gather(cost, self.limit.parts) > left
      state['halted'] = tf.reduce_any(past) | (self._distance(most) > self.limit.most_distance)
    return state

  def _adds(self, since_restart: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Whether, of correlated noise, one client may pay once more in a round.

    Args:
      since_restart: Rounds that share noise with it and precede it.
      shares: Number of times that one client has paid.
    """
    price = self.binding.price
    adds = tf.equal(since_restart % price.separation, 0)
    return adds if price.participations is None else adds & (shares < price.participations)

  @property
  def _costs(self) -> tf.Tensor:
    return tf.constant(self.binding.costs)

  def _distance(self, shares: tf.Tensor) -> tf.Tensor:
    """Total variation distance of so many shares of noise from their distribution."""
    return tf.cast(shares, tf.float64) * self.binding.price.distance(1)

  def _add(self, cost: tf.Tensor, one_round: tf.Tensor) -> tf.Tensor:
    if cost.dtype.is_integer:  # what is infinite stays so: nothing wraps around 64 bits
      room = tf.constant(accounting.INFINITE, cost.dtype) - one_round
      return tf.minimum(cost, room) + one_round
    return cost + one_round

  def _epsilon(self, cost: tf.Tensor, distance: tf.Tensor) -> tf.Tensor:
    account = self.binding.account
    if isinstance(account, accounting.GaussianAccount):
      return epsilon.gaussian_epsilon(cost, distance, tf.constant(self.delta, tf.float64))
    return epsilon.renyi_epsilon(cost, account.orders, distance, self.delta)

"""Run time: the fold of the layers into one client function and two server functions.

The stack, not a layer, adds the noise of the auxiliary channels, counts the
survivors and keeps the privacy account, so that no layer can forget them.
"""

import dataclasses
import math
import typing
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg._wording import counted
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers.base import Layer, Measurements, Params, Slot, State
from tff_privacy_agg.aggregation.noise_history import SINCE_RESTART, without_noise
from tff_privacy_agg.numerics import epsilon, modular, randomness, samplers
from tff_privacy_agg.numerics.randomness import RandomStream

SURVIVORS = 'survivors'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stack:
  """A bound stack of layers.

  Attributes:
    binding: The constants.
    delta: Delta of the epsilon in the metrics, in (0, 1).
    limit: Budget at its fixed order; None without one.
  """

  binding: Binding
  delta: float
  limit: accounting.Filter | None = None

  def init(self) -> State:
    """State of the first round: per layer, and the privacy account."""
    states = OrderedDict()
    for layer, slot in self._layers():
      state = layer.init(slot)
      if state:
        states[layer.name] = state
    nothing = tf.zeros_like(self._costs[0])
    zero = tf.constant(0, tf.int64)
    correlated = self.binding.price.separation is not None
    states['privacy'] = self._account_state(nothing, zero, zero, zero if correlated else None)
    return states

  def restarted(self, state: State, lost: int) -> State:
    """The state with which correlated noise begins anew, after rounds whose own state is lost.

    Rounds before and after share no noise. A client may have taken part in the lost rounds as well.

    Args:
      state: The last state that is left.
      lost: Rounds after it that ran and may have been released, each after a restart of its own
        but for the first; at least 0.
    """
    privacy = {key: tf.convert_to_tensor(value) for key, value in state['privacy'].items()}
    cost, shares = privacy['cost'], privacy['shares']
    zero = tf.constant(0, tf.int64)
    for number in range(lost):
      adds = self._adds(privacy[SINCE_RESTART] if number == 0 else zero, shares)
      cost = tf.where(adds, self._add(cost, self._costs[1]), cost)
      shares = shares + tf.cast(adds, tf.int64)
    parts = OrderedDict(without_noise(state))
    parts['privacy'] = self._account_state(cost, shares, privacy['rounds'] + lost, zero)
    return parts

  def prepare(self, state: State) -> Params:
    """The broadcast at the start of a round."""
    params: OrderedDict[str, Any] = OrderedDict(round=state['privacy']['rounds'])
    if self.limit is not None:
      params['halted'] = state['privacy']['halted']
    for layer, slot in self._layers():
      prepared = layer.prepare(slot, state.get(layer.name, OrderedDict()))
      if prepared:
        params[layer.name] = prepared
    return params

  def client(
    self,
    params: Params,
    vector: tf.Tensor,
    stream: RandomStream | None,
    weight: tf.Tensor | None = None,
  ) -> Mapping[str, tf.Tensor]:
    """The message of one client.

    Args:
      params: What `prepare` gave.
      vector: `[d]`, the client's value.
      stream: Fresh secret randomness of this client and round; None where no layer
        draws.
      weight: Scalar; only in weighted stacks.

    Returns:
      `vector` (`[D]`, residues or floats) and `channels` (`[1 + channels]`,
      residues: 1 for the count of survivors, then the auxiliary numbers).
    """
    contributions = {}
    value = vector
    if stream is not None:
      stream = stream.prefetch(self._random_words())
    if self.limit is not None:
      # Here, so that nothing behind it sees the data: what is sent is a constant and noise.
      value = tf.where(params['halted'], tf.zeros_like(value), value)
      if weight is not None:
        weight = tf.where(params['halted'], tf.zeros_like(weight), weight)
    for layer, slot in self._layers():
      own = dict(params.get(layer.name, {}))
      if layer.uses_randomness:
        own['randomness'] = stream
      if layer.uses_weight:
        own['client_weight'] = weight
      value, numbers = layer.encode(slot, own, value)
      contributions.update({(layer.name, name): number for name, number in numbers.items()})
    return OrderedDict(vector=value, channels=self._channels(contributions, stream))

  def server(
    self,
    state: State,
    sums: Mapping[str, tf.Tensor],
    stream: RandomStream | None,
  ) -> tuple[State, tf.Tensor, Measurements]:
    """Decodes the sums, updates every state and the account.

    Args:
      state: State of the round.
      sums: Sums over clients of what `client` gave.
      stream: Randomness of a central mechanism; None without one.

    Returns:
      The next state; the decoded vector `[d]`, zeros where too few honest
      clients survived; and the measurements: one entry for each layer that has
      any, and `privacy`.
    """
    if stream is not None:
      stream = stream.prefetch(self._random_words())
    survivors, layer_sums = self._decode_channels(sums['channels'], stream)
    params = self.prepare(state)
    honest = tf.gather(
      tf.constant([self._cohort.honest(k) for k in range(self._cohort.maximum + 1)]), survivors
    )
    halted = params.get('halted', tf.constant(False))
    accepted = (honest >= self._cohort.minimum) & ~halted

    total = sums['vector']
    of_sums: dict[str, Measurements] = {}
    kept: dict[str, State] = {}
    for layer, slot in reversed(self._layers()):
      own = dict(params.get(layer.name, {}))
      if layer.uses_randomness:
        own['randomness'] = stream
      of_sum = layer.measure(slot, total, layer_sums[layer.name])
      of_sums[layer.name] = OrderedDict(
        (key, tf.where(accepted, of_sum[key], tf.zeros_like(of_sum[key]))) for key in of_sum
      )
      if layer.keeps_noise:
        total, kept[layer.name] = layer.decode_keeping(slot, own, total, state[layer.name])
      else:
        total = layer.decode(slot, own, total, layer_sums[layer.name])
    total = tf.where(accepted, total, tf.zeros_like(total))

    new_state: OrderedDict[str, State] = OrderedDict()
    measurements: OrderedDict[str, Measurements] = OrderedDict()
    for layer, slot in self._layers():
      old = state.get(layer.name, OrderedDict())
      new, measured = layer.update(slot, old, params.get(layer.name, {}), layer_sums[layer.name])
      if new:
        new_state[layer.name] = OrderedDict(
          (key, tf.where(accepted, new[key], old[key])) for key in new
        )
      measured = OrderedDict(measured, **of_sums[layer.name])
      if measured:
        measurements[layer.name] = measured
    # A round that is not accepted releases nothing, but it is a round: the noise goes on.
    new_state.update(kept)
    new_state['privacy'], measurements['privacy'] = self._account(
      state['privacy'], survivors, honest, accepted, halted
    )
    return new_state, total, measurements

  def _account_state(
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
      most = shares + self.binding.price.shares(self._cohort.maximum)
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

  @property
  def _cohort(self) -> Cohort:
    return self.binding.cohort

  def _layers(self) -> list[tuple[Layer, Slot]]:
    return [(layer, self.binding.slots[layer.name]) for layer in self.binding.layers]

  def _random_words(self) -> dict[int, int]:
    """Words that who adds the noise draws, by stream, and hardly ever more."""
    counts: dict[int, int] = {}
    for layer, slot in self._layers():
      counts.update(layer.random_words(slot))
    for number, sampler, positions in self._channel_noise():
      counts.update(sampler.random_words(number, len(positions)))
    return counts

  def _channel_noise(self) -> list[tuple[int, samplers.NoiseSampler, list[int]]]:
    """Stream, sampler and positions of the channels with noise, those of one variance together."""
    mechanism = self.binding.mechanism
    if mechanism is None:
      return []
    by_variance: dict[float, list[int]] = {}
    for position, plan in enumerate(self.binding.channels, start=1):
      by_variance.setdefault(plan.variance, []).append(position)
    return [
      (
        randomness.CHANNEL_NOISE + use * randomness.STREAM_SPACING,
        samplers.noise_sampler(mechanism.law, variance),
        positions,
      )
      for use, (variance, positions) in enumerate(by_variance.items())
    ]

  def _channels(
    self, contributions: Mapping[tuple[str, str], tf.Tensor], stream: RandomStream | None
  ) -> tf.Tensor:
    # One for the count of survivors, of which nothing is rounded, clipped or noised.
    numbers = [tf.constant(1, tf.float64)]
    for plan in self.binding.channels:
      numbers.append(tf.cast(contributions[plan.layer, plan.name], tf.float64))
    # The account rests on this bound, so it is enforced here, whatever the layer sent.
    bounded = tf.stack(numbers)
    bounded = tf.clip_by_value(tf.where(tf.math.is_finite(bounded), bounded, 0.0), -1.0, 1.0)
    resolutions = [1.0, *(plan.resolution for plan in self.binding.channels)]
    dtype = modular.dtype_for(self.binding.channel_bits)
    values = tf.cast(tf.math.round(tf.constant(resolutions, tf.float64) * bounded), dtype)
    if self.binding.distributed:
      values = self._with_channel_noise(values, stream)
    return modular.wrap(values, self.binding.channel_bits)

  def _with_channel_noise(self, values: tf.Tensor, stream: RandomStream | None) -> tf.Tensor:
    for number, sampler, positions in self._channel_noise():
      # Who adds the noise has a stream.
      noise = sampler.sample(typing.cast(RandomStream, stream), number, len(positions))
      values = tf.tensor_scatter_nd_add(
        values, [[position] for position in positions], tf.cast(noise, values.dtype)
      )
    return values

  def _decode_channels(
    self, sums: tf.Tensor, stream: RandomStream | None
  ) -> tuple[tf.Tensor, dict[str, dict[str, tf.Tensor]]]:
    bits = self.binding.channel_bits
    values = modular.centre(modular.wrap(sums, bits), bits)
    if not self.binding.distributed:
      values = self._with_channel_noise(tf.cast(values, tf.int64), stream)
    plans = self.binding.channels
    resolutions = [1.0, *(plan.resolution for plan in plans)]
    count, *numbers = tf.unstack(tf.cast(values, tf.float64) / resolutions)
    survivors = self._check_cohort(tf.cast(count, tf.int32))
    as_float = tf.cast(survivors, tf.float64)
    layer_sums = {layer.name: {SURVIVORS: as_float} for layer in self.binding.layers}
    for plan, number in zip(plans, numbers, strict=True):
      layer_sums[plan.layer][plan.name] = number
    return survivors, layer_sums

  def _check_cohort(self, survivors: tf.Tensor) -> tf.Tensor:
    maximum = self._cohort.maximum
    checks = [
      tf.debugging.Assert(
        survivors >= 1,
        ['A round needs at least one client; no client took part. Pass client data.'],
      ),
      tf.debugging.Assert(
        survivors <= maximum,
        [
          f'The cohort admits at most {counted(maximum, "client")} a round; the number that took '
          'part follows. Raise `Cohort.maximum` and build the process again, or sample fewer '
          'clients.',
          survivors,
        ],
      ),
    ]
    with tf.control_dependencies(checks):
      return tf.identity(survivors)

  def _account(
    self,
    state: State,
    survivors: tf.Tensor,
    honest: tf.Tensor,
    accepted: tf.Tensor,
    halted: tf.Tensor,
  ) -> tuple[State, Measurements]:
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
    multipliers = [binding.noise_multiplier(h) for h in range(self._cohort.maximum + 1)]
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
    return self._account_state(cost, shares, rounds, since_restart), measurements

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

"""Run time: the fold of the layers into one client function and two server functions.

The stack, not a layer, adds the noise of the auxiliary channels, counts the
survivors and keeps the privacy account, so that no layer can forget them.
"""

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.aggregation.layers.base import Layer, Measurements, Params, Slot, State
from tff_privacy_agg.numerics import modular, randomness, samplers
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
    rdp = tf.zeros([len(self.binding.orders)], tf.float64)
    states['privacy'] = self._account_state(rdp, tf.constant(0, tf.int64))
    return states

  def prepare(self, state: State) -> Params:
    """What is broadcast at the start of a round."""
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
    """What one client sends.

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
    survivors, layer_sums = self._decode_channels(sums['channels'], stream)
    params = self.prepare(state)
    honest = tf.gather(
      tf.constant([self._cohort.honest(k) for k in range(self._cohort.maximum + 1)]), survivors
    )
    halted = params.get('halted', tf.constant(False))
    accepted = (honest >= self._cohort.minimum) & ~halted

    total = sums['vector']
    for layer, slot in reversed(self._layers()):
      own = dict(params.get(layer.name, {}))
      if layer.uses_randomness:
        own['randomness'] = stream
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
      if measured:
        measurements[layer.name] = measured
    new_state['privacy'], measurements['privacy'] = self._account(
      state['privacy'], survivors, honest, accepted, halted
    )
    return new_state, total, measurements

  def _account_state(self, rdp: tf.Tensor, rounds: tf.Tensor) -> State:
    """The account; with a budget, whether the next round at its worst is outside it."""
    if self.limit is None:
      return OrderedDict(rdp=rdp, rounds=rounds)
    order = self.limit.index
    spent = rdp[order] + self.binding.worst_round[order] > self.limit.limit
    most = self.limit.most_rounds(self.binding.sampler_distance)
    return OrderedDict(rdp=rdp, rounds=rounds, halted=spent | (rounds >= most))

  @property
  def _cohort(self):
    return self.binding.cohort

  def _layers(self) -> list[tuple[Layer, Slot]]:
    return [(layer, self.binding.slots[layer.name]) for layer in self.binding.layers]

  def _random_words(self) -> dict[int, int]:
    """Words that a client draws, by stream, and hardly ever more."""
    counts: dict[int, int] = {}
    for layer, slot in self._layers():
      counts.update(layer.random_words(slot))
    for number, sampler, positions in self._channel_noise():
      counts.update(sampler.random_words(number, len(positions)))
    return counts

  def _channel_noise(self) -> list[tuple[int, samplers.NoiseSampler, list[int]]]:
    """Stream, sampler and positions of the channels with noise, those of one variance together."""
    by_variance: dict[float, list[int]] = {}
    for position, plan in enumerate(self.binding.channels, start=1):
      if plan.local_variance:
        by_variance.setdefault(plan.local_variance, []).append(position)
    return [
      (
        randomness.CHANNEL_NOISE + use * randomness.STREAM_SPACING,
        samplers.noise_sampler(self.binding.law, variance),
        positions,
      )
      for use, (variance, positions) in enumerate(by_variance.items())
    ]

  def _channels(self, contributions, stream) -> tf.Tensor:
    dtype = modular.dtype_for(self.binding.channel_bits)
    columns = [tf.constant(1, dtype)]
    for plan in self.binding.channels:
      number = tf.cast(contributions[plan.layer, plan.name], tf.float64)
      # The account rests on this bound, so it is enforced here, whatever the layer sent.
      number = tf.clip_by_value(tf.where(tf.math.is_finite(number), number, 0.0), -1.0, 1.0)
      columns.append(tf.cast(tf.math.round(plan.resolution * number), dtype))
    values = tf.stack(columns)
    for number, sampler, positions in self._channel_noise():
      noise = sampler.sample(stream, number, len(positions))
      values = tf.tensor_scatter_nd_add(
        values, [[position] for position in positions], tf.cast(noise, dtype)
      )
    return modular.wrap(values, self.binding.channel_bits)

  def _decode_channels(self, sums, stream):
    bits = self.binding.channel_bits
    values = modular.centre(modular.wrap(sums, bits), bits)
    survivors = self._check_cohort(tf.cast(values[0], tf.int32))
    plans = self.binding.channels
    central = tf.zeros([len(plans)], tf.float64)
    if stream is not None:
      seed = stream.seed(randomness.CHANNEL_NOISE)
      central = tf.random.stateless_normal([len(plans)], seed, dtype=tf.float64, alg='philox')
    layer_sums = {
      layer.name: {SURVIVORS: tf.cast(survivors, tf.float64)} for layer in self.binding.layers
    }
    for position, plan in enumerate(plans):
      number = tf.cast(values[position + 1], tf.float64) / plan.resolution
      layer_sums[plan.layer][plan.name] = number + plan.central_stddev * central[position]
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
          f'The cohort admits at most {maximum} clients a round; the number that took part '
          'follows. Raise `Cohort.maximum` and build the process again, or sample fewer '
          'clients.',
          survivors,
        ],
      ),
    ]
    with tf.control_dependencies(checks):
      return tf.identity(survivors)

  def _account(self, state, survivors, honest, accepted, halted) -> tuple[State, Measurements]:
    binding = self.binding
    rounds = state['rounds'] + tf.cast(~halted, tf.int64)
    infinite = tf.constant(math.inf, tf.float64)
    if binding.mechanism is None:
      rdp, spent = state['rdp'], infinite
      multiplier = tf.constant(0.0, tf.float64)
    else:
      rdp = tf.where(halted, state['rdp'], state['rdp'] + self._one_round(honest))
      offsets = accounting.conversion_offsets(binding.orders, self.delta)
      spent = tf.maximum(tf.reduce_min(rdp + tf.constant(offsets)), 0.0)
      multipliers = [binding.noise_multiplier(h) for h in range(self._cohort.maximum + 1)]
      multiplier = tf.gather(tf.constant(np.array(multipliers)), honest)
    # An event's probability moves by the sampler's distance on either neighbour.
    sampler_delta = (
      tf.cast(rounds, tf.float64)
      * binding.sampler_distance
      * (1 + tf.exp(tf.minimum(spent, 700.0)))
    )
    measurements = OrderedDict(
      epsilon=spent if binding.holds_against_server else infinite,
      release_epsilon=spent,
      delta=tf.minimum(self.delta + sampler_delta, 1.0),
      noise_multiplier=multiplier,
      rounds=rounds,
      survivors=survivors,
      honest=honest,
      accepted=accepted,
    )
    if self.limit is not None:
      measurements['halted'] = halted
    return self._account_state(rdp, rounds), measurements

  def _one_round(self, honest: tf.Tensor) -> tf.Tensor:
    binding = self.binding
    if binding.distributed:
      return tf.gather(tf.constant(binding.rdp_table), honest)
    return tf.constant(binding.curve(honest=1).rdp(binding.orders))

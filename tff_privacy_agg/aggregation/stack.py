"""Run time: the fold of the layers into one client function and two server functions.

The stack, not a layer, adds the noise of the auxiliary channels, counts the
survivors and keeps the privacy account, so that no layer can forget them.
"""

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.aggregation.channel_sums import ChannelSums
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers.base import Layer, Measurements, Params, Slot, State
from tff_privacy_agg.aggregation.noise_history import without_noise
from tff_privacy_agg.aggregation.privacy_account import PrivacyAccount
from tff_privacy_agg.numerics.randomness import RandomStream


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

  @property
  def account(self) -> PrivacyAccount:
    """The privacy account that the state holds."""
    return PrivacyAccount(binding=self.binding, delta=self.delta, limit=self.limit)

  @property
  def channels(self) -> ChannelSums:
    """The count of survivors and the auxiliary channels."""
    return ChannelSums(binding=self.binding)

  def init(self) -> State:
    """State of the first round: per layer, and the privacy account."""
    states = OrderedDict()
    for layer, slot in self._layers():
      state = layer.init(slot)
      if state:
        states[layer.name] = state
    states['privacy'] = self.account.init()
    return states

  def restarted(self, state: State, lost: int) -> State:
    """The state with which correlated noise begins anew, after rounds whose own state is lost.

    Rounds before and after share no noise. A client may have taken part in the lost rounds as well.

    Args:
      state: The last state that is left.
      lost: Rounds after it that ran and may have been released, each after a restart of its own
        but for the first; at least 0.
    """
    parts = OrderedDict(without_noise(state))
    parts['privacy'] = self.account.restarted(state['privacy'], lost)
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
    return OrderedDict(vector=value, channels=self.channels.message(contributions, stream))

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
    survivors, layer_sums = self.channels.decode(sums['channels'], stream)
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
    new_state['privacy'], measurements['privacy'] = self.account.update(
      state['privacy'], survivors, honest, accepted, halted
    )
    return new_state, total, measurements

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
    for number, sampler, positions in self.channels.noise():
      counts.update(sampler.random_words(number, len(positions)))
    return counts

"""Run time of the channels: bounded, rounded and noised numbers, summed with a count of the clients."""

import dataclasses
import typing
from collections.abc import Mapping

import tensorflow as tf

from tff_privacy_agg._wording import counted
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.numerics import modular, randomness, samplers
from tff_privacy_agg.numerics.randomness import RandomStream

SURVIVORS = 'survivors'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChannelSums:
  """The channels of a bound stack.

  Attributes:
    binding: The constants.
  """

  binding: Binding

  def noise(self) -> list[tuple[int, samplers.NoiseSampler, list[int]]]:
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

  def message(
    self, contributions: Mapping[tuple[str, str], tf.Tensor], stream: RandomStream | None
  ) -> tf.Tensor:
    """What one client sends, `[1 + channels]`, residues: 1, then its numbers.

    Args:
      contributions: Number by layer and channel.
      stream: Randomness of the client, where clients add the noise.
    """
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
      values = self._with_noise(values, stream)
    return modular.wrap(values, self.binding.channel_bits)

  def decode(
    self, sums: tf.Tensor, stream: RandomStream | None
  ) -> tuple[tf.Tensor, dict[str, dict[str, tf.Tensor]]]:
    """The number of survivors; and by layer its channels' sums, the survivors among them.

    Args:
      sums: Sum over the clients of `message`.
      stream: Randomness of the server, where it adds the noise.
    """
    bits = self.binding.channel_bits
    values = modular.centre(modular.wrap(sums, bits), bits)
    if not self.binding.distributed:
      values = self._with_noise(tf.cast(values, tf.int64), stream)
    plans = self.binding.channels
    resolutions = [1.0, *(plan.resolution for plan in plans)]
    count, *numbers = tf.unstack(tf.cast(values, tf.float64) / resolutions)
    survivors = self._check_cohort(tf.cast(count, tf.int32))
    as_float = tf.cast(survivors, tf.float64)
    layer_sums = {layer.name: {SURVIVORS: as_float} for layer in self.binding.layers}
    for plan, number in zip(plans, numbers, strict=True):
      layer_sums[plan.layer][plan.name] = number
    return survivors, layer_sums

  def _with_noise(self, values: tf.Tensor, stream: RandomStream | None) -> tf.Tensor:
    for number, sampler, positions in self.noise():
      # Who adds the noise has a stream.
      noise = sampler.sample(typing.cast(RandomStream, stream), number, len(positions))
      values = tf.tensor_scatter_nd_add(
        values, [[position] for position in positions], tf.cast(noise, values.dtype)
      )
    return values

  def _check_cohort(self, survivors: tf.Tensor) -> tf.Tensor:
    maximum = self.binding.cohort.maximum
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

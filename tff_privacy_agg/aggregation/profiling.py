"""Measures a client's time layer by layer, in nanoseconds a value."""

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from tff_privacy_agg import _validate
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import Layer, Slot
from tff_privacy_agg.aggregation.layers.base import Numbers
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.numerics import entropy
from tff_privacy_agg.numerics.randomness import RandomStream


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One part of a client's work.

  Attributes:
    name: The layer, or what the stack adds to it.
    nanoseconds: CPU time of one client, per value: the median of the repetitions.
    share: Of the sum of all parts, in [0, 1].
  """

  name: str
  nanoseconds: float
  share: float


def profile(
  layers: Sequence[Layer],
  *,
  cohort: Cohort,
  dim: int,
  randomness: str = 'chacha20',
  repetitions: int = 15,
  progress: Callable[[int, int], None] = lambda done, parts: None,
) -> list[Row]:
  """Runs the parts of one client's work one by one, each as a graph of its own.

  The parts together take longer than the client's one graph, in which TensorFlow joins
  some of them; their shares say where to look.

  Args:
    layers: As in `compose`.
    cohort: As in `compose`.
    dim: Number of values, at least 1.
    randomness: As in `compose`.
    repetitions: Of each part, after two of warm-up; at least 1.
    progress: Called with the parts that are measured, and how many there are.

  Raises:
    CompositionError: If the layers do not form a stack.
    ConfigurationError: If an argument is outside its range.
  """
  _validate.at_least(1, dim=dim, repetitions=repetitions)
  bound = binding.bind(layers, cohort, dim, tf.float32)
  stack = Stack(binding=bound, delta=1e-6)
  params = stack.prepare(stack.init())
  given = tf.constant(np.random.default_rng(0).normal(size=[dim]), bound.dtype)
  weight = tf.constant(1.0)
  unfoldable = tf.Variable(0, dtype=tf.int64)

  def stream() -> RandomStream:
    key = entropy.operating_system_key(unfoldable.read_value())
    return RandomStream(kind=randomness, key=key)

  def whole() -> Numbers:
    return stack.client(params, given, stream(), weight)

  parts = len(bound.layers) + 2
  found: list[tuple[str, float]] = []

  def measure(name: str, work: Callable[[], object]) -> None:
    found.append((name, _time(work, dim, repetitions)))
    progress(len(found), parts)

  measure('key of the operating system', lambda: stream().key)
  value = given
  for layer in bound.layers:
    slot = bound.slots[layer.name]

    def encode(layer: Layer = layer, slot: Slot = slot, value: tf.Tensor = value) -> tf.Tensor:
      own = dict(params.get(layer.name, {}))
      if layer.uses_randomness:
        own['randomness'] = RandomStream(
          kind=randomness, key=tf.range(8) + tf.cast(unfoldable, tf.int32)
        )
      if layer.uses_weight:
        own['client_weight'] = weight
      return layer.encode(slot, own, value)[0]

    measure(layer.name, encode)
    value = tf.function(encode)()
  measure('all in one graph, with channels', whole)
  total = sum(nanoseconds for _, nanoseconds in found[:-1])
  return [Row(name=n, nanoseconds=t, share=t / total) for n, t in found]


def _time(work: Callable[[], object], dim: int, repetitions: int) -> float:
  graph = tf.function(work)
  for _ in range(2):
    graph()
  seconds = []
  for _ in range(repetitions):
    started = time.process_time()
    tf.nest.map_structure(lambda part: part.numpy(), graph())
    seconds.append(time.process_time() - started)
  return float(np.median(seconds)) / dim * 1e9

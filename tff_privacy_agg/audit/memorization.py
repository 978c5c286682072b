"""Secret-sharer memorization: exposure of inserted canaries, in the clear and with the stack."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff
from numpy.typing import ArrayLike

from tff_privacy_agg import _validate
from tff_privacy_agg.audit import place_names, softmax
from tff_privacy_agg.audit.exposure import exposure
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning import UniformCohorts, data, no_metrics
from tff_privacy_agg.learning.data.digits import NUM_CLASSES, NUM_PIXELS

_CANDIDATE_IMAGES = 1024
_BATCH = 16


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemorizationTask:
  """A linear model, the clients' examples, and canaries that some clients hold.

  Attributes:
    name: What it is.
    features: Inputs of the model.
    classes: Outputs.
    clients: Each ordinary client's inputs `[n, features]` and labels `[n]`.
    canaries: Examples of each canary; a client of its own holds it `repeats` times.
    candidates: Examples of every other candidate, in the same form.
    repeats: How often a client holds its canary.
  """

  name: str
  features: int
  classes: int
  clients: Sequence[tuple[np.ndarray, np.ndarray]]
  canaries: Sequence[tuple[np.ndarray, np.ndarray]]
  candidates: Sequence[tuple[np.ndarray, np.ndarray]]
  repeats: int = 4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memorized:
  """Exposure of canaries after a training.

  Attributes:
    bits: Exposure of each canary.
    largest_bits: The most there can be: log2 of the number of candidates.
    mean_bits: Mean of `bits`.
    epsilon: What the process's account said; infinite without noise.
  """

  bits: tuple[float, ...]
  largest_bits: float
  mean_bits: float
  epsilon: float


def digits_task(population: int, canaries: int, *, seed: int = 0) -> MemorizationTask:
  """Random images with random labels among the clients of the digits.

  Args:
    population: Clients with digits.
    canaries: Clients with a canary: one random image out of 1,024.
    seed: Of split and images.
  """
  _validate.at_least(1, canaries=canaries)
  examples = data.load_digits(population, seed=seed)
  clients = []
  for client in examples.train.client_ids:
    batch = next(iter(examples.train.create_tf_dataset_for_client(client).batch(2**20)))
    clients.append((batch['x'].numpy(), batch['y'].numpy()))
  rng = np.random.default_rng([seed, 1])
  images = rng.random([_CANDIDATE_IMAGES, 1, NUM_PIXELS]).astype(np.float32)
  labels = rng.integers(0, NUM_CLASSES, [_CANDIDATE_IMAGES, 1]).astype(np.int32)
  lines = list(zip(images, labels, strict=True))
  return MemorizationTask(
    name='digits',
    features=NUM_PIXELS,
    classes=NUM_CLASSES,
    clients=clients,
    canaries=lines[:canaries],
    candidates=lines[canaries:],
  )


def text_task(population: int, canaries: int, *, seed: int = 0) -> MemorizationTask:
  """Lines `code 4827` among names of places; see `place_names`.

  Args:
    population: Clients with names.
    canaries: Clients with a canary: one code out of 10,000.
    seed: Of the split and the codes.
  """
  _validate.at_least(1, canaries=canaries, population=population)
  rng = np.random.default_rng(seed)
  names = place_names.names()
  each = len(names) // population
  if each == 0:
    raise ConfigurationError(
      f'`population` must be at most {len(names)}, the number of names, got {population}.'
    )
  shuffled = [names[index] for index in rng.permutation(len(names))]
  clients = [place_names.encode(shuffled[i * each : (i + 1) * each]) for i in range(population)]
  codes = place_names.codes()
  order = rng.permutation(len(codes))
  lines = [place_names.encode([codes[index]]) for index in order]
  return MemorizationTask(
    name='place names',
    features=place_names.FEATURES,
    classes=place_names.ALPHABET_SIZE,
    clients=clients,
    canaries=lines[:canaries],
    candidates=lines[canaries:],
  )


def memorized(
  task: MemorizationTask,
  *,
  aggregator: tff.aggregators.UnweightedAggregationFactory | None,
  cohort: int,
  rounds: int,
  client_learning_rate: float = 1.0,
  local_epochs: int = 4,
  seed: int = 0,
  observe_round: Callable[[int, Mapping], None] = lambda number, metrics: None,
) -> Memorized:
  """Trains with the canaries' clients among the others, and measures their exposure.

  Args:
    task: From `digits_task` or `text_task`.
    aggregator: The stack; None sums in the clear, without clipping.
    cohort: Clients a round.
    rounds: Rounds.
    client_learning_rate: Of the clients' gradient descent.
    local_epochs: Passes over a client's examples in a round.
    seed: Of the cohorts.
    observe_round: Called after each round with its number and its metrics.
  """
  spec = OrderedDict(
    x=tf.TensorSpec([None, task.features], tf.float32), y=tf.TensorSpec([None], tf.int32)
  )

  def model_fn() -> tff.learning.models.VariableModel:
    layers = [
      tf.keras.layers.InputLayer(input_shape=[task.features]),
      tf.keras.layers.Dense(task.classes, kernel_initializer='zeros'),
    ]
    return tff.learning.models.from_keras_model(
      tf.keras.Sequential(layers),
      loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      input_spec=spec,
    )

  process = tff.learning.algorithms.build_unweighted_fed_avg(
    model_fn,
    client_optimizer_fn=tff.learning.optimizers.build_sgdm(client_learning_rate),
    server_optimizer_fn=tff.learning.optimizers.build_sgdm(1.0),
    model_aggregator=aggregator,
    metrics_aggregator=no_metrics,
    loop_implementation=tff.learning.LoopImplementation.DATASET_ITERATOR,
  )
  repeated = [(np.tile(x, [task.repeats, 1]), np.tile(y, task.repeats)) for x, y in task.canaries]
  held = [_batches(x, y, local_epochs) for x, y in [*task.clients, *repeated]]
  cohorts = UniformCohorts(client_ids=[str(i) for i in range(len(held))], size=cohort, seed=seed)
  state, epsilon = process.initialize(), float('inf')
  for number in range(1, rounds + 1):
    output = process.next(state, [held[int(client)] for client in cohorts.cohort(number)])
    state = output.state
    if aggregator is not None:
      epsilon = float(output.metrics['aggregator']['privacy']['epsilon'])
    observe_round(number, output.metrics)
  weights = process.get_model_weights(state).trainable
  others = _line_losses(weights, task.candidates)
  bits = [exposure(loss, others).bits for loss in _line_losses(weights, task.canaries)]
  return Memorized(
    bits=tuple(bits),
    largest_bits=float(np.log2(len(others) + 1)),
    mean_bits=float(np.mean(bits)),
    epsilon=epsilon,
  )


def _batches(x: np.ndarray, y: np.ndarray, epochs: int) -> tf.data.Dataset:
  examples = tf.data.Dataset.from_tensor_slices(OrderedDict(x=x, y=y))
  return examples.repeat(epochs).batch(_BATCH)


def _line_losses(
  weights: Sequence[ArrayLike], lines: Sequence[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
  """Total loss of each line."""
  x, y = (np.concatenate(part) for part in zip(*lines, strict=True))
  owners = np.repeat(np.arange(len(lines)), [len(labels) for _, labels in lines])
  return np.bincount(owners, weights=softmax.losses(weights, x, y))

"""Canary clients: ordinary clients of a cohort whose model update is a random direction."""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

_PREFIX = 'canary_'
# Streams of random numbers under one seed.
_COINS, _DIRECTIONS = 1, 2


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Canaries:
  """Canary clients, each included by a coin of its own.

  An included canary's update is a random direction of length `norm`; one that is left out
  sends zeros in its place, as the zero-out neighbour does. Both are clients
  of the cohort like all others: they clip, round, add their noise and count.

  Attributes:
    count: How many; at least 2.
    norm: Length of an included canary's update. To be measured at its full size it
      should exceed the clipping norm and stay below the zeroing threshold.
    client_learning_rate: Of the clients' gradient descent, which the length takes into account.
      Optimizers that rescale coordinates (Adam, Adagrad) bend the directions.
    seed: Of directions and coins; not negative.
  """

  count: int
  norm: float
  client_learning_rate: float = 1.0
  seed: int = 0

  def __post_init__(self) -> None:
    _validate.at_least(2, count=self.count)
    _validate.positive(norm=self.norm, client_learning_rate=self.client_learning_rate)
    _validate.at_least(0, seed=self.seed)

  @property
  def ids(self) -> list[str]:
    """Identities, in order."""
    return [f'{_PREFIX}{number:06d}' for number in range(self.count)]

  @functools.cached_property
  def included(self) -> np.ndarray:
    """Results of the coins: booleans `[count]`."""
    return np.random.default_rng([self.seed, _COINS]).random(self.count) < 0.5

  def numbers(self, cohort: Sequence[str]) -> np.ndarray:
    """Positions in `ids` of the canaries of a cohort."""
    mine = [client for client in cohort if client.startswith(_PREFIX)]
    return np.array([int(client.removeprefix(_PREFIX)) for client in mine], np.int64)

  def directions(self, dimension: int) -> np.ndarray:
    """Unit vectors of all canaries, included or not: float32 `[count, dimension]`."""
    _validate.at_least(1, dimension=dimension)
    return np.stack([self._direction(number, dimension) for number in range(self.count)])

  def dataset(self, client_id: str, input_spec: Any) -> tf.data.Dataset:
    """The dataset of a canary: one blank batch, and the pull of its direction.

    Args:
      client_id: One of `ids`.
      input_spec: That of the model from `with_canaries`.
    """
    number = int(client_id.removeprefix(_PREFIX))
    (dimension,) = input_spec['pull'].shape[1:]
    length = self.norm / self.client_learning_rate if self.included[number] else 0.0
    pull = np.float32(length) * self._direction(number, dimension)
    blank = tf.nest.map_structure(_blank, input_spec['batch'])
    return tf.data.Dataset.from_tensors(OrderedDict(batch=blank, pull=pull[None]))

  def _direction(self, number: int, dimension: int) -> np.ndarray:
    """Uniform on the unit sphere."""
    rng = np.random.default_rng([self.seed, _DIRECTIONS, number])
    vector = rng.standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def mark_ordinary(dataset: tf.data.Dataset, input_spec: Any) -> tf.data.Dataset:
  """An ordinary client's batches for the model from `with_canaries`, which has `input_spec`."""
  (dimension,) = input_spec['pull'].shape[1:]
  none = tf.data.Dataset.from_tensors(tf.zeros([0, dimension])).repeat()
  return tf.data.Dataset.zip(OrderedDict(batch=dataset, pull=none))


def with_canaries(
  model_fn: Callable[[], tff.learning.models.VariableModel],
) -> Callable[[], tff.learning.models.VariableModel]:
  """A model under which canary clients send their directions, and others what they sent before.

  Pass it to TFF's `build_*` functions in the place of `model_fn`; aggregator, account
  and ledger stay as they are. A canary's loss is linear, `-<pull, weights>`, so that
  its one step of gradient descent is its direction.

  Args:
    model_fn: Makes the audited model, a `tff.learning.models.VariableModel`.

  Raises:
    ConfigurationError: If it makes another kind of model.
  """

  def audited() -> tff.learning.models.VariableModel:
    inner = model_fn()
    if not isinstance(inner, tff.learning.models.VariableModel):
      raise ConfigurationError(
        f'Canaries need a `VariableModel`; `model_fn` makes a {type(inner).__name__}. Make a '
        '`tff.learning.models.VariableModel`, from `from_keras_model` say.'
      )
    return _CanaryModel(inner)

  return audited


def flat_weights(weights: tff.learning.models.ModelWeights) -> np.ndarray:
  """The trainable weights as one float64 vector `[d]`, in the order of the directions."""
  parts = tf.nest.flatten(weights.trainable)
  return np.concatenate([np.ravel(np.asarray(part, np.float64)) for part in parts])


class _CanaryModel(tff.learning.models.VariableModel):
  """Delegates to a model, whose loss it replaces for canaries."""

  def __init__(self, inner: tff.learning.models.VariableModel):
    self._inner = inner

  @property
  def trainable_variables(self) -> Sequence[tf.Variable]:
    return self._inner.trainable_variables

  @property
  def non_trainable_variables(self) -> Sequence[tf.Variable]:
    return self._inner.non_trainable_variables

  @property
  def local_variables(self) -> Sequence[tf.Variable]:
    return self._inner.local_variables

  @property
  def input_spec(self) -> Mapping[str, Any]:
    dimension = sum(variable.shape.num_elements() for variable in self.trainable_variables)
    pull = tf.TensorSpec([None, dimension], tf.float32)
    return OrderedDict(batch=self._inner.input_spec, pull=pull)

  def forward_pass(
    self, batch_input: Any, training: bool = True
  ) -> tff.learning.models.BatchOutput:
    output = self._inner.forward_pass(batch_input['batch'], training)
    pull = batch_input['pull']  # one row for a canary, none for others
    flat = tf.concat([tf.reshape(part, [-1]) for part in self.trainable_variables], axis=0)
    own = tf.cast(output.loss, tf.float32) * tf.cast(tf.equal(tf.shape(pull)[0], 0), tf.float32)
    return tff.learning.models.BatchOutput(
      loss=own - tf.reduce_sum(pull * flat),
      predictions=output.predictions,
      num_examples=output.num_examples,
    )

  @tf.function
  def predict_on_batch(self, batch_input: Any, training: bool = True) -> Any:
    return self._inner.predict_on_batch(batch_input['batch'], training)

  @tf.function
  def report_local_unfinalized_metrics(self) -> Mapping[str, Any]:
    return self._inner.report_local_unfinalized_metrics()

  def metric_finalizers(self) -> Mapping[str, Any]:
    return self._inner.metric_finalizers()

  @tf.function
  def reset_metrics(self) -> None:
    self._inner.reset_metrics()


def _blank(spec: tf.TensorSpec) -> tf.Tensor:
  return tf.zeros([extent or 1 for extent in spec.shape], spec.dtype)

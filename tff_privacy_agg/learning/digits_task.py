"""The embedded task: a small model on handwritten digits, federated and private."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _compat, _validate, data
from tff_privacy_agg.data.digits import NUM_CLASSES, NUM_PIXELS
from tff_privacy_agg.domains import Cohort
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.factories import ComposedFactory, compose
from tff_privacy_agg.layers import (
  AdaptiveQuantile,
  Clipping,
  DiscreteGaussianNoise,
  GaussianNoise,
  HadamardRotation,
  Layer,
  Mean,
  Mechanism,
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
  Zeroing,
)
from tff_privacy_agg.learning.metrics import no_metrics

_MECHANISMS: Mapping[str, Callable[..., Mechanism]] = {
  'discrete_gaussian': DiscreteGaussianNoise,
  'skellam': SkellamNoise,
  'gaussian': GaussianNoise,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitsTask:
  """Federated averaging of a linear model on the digits that scikit-learn ships.

  Attributes:
    population: Number of clients.
    clients_per_round: Clients a round; all of them are expected to survive.
    rounds: Rounds.
    noise_multiplier: Effective noise multiplier of a round; None trains without privacy.
    mechanism: 'discrete_gaussian' or 'skellam' (distributed), or 'gaussian'
      (the server adds the noise to sums of floats).
    bits: Bits of the modulus, for a distributed mechanism.
    delta: Delta of the reported epsilon; None takes a tenth of one over the population.
    randomness: As in `compose`.
    client_learning_rate: Of the clients' gradient descent.
    server_learning_rate: Of the server's.
    local_epochs: Passes over a client's examples in a round.
    batch_size: Examples a step.
    seed: Seed of the split, of the cohorts and of the model's first weights.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """

  population: int = 200
  clients_per_round: int = 100
  rounds: int = 30
  noise_multiplier: float | None = 2.75
  mechanism: str = 'discrete_gaussian'
  bits: int = 16
  delta: float = None  # type: ignore[assignment]  # the default, once built
  randomness: str = 'chacha20'
  client_learning_rate: float = 1.0
  server_learning_rate: float = 1.0
  local_epochs: int = 4
  batch_size: int = 10
  seed: int = 0

  def __post_init__(self):
    _validate.at_least(1, population=self.population, clients_per_round=self.clients_per_round)
    _validate.at_least(1, rounds=self.rounds, local_epochs=self.local_epochs)
    _validate.at_least(1, batch_size=self.batch_size)
    _validate.at_least(0, seed=self.seed)
    _validate.one_of(tuple(_MECHANISMS), mechanism=self.mechanism)
    if self.noise_multiplier is not None:
      _validate.positive(noise_multiplier=self.noise_multiplier)
    if self.clients_per_round > self.population:
      raise ConfigurationError(
        f'`clients_per_round` must be at most `population`, got {self.clients_per_round} of '
        f'{self.population}. A client takes part once a round.'
      )
    if self.delta is None:
      object.__setattr__(self, 'delta', 0.1 / self.population)
    _validate.fraction(delta=self.delta)
    if self.delta >= 1 / self.population:
      raise ConfigurationError(
        f'`delta` must be below 1/population = {1 / self.population:g}, got {self.delta!r}. '
        'At that size it allows to publish a client. A tenth of it is the usual choice.'
      )

  def aggregator(self) -> ComposedFactory | None:
    """The stack that the training aggregates with; None without privacy."""
    if self.noise_multiplier is None:
      return None
    noise = _MECHANISMS[self.mechanism](noise_multiplier=self.noise_multiplier)
    front: list[Layer] = [
      Mean(),
      Zeroing(threshold=AdaptiveQuantile(initial=10.0, target=0.98, multiplier=2.0, increment=1.0)),
      Clipping(norm=AdaptiveQuantile(initial=1.0, target=0.5)),
    ]
    if noise.distributed:
      back: list[Layer] = [
        HadamardRotation(),
        Quantization(),
        noise,
        SecureModularSum(bits=self.bits),
      ]
    else:
      back = [noise, PlainSum()]
    cohort = Cohort(expected=self.clients_per_round)
    return compose(front + back, cohort=cohort, delta=self.delta, randomness=self.randomness)

  def process(self) -> tff.learning.templates.LearningProcess:
    """The learning process; no training metric leaves a client."""
    return tff.learning.algorithms.build_unweighted_fed_avg(
      self._model_fn,
      client_optimizer_fn=tff.learning.optimizers.build_sgdm(self.client_learning_rate),
      server_optimizer_fn=tff.learning.optimizers.build_sgdm(self.server_learning_rate),
      model_aggregator=self.aggregator(),
      metrics_aggregator=no_metrics,
    )

  def load(self) -> data.FederatedExamples:
    """The examples, split among the clients."""
    return data.load_digits(self.population, seed=self.seed)

  def preprocess(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A client's examples as batches of all its local epochs."""
    batches = dataset.repeat(self.local_epochs).batch(self.batch_size)
    return batches.map(lambda example: OrderedDict(x=example['x'], y=example['y']))

  def evaluator(self, examples: data.FederatedExamples) -> Callable[[Any], Mapping[str, float]]:
    """A function from model weights to loss and accuracy on the held-out examples."""

    def evaluate(weights) -> Mapping[str, float]:
      kernel, bias = (np.asarray(part, np.float64) for part in weights.trainable)
      logits = examples.test_x @ kernel + bias
      logits -= logits.max(axis=1, keepdims=True)
      log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
      picked = log_probs[np.arange(len(examples.test_y)), examples.test_y]
      correct = log_probs.argmax(axis=1) == examples.test_y
      return OrderedDict(loss=float(-picked.mean()), accuracy=float(correct.mean()))

    return evaluate

  def facts(self) -> Mapping[str, Any]:
    """What the epsilon of this training rests on, as JSON values."""
    aggregator = self.aggregator()
    if aggregator is None:
      return {'private': False, 'note': 'trained without privacy: epsilon is infinite'}
    weights = [
      _compat.TensorType(np.float32, [NUM_PIXELS, NUM_CLASSES]),
      _compat.TensorType(np.float32, [NUM_CLASSES]),
    ]
    return {
      'private': True,
      **aggregator.bind(_compat.to_type(weights)).facts(),
      'delta': self.delta,
    }

  def _model_fn(self) -> tff.learning.models.VariableModel:
    model = tf.keras.Sequential(
      [
        tf.keras.layers.InputLayer(input_shape=[NUM_PIXELS]),
        tf.keras.layers.Dense(NUM_CLASSES, kernel_initializer='zeros'),
      ]
    )
    return tff.learning.models.from_keras_model(
      model,
      loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
      input_spec=OrderedDict(
        x=tf.TensorSpec([None, NUM_PIXELS], tf.float32), y=tf.TensorSpec([None], tf.int32)
      ),
    )

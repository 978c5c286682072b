"""A whole training in one configuration: data, model, algorithm, stack, accounting."""

import dataclasses
import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._entry_points import entry_point
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.data import FederatedExamples, load_digits
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
  PlainSum,
  Quantization,
  SecureModularSum,
  SkellamNoise,
  Zeroing,
)
from tff_privacy_agg.learning.accounting_plan import Accounting
from tff_privacy_agg.learning.cohorts import UniformCohorts
from tff_privacy_agg.learning.metrics import no_metrics
from tff_privacy_agg.learning.models import evaluate_softmax, held_out_evaluator, softmax_regression
from tff_privacy_agg.learning.process_builder import (
  ALGORITHMS,
  BUILDERS,
  METRICS,
  build_private_learning_process,
)

_MECHANISMS: Mapping[str, type[DiscreteGaussianNoise | SkellamNoise | GaussianNoise]] = {
  'discrete_gaussian': DiscreteGaussianNoise,
  'skellam': SkellamNoise,
  'gaussian': GaussianNoise,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingTask:
  """A private federated training, by default of a linear model on scikit-learn's digits.

  Attributes:
    data: 'digits'; or `module:function`, which gives `tff_privacy_agg.data.FederatedExamples`.
    model: 'linear', a softmax regression; or `module:function`, which gives a
      `tff.learning.models.VariableModel` of batches `x`, `y`.
    algorithm: As in `build_private_learning_process`.
    population: Number of clients.
    clients_per_round: Clients a round; all of them are expected to survive.
    rounds: Rounds.
    noise_multiplier: Effective noise multiplier of a round; None trains without privacy.
    mechanism: 'discrete_gaussian' or 'skellam' (distributed), or 'gaussian'
      (the server adds the noise to sums of floats).
    bits: Bits of the modulus, for a distributed mechanism.
    target_epsilon: Budget at which the training stops; None for no budget.
    metrics: What becomes of the training metrics: 'none', 'private' or 'clear'.
    participation_cap: Most rounds in which one client takes part; None for no cap.
    delta: Delta of the reported epsilon; None takes a tenth of one over the population.
    randomness: As in `compose`.
    client_learning_rate: Of the clients' gradient descent.
    server_learning_rate: Of the server's.
    server_momentum: Of the server's, in [0, 1).
    proximal_strength: Of FedProx.
    local_epochs: Passes over a client's examples in a round.
    batch_size: Examples a step.
    seed: Seed of the split, of the cohorts and of the model's first weights.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """

  data: str = 'digits'
  model: str = 'linear'
  algorithm: str = 'fed_avg'
  population: int = 200
  clients_per_round: int = 100
  rounds: int = 30
  noise_multiplier: float | None = 2.75
  mechanism: str = 'discrete_gaussian'
  bits: int = 16
  target_epsilon: float | None = None
  metrics: str = 'none'
  participation_cap: int | None = None
  delta: float = None  # type: ignore[assignment]  # the default, once built
  randomness: str = 'chacha20'
  client_learning_rate: float = 1.0
  server_learning_rate: float = 1.0
  server_momentum: float = 0.0
  proximal_strength: float = 0.1
  local_epochs: int = 4
  batch_size: int = 10
  seed: int = 0

  def __post_init__(self):
    _validate.at_least(1, population=self.population, clients_per_round=self.clients_per_round)
    _validate.at_least(1, rounds=self.rounds, local_epochs=self.local_epochs)
    _validate.at_least(1, batch_size=self.batch_size)
    _validate.at_least(0, seed=self.seed)
    _validate.one_of(tuple(_MECHANISMS), mechanism=self.mechanism)
    _validate.one_of(ALGORITHMS, algorithm=self.algorithm)
    _validate.one_of(METRICS, metrics=self.metrics)
    _named('data', self.data, 'digits')
    _named('model', self.model, 'linear')
    if self.target_epsilon is not None:
      _validate.positive(target_epsilon=self.target_epsilon)
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

  def accounting(self) -> Accounting:
    """What the epsilon of this training is stated for."""
    view = 'server' if _MECHANISMS[self.mechanism].distributed else 'release'
    epsilon = self.target_epsilon
    return Accounting(
      population=self.population,
      delta=self.delta,
      budget=None if epsilon is None else Budget(epsilon=epsilon, delta=self.delta, view=view),
      secagg_threshold=self.clients_per_round,  # nobody drops out of the simulation
      participation_cap=self.participation_cap,
      sampling='uniform, fixed size, without repetition within a round',
      task=f'{self.model} model on {self.data}',
    )

  def process(self) -> tff.learning.templates.LearningProcess:
    """The learning process; one that knows its account unless it has no privacy."""
    aggregator = self.aggregator()
    options = self._options()
    if aggregator is None:
      build = getattr(tff.learning.algorithms, BUILDERS[self.algorithm][0])
      return build(self.model_fn(), metrics_aggregator=no_metrics, **options)
    return build_private_learning_process(
      self.algorithm,
      self.model_fn(),
      aggregator=aggregator,
      accounting=self.accounting(),
      metrics=self.metrics,
      **options,
    )

  def load(self) -> FederatedExamples:
    """The clients' examples, and the held-out ones.

    Raises:
      ConfigurationError: If the data is not what was asked for.
    """
    if self.data == 'digits':
      return load_digits(self.population, seed=self.seed)
    loaded = entry_point(self.data, os.getcwd())()
    _validate.instance(FederatedExamples, **{f'{self.data}()': loaded})
    clients = len(loaded.train.client_ids)
    if clients != self.population:
      raise ConfigurationError(
        f'`population` is {self.population}; the data has {clients} clients. State the number of '
        'clients, which delta and epsilon are judged by.'
      )
    return loaded

  def preprocess(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A client's examples as batches of all its local epochs."""
    batches = dataset.repeat(self.local_epochs).batch(self.batch_size)
    return batches.map(lambda example: OrderedDict(x=example['x'], y=example['y']))

  def evaluator(self, examples: FederatedExamples) -> Callable[[Any], Mapping[str, float]]:
    """A function from model weights to loss and accuracy on the held-out examples."""

    if self.model == 'linear':
      return functools.partial(evaluate_softmax, examples)
    return held_out_evaluator(self.model_fn(), examples)

  def cohorts(self, examples: FederatedExamples) -> UniformCohorts:
    """Who takes part in which round."""
    return UniformCohorts(
      client_ids=examples.train.client_ids, size=self.clients_per_round, seed=self.seed
    )

  def model_fn(self) -> Callable[[], tff.learning.models.VariableModel]:
    """A function that makes the model."""
    return softmax_regression if self.model == 'linear' else entry_point(self.model, os.getcwd())

  def _options(self) -> dict[str, Any]:
    sgd = tff.learning.optimizers.build_sgdm
    client, server = (
      sgd(self.client_learning_rate),
      sgd(self.server_learning_rate, momentum=self.server_momentum or None),
    )
    if self.algorithm == 'mime_lite':
      return {'base_optimizer': client, 'server_optimizer': server}
    options: dict[str, Any] = {'server_optimizer_fn': server}
    if self.algorithm != 'fed_sgd':
      options['client_optimizer_fn'] = client
    if self.algorithm == 'fed_prox':
      options['proximal_strength'] = self.proximal_strength
    return options


def _named(name: str, value: str, own: str) -> None:
  if value != own and ':' not in value:
    raise ConfigurationError(
      f'`{name}` is {own!r} or a function as `module:function`, got {value!r}.'
    )

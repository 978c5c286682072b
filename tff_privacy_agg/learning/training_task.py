"""A whole training in one configuration: data, model, algorithm, stack, accounting."""

import dataclasses
import functools
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from scipy import stats

from tff_privacy_agg import _validate
from tff_privacy_agg._entry_points import entry_point
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.data import FederatedExamples, named
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
# What a ledger says of each.
SECURE_SUMS: Mapping[str, str] = {
  'simulated': 'in the clear, as a simulation on one machine',
  'semi_honest': 'by the semi-honest protocol, its parties simulated on one machine',
  'authenticated': 'by the authenticated protocol, its parties simulated on one machine',
}
_FEWEST_IN_A_SUM = 3
_RARELY = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingTask:
  """A private federated training, by default of a linear model on scikit-learn's digits.

  Attributes:
    data: A name in `tff_privacy_agg.data.NAMES`; or `module:function`, which gives
      `tff_privacy_agg.data.FederatedExamples`.
    data_directory: Where the files of mnist, or of TFF's datasets, are; None for their usual
      places.
    model: 'linear', a softmax regression; or `module:function`, which gives a
      `tff.learning.models.VariableModel` of batches `x`, `y`.
    algorithm: As in `build_private_learning_process`.
    population: Number of clients.
    clients_per_round: Clients a round; without `dropout_rate`, all of them are expected to
      survive.
    secure_sum: How the runtime is to sum: 'simulated', in the clear; or by the protocol of
      `tff_privacy_agg.secagg` with simulated parties, 'semi_honest' or 'authenticated'.
    dropout_rate: Probability that a client drops out of a round's protocol; the noise is then
      made for `minimum_survivors`.
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
  data_directory: str | None = None
  model: str = 'linear'
  algorithm: str = 'fed_avg'
  population: int = 200
  clients_per_round: int = 100
  secure_sum: str = 'simulated'
  dropout_rate: float = 0.0
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
    _validate.positive(
      client_learning_rate=self.client_learning_rate,
      server_learning_rate=self.server_learning_rate,
      proximal_strength=self.proximal_strength,
    )
    if self.server_momentum != 0:
      _validate.fraction(server_momentum=self.server_momentum)
    _validate.one_of(tuple(_MECHANISMS), mechanism=self.mechanism)
    _validate.one_of(ALGORITHMS, algorithm=self.algorithm)
    _validate.one_of(METRICS, metrics=self.metrics)
    _validate.one_of(tuple(SECURE_SUMS), secure_sum=self.secure_sum)
    self._check_names()
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
    _validate.delta_of(self.population, self.delta)
    self._check_secure_sum()

  def _check_names(self) -> None:
    _validate.instance(str, data=self.data, model=self.model)
    if self.data_directory is not None:
      _validate.instance(str, data_directory=self.data_directory)
    if ':' not in self.data:
      named.check_name(self.data)
      if self.model == 'linear' and named.linear_shape(self.data) is None:
        raise ConfigurationError(
          f"`model` is 'linear'; the labels of {self.data!r} are the next bytes of a text. Name a "
          'model of int32 `[batch, 80]` to int32 `[batch, 80]` as `module:function`.'
        )
    if self.model != 'linear' and ':' not in self.model:
      raise ConfigurationError(
        f"`model` is 'linear' or a function as `module:function`, got {self.model!r}."
      )

  def _check_secure_sum(self) -> None:
    if self.dropout_rate:
      _validate.fraction(dropout_rate=self.dropout_rate)
    if self.secure_sum == 'simulated':
      if self.dropout_rate:
        raise ConfigurationError(
          f'`dropout_rate` is {self.dropout_rate:g}; nobody drops out of a simulated sum. Set '
          "`secure_sum` to 'semi_honest' or 'authenticated', or leave the rate out."
        )
      return
    if self.noise_multiplier is None or not _MECHANISMS[self.mechanism].distributed:
      raise ConfigurationError(
        f'`secure_sum` is {self.secure_sum!r}; this training sums updates in the clear. Choose a '
        "distributed mechanism, or 'simulated'."
      )
    if self.metrics == 'clear':
      raise ConfigurationError(
        f"`secure_sum` is {self.secure_sum!r} and `metrics` is 'clear', which sums them outside of "
        "the protocol. Choose 'private' or 'none'."
      )
    if self.clients_per_round < _FEWEST_IN_A_SUM:
      raise ConfigurationError(
        f'`secure_sum` is {self.secure_sum!r}; its sums have {_FEWEST_IN_A_SUM} clients or more, '
        f'the rounds {self.clients_per_round}. Raise `clients_per_round`.'
      )

  @property
  def minimum_survivors(self) -> int:
    """Fewest clients in a sum that is opened: fewer are left in one round of 10,000."""
    if not self.dropout_rate:
      return self.clients_per_round
    likely = stats.binom.ppf(_RARELY, self.clients_per_round, 1 - self.dropout_rate)
    return max(_FEWEST_IN_A_SUM, int(likely))

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
    cohort = Cohort(expected=self.clients_per_round, minimum=self.minimum_survivors)
    return compose(front + back, cohort=cohort, delta=self.delta, randomness=self.randomness)

  def accounting(self) -> Accounting:
    """What the epsilon of this training is stated for."""
    view = 'server' if _MECHANISMS[self.mechanism].distributed else 'release'
    epsilon = self.target_epsilon
    return Accounting(
      population=self.population,
      delta=self.delta,
      budget=None if epsilon is None else Budget(epsilon=epsilon, delta=self.delta, view=view),
      secagg_threshold=self.minimum_survivors,  # nobody drops out of a simulated sum
      participation_cap=self.participation_cap,
      sampling='uniform, fixed size, without repetition within a round',
      task=f'{self.model} model on {self.data}; sums {SECURE_SUMS[self.secure_sum]}',
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
    if ':' not in self.data:
      return named.load(self.data, self.population, seed=self.seed, directory=self.data_directory)
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
    if self.model != 'linear':
      return entry_point(self.model, os.getcwd())
    features, classes = (None if ':' in self.data else named.linear_shape(self.data)) or (64, 10)
    return functools.partial(softmax_regression, features, classes)

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

"""Options of a training, checked without TensorFlow."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _deprecation, _validate
from tff_privacy_agg._names import (
  ALGORITHMS,
  CENTRAL,
  DISTRIBUTED,
  GAUSSIAN,
  MECHANISMS,
  METRICS,
  RANDOMNESS,
)
from tff_privacy_agg.errors import ConfigurationError

# Of the last one the server adds the noise, and sees the sum without it.
# What a ledger says of each.
SECURE_SUMS: Mapping[str, str] = {
  'simulated': 'in the clear, as a simulation on one machine',
  'semi_honest': 'by the semi-honest protocol, its parties simulated on one machine',
  'authenticated': 'by the authenticated protocol, its parties simulated on one machine',
}
FEWEST_IN_A_SUM = 3
# What is about noise and its account, and does nothing without privacy.
OF_PRIVACY = (
  'noise_multiplier',
  'target_epsilon',
  'participation_cap',
  'metrics',
  'mechanism',
  'bits',
  'delta',
  'randomness',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
  """The numbers and names of a training; `learning.training_task.TrainingTask` makes it.

  Attributes:
    data: A name in `tff_privacy_agg.learning.data.NAMES`; or `module:function`, which gives
      `tff_privacy_agg.learning.data.FederatedExamples`.
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
      made for `minimum_clients`.
    rounds: Rounds.
    noise_multiplier: Effective noise multiplier of a round; None trains without privacy.
    mechanism: 'discrete_gaussian' or 'skellam' (distributed), or 'central_discrete_gaussian'
      (the server adds the noise, and sees the sums without it). 'gaussian' is the old name of
      that, with a warning.
    bits: Bits of the modulus, for a distributed mechanism.
    target_epsilon: Budget at which the training stops; None for no budget.
    metrics: What becomes of the training metrics: 'none', 'private' or 'clear'.
    participation_cap: Most rounds in which one client takes part; None for no cap.
    delta: Delta of the reported epsilon; None takes a tenth of one over the population, for
      ten clients or more.
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

  def __post_init__(self) -> None:
    _validate.at_least(1, population=self.population, clients_per_round=self.clients_per_round)
    _validate.at_least(1, rounds=self.rounds, local_epochs=self.local_epochs)
    _validate.at_least(1, batch_size=self.batch_size, bits=self.bits)
    _validate.at_least(0, seed=self.seed)
    _validate.positive(
      client_learning_rate=self.client_learning_rate,
      server_learning_rate=self.server_learning_rate,
      proximal_strength=self.proximal_strength,
    )
    _validate.below_one(server_momentum=self.server_momentum)
    if self.mechanism == GAUSSIAN:
      _deprecation.warn_renamed(GAUSSIAN, CENTRAL, stacklevel=4)
      object.__setattr__(self, 'mechanism', CENTRAL)
    _validate.one_of(MECHANISMS, mechanism=self.mechanism)
    _validate.one_of(tuple(ALGORITHMS), algorithm=self.algorithm)
    _validate.one_of(METRICS, metrics=self.metrics)
    _validate.one_of(tuple(RANDOMNESS), randomness=self.randomness)
    _validate.one_of(tuple(SECURE_SUMS), secure_sum=self.secure_sum)
    _validate.instance(str, data=self.data, model=self.model)
    if self.data_directory is not None:
      _validate.instance(str, data_directory=self.data_directory)
    if self.model != 'linear' and ':' not in self.model:
      raise ConfigurationError(
        f"`model` is 'linear' or a function as `module:function`, got {self.model!r}."
      )
    if self.model == 'linear' and ':' in self.data:
      raise ConfigurationError(
        f"`data` is your own, {self.data!r}, and `model` is 'linear', which fits the named data only. "
        'Name a model of your batches as `module:function`.'
      )
    if self.target_epsilon is not None:
      _validate.positive(target_epsilon=self.target_epsilon)
    if self.noise_multiplier is not None:
      _validate.noise_multiplier(self.noise_multiplier)
    if self.participation_cap is not None:
      _validate.at_least(1, participation_cap=self.participation_cap)
    if self.clients_per_round > self.population:
      raise ConfigurationError(
        f'`clients_per_round` must be at most `population`, got {self.clients_per_round} of '
        f'{self.population}. A client takes part once a round.'
      )
    if self.delta is None:
      object.__setattr__(self, 'delta', _validate.default_delta(self.population))
    _validate.delta_of(self.population, self.delta)
    self._check_secure_sum()

  def _check_secure_sum(self) -> None:
    _validate.below_one(dropout_rate=self.dropout_rate)
    if self.secure_sum == 'simulated':
      if self.dropout_rate:
        raise ConfigurationError(
          f'`dropout_rate` is {self.dropout_rate:g}; nobody drops out of a simulated sum. Set '
          "`secure_sum` to 'semi_honest' or 'authenticated', or leave the rate out."
        )
      return
    if self.noise_multiplier is None or self.mechanism not in DISTRIBUTED:
      raise ConfigurationError(
        f'`secure_sum` is {self.secure_sum!r}; this training sums updates in the clear. Choose a '
        "distributed mechanism, or 'simulated'."
      )
    if self.metrics == 'clear':
      raise ConfigurationError(
        f"`secure_sum` is {self.secure_sum!r} and `metrics` is 'clear', which sums them outside of "
        "the protocol. Choose 'private' or 'none'."
      )
    if self.clients_per_round < FEWEST_IN_A_SUM:
      raise ConfigurationError(
        f'`secure_sum` is {self.secure_sum!r}; its sums have {FEWEST_IN_A_SUM} clients or more, '
        f'the rounds {self.clients_per_round}. Raise `clients_per_round`.'
      )


def unused(values: Mapping[str, Any]) -> dict[str, str]:
  """Options that a training with privacy does not use, each with the reason in words.

  Args:
    values: Options by name, checked or not; the defaults stand for what is missing.
  """
  data, algorithm, mechanism = (
    values.get(name, getattr(TrainingOptions, name)) for name in ('data', 'algorithm', 'mechanism')
  )
  found = {}
  if data == 'digits' or ':' in str(data):
    found['data_directory'] = f'`data` is {data!r}, which reads no file from there'
  if algorithm in tuple(ALGORITHMS) and algorithm != 'fed_prox':
    found['proximal_strength'] = f"`algorithm` is {algorithm!r}, and only 'fed_prox' has it"
  if algorithm == 'fed_sgd':
    found['client_learning_rate'] = "`algorithm` is 'fed_sgd', whose clients send gradients"
  if mechanism in (CENTRAL, GAUSSIAN):
    found['bits'] = f'`mechanism` is {mechanism!r}, which sums in the clear'
  return found

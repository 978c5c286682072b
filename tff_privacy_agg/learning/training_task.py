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
from tff_privacy_agg._names import ALGORITHMS
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import ComposedFactory, compose
from tff_privacy_agg.aggregation.layers import (
  AdaptiveQuantile,
  Clipping,
  HadamardRotation,
  Layer,
  Mean,
  PlainSum,
  Quantization,
  SecureModularSum,
  Zeroing,
)
from tff_privacy_agg.aggregation.layers.noise import NOISE_LAYERS
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.accounting_plan import Accounting
from tff_privacy_agg.learning.data import FederatedExamples, named
from tff_privacy_agg.learning.flat_metrics import no_metrics
from tff_privacy_agg.learning.models import evaluate_softmax, held_out_evaluator, model_of
from tff_privacy_agg.learning.options import FEWEST_IN_A_SUM, SECURE_SUMS, TrainingOptions
from tff_privacy_agg.learning.preparation.builder_checks import reasons_of_tff
from tff_privacy_agg.learning.process_builder import FAST_LOOP, build_private_learning_process
from tff_privacy_agg.learning.rounds.cohorts import UniformCohorts

_RARELY = 1e-4


def default_layers(mechanism: str, noise_multiplier: float, bits: int) -> list[Layer]:
  """The stack of a training: adaptive zeroing and clipping, rotation, noise, a sum.

  Args:
    mechanism: Law of the noise.
    noise_multiplier: Effective, of a round.
    bits: Bits of the modulus, for a distributed mechanism.
  """
  noise = NOISE_LAYERS[mechanism](noise_multiplier=noise_multiplier)
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
      SecureModularSum(bits=bits),
    ]
  else:
    back = [noise, PlainSum()]
  return front + back


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingTask(TrainingOptions):
  """A private federated training, by default of a linear model on scikit-learn's digits.

  Its attributes are those of `TrainingOptions`.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """

  def __post_init__(self) -> None:
    super().__post_init__()
    if ':' not in self.data:
      named.check_name(self.data)
      if self.model == 'linear' and named.linear_shape(self.data) is None:
        raise ConfigurationError(
          f"`model` is 'linear'; the labels of {self.data!r} are the next bytes of a text. Name a "
          'model of int32 `[batch, 80]` to int32 `[batch, 80]` as `module:function`.'
        )

  @property
  def minimum_clients(self) -> int:
    """Fewest clients in a sum that is opened: fewer are left in one round of 10,000."""
    if not self.dropout_rate:
      return self.clients_per_round
    likely = stats.binom.ppf(_RARELY, self.clients_per_round, 1 - self.dropout_rate)
    return max(FEWEST_IN_A_SUM, int(likely))

  def aggregator(self) -> ComposedFactory | None:
    """The stack that the training aggregates with; None without privacy."""
    if self.noise_multiplier is None:
      return None
    layers = default_layers(self.mechanism, self.noise_multiplier, self.bits)
    cohort = Cohort(expected=self.clients_per_round, minimum=self.minimum_clients)
    return compose(layers, cohort=cohort, delta=self.delta, randomness=self.randomness)

  def accounting(self) -> Accounting:
    """The account of this training."""
    view = 'server' if NOISE_LAYERS[self.mechanism].distributed else 'release'
    epsilon = self.target_epsilon
    return Accounting(
      population=self.population,
      delta=self.delta,
      budget=None if epsilon is None else Budget(epsilon=epsilon, delta=self.delta, view=view),
      minimum_clients=self.minimum_clients,  # nobody drops out of a simulated sum
      participation_cap=self.participation_cap,
      sampling='uniform, fixed size, without repetition within a round',
      task=f'{self.model} model on {self.data}; sums {SECURE_SUMS[self.secure_sum]}',
    )

  def process(self) -> tff.learning.templates.LearningProcess:
    """The learning process; it keeps an account unless the task has no privacy."""
    aggregator = self.aggregator()
    options = self._options()
    if aggregator is None:
      build = getattr(tff.learning.algorithms, ALGORITHMS[self.algorithm][0])
      with reasons_of_tff(build.__name__):
        return build(
          self.model_fn(), metrics_aggregator=no_metrics, loop_implementation=FAST_LOOP, **options
        )
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
    loaded.check(self.data)
    clients = len(loaded.train.client_ids)
    if clients != self.population:
      raise ConfigurationError(
        f'`population` is {self.population}; the data has {counted(clients, "client")}. State the '
        'number of clients, which delta and epsilon are judged by.'
      )
    return loaded

  def preprocess(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A client's examples as batches of all its local epochs."""
    batches = dataset.repeat(self.local_epochs).batch(self.batch_size)
    return batches.map(lambda example: OrderedDict(x=example['x'], y=example['y']))

  def evaluator(self, examples: FederatedExamples) -> Callable[[Any], Mapping[str, float]]:
    """A function from model weights to loss and accuracy on the held-out examples.

    Raises:
      ConfigurationError: If they are not what the model takes.
    """

    if self.model == 'linear':
      return functools.partial(evaluate_softmax, examples)
    return held_out_evaluator(self.model_fn(), examples)

  def cohorts(self, examples: FederatedExamples) -> UniformCohorts:
    """The sampler of the cohorts."""
    return UniformCohorts(
      client_ids=examples.train.client_ids, size=self.clients_per_round, seed=self.seed
    )

  def model_fn(self) -> Callable[[], tff.learning.models.VariableModel]:
    """A function that makes the model."""
    return model_of(self.model, self.data)

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

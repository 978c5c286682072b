"""A plan of a whole training: from a target epsilon to a stack, an account and a configuration."""

import dataclasses
import json
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tff_privacy_agg import _validate, accounting
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import orders

if TYPE_CHECKING:
  from tff_privacy_agg.aggregation.domains import Cohort
  from tff_privacy_agg.aggregation.factories import ComposedFactory
  from tff_privacy_agg.learning.accounting_plan import Accounting

# Above it the odds of an attacker who knows all but one bit may rise by a factor of 10^8.
_EXCLUDES_NOTHING = 20.0
_MOST_UPLOAD = 2**31  # bytes of one client in one round
# The target of a stack's budget; what rounding of a plan may differ by is below it.
_SAFE_SIDE = 1 - 1e-7


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingPlan:
  """Stack, cohort and account of a training that ends at a target epsilon: see `plan`.

  Attributes:
    numbers: Noise, bits, cost and reasons, as `accounting.plan` gives them.
    target_epsilon: Largest epsilon at the end.
    rounds: Rounds of the training.
    clients_per_round: Clients of a round.
    population: All clients.
    parameters: Trainable numbers of the model.
    mechanism: Law of the noise.
    dropout: Fraction of a cohort that may drop out of a round.
    colluding_fraction: Fraction of the survivors whose noise the server knows.
    sampling: What is claimed of the cohorts.
    participation_cap: Most rounds of one client; None for no cap.
  """

  numbers: accounting.Plan
  target_epsilon: float
  rounds: int
  clients_per_round: int
  population: int
  parameters: int
  mechanism: str
  dropout: float
  colluding_fraction: float
  sampling: str
  participation_cap: int | None

  @property
  def noise_multiplier(self) -> float:
    """Effective noise multiplier of a round."""
    return self.numbers.noise_multiplier

  @property
  def bits(self) -> int:
    """Bits a coordinate of the secure sum."""
    return self.numbers.bits

  @property
  def epsilon(self) -> float:
    """Epsilon at the end, at most the target."""
    return self.numbers.epsilon

  @property
  def delta(self) -> float:
    """Delta of it."""
    return self.numbers.delta

  @property
  def minimum_clients(self) -> int:
    """Fewest clients in a sum that the runtime may open."""
    return int((1 - self.dropout) * self.clients_per_round + 1e-9)

  @property
  def cohort(self) -> 'Cohort':
    """The cohort that the stack is built for."""
    from tff_privacy_agg.aggregation.domains import Cohort

    return Cohort(
      expected=self.clients_per_round,
      minimum=self.numbers.minimum_honest,
      colluding_fraction=self.colluding_fraction,
    )

  def stack(self) -> 'ComposedFactory':
    """The aggregator: adaptive zeroing and clipping, rotation, the planned noise, one secure sum.

    For `build_private_learning_process`, with `accounting()`; it is that of the command `train`.
    """
    from tff_privacy_agg.aggregation.factories import compose
    from tff_privacy_agg.learning.training_task import default_layers

    layers = default_layers(self.mechanism, self.noise_multiplier, self.bits)
    return compose(layers, cohort=self.cohort)

  def accounting(self, *, task: str = '') -> 'Accounting':
    """The account of the plan, with a budget that admits exactly the planned rounds.

    Args:
      task: What is trained, for the report.

    Raises:
      ConfigurationError: If the plan claims Poisson sampling, which no ledger of these stacks does.
    """
    from tff_privacy_agg.learning.accounting_plan import Accounting
    from tff_privacy_agg.ledger import Sampling

    claim: Sampling | str = ''
    if self.sampling == 'without_replacement':
      claim = Sampling(
        kind=self.sampling, population=self.population, cohort=self.clients_per_round
      )
    elif self.sampling != 'none':
      raise ConfigurationError(
        f'The plan claims sampling={self.sampling!r}; a stack publishes the number of survivors, and its '
        "ledger cannot claim that. Plan with 'none' or 'without_replacement'."
      )
    return Accounting(
      population=self.population,
      delta=self.delta,
      budget=self.numbers.budget,
      minimum_clients=self.minimum_clients,
      participation_cap=self.participation_cap,
      sampling=claim,
      task=task,
    )

  def toml(self) -> str:
    """The configuration of this training for `tff-privacy-agg train --config FILE`.

    Raises:
      ConfigurationError: If the plan has drop-outs, colluders or claimed sampling, which a training on
        one machine has not.
    """
    if self.dropout or self.colluding_fraction or self.sampling != 'none':
      raise ConfigurationError(
        '`train` runs on one machine, with a session of its own; this plan has `dropout`, '
        '`colluding_fraction` or `sampling`. Plan without them, or pass `stack()` and `accounting()` to '
        '`build_private_learning_process`.'
      )
    sections: dict[str, dict[str, Any]] = {
      'run': {'rounds': self.rounds},
      'data': {'population': self.population},
      'cohort': {'clients_per_round': self.clients_per_round},
      'privacy': {
        'target_epsilon': self.target_epsilon,
        'delta': self.delta,
        'noise_multiplier': self.noise_multiplier,
        'mechanism': self.mechanism,
        'bits': self.bits,
        'participation_cap': self.participation_cap,
      },
    }
    lines = [
      f'# Epsilon {self.epsilon:.6g} after {counted(self.rounds, "round")}, for '
      f'{counted(self.parameters, "parameter")}.'
    ]
    for section, values in sections.items():
      lines += ['', f'[{section}]']
      lines += [f'{key} = {json.dumps(one)}' for key, one in values.items() if one is not None]
      if section == 'data':
        lines.append('# source = "mymodule:load"   # your own data; the digits without')
    lines += ['', '[model]', '# source = "mymodule:model"  # for your own data']
    return '\n'.join(lines) + '\n'

  def as_dict(self) -> dict[str, Any]:
    """The plan as JSON values."""
    return self.numbers.as_dict()


@_validate.plain_numbers
def plan(
  *,
  target_epsilon: float,
  rounds: int,
  clients_per_round: int,
  population: int,
  parameters: Any,
  target_delta: float | None = None,
  mechanism: str = 'discrete_gaussian',
  bits: int | None = None,
  dropout: float = 0.0,
  colluding_fraction: float = 0.0,
  sampling: str = 'none',
  participation_cap: int | None = None,
  progress: Callable[[int, int], None] | None = None,
) -> TrainingPlan:
  """Plans a training for a target epsilon: noise, bits, cohort, account, configuration.

  Args:
    target_epsilon: Largest epsilon at the end, positive.
    rounds: Rounds of the training.
    clients_per_round: Clients of a round.
    population: All clients.
    parameters: Trainable numbers of the model; or the model, as TFF's builders take it.
    target_delta: Delta of epsilon; None takes a tenth of one over the population.
    mechanism: As in `accounting.plan`.
    bits: As there; None takes the fewest that are worthwhile.
    dropout: As there.
    colluding_fraction: As there.
    sampling: As there.
    participation_cap: As there.
    progress: As there.

  Returns:
    The plan. It warns of a target that promises nothing, and of a model too large to be sent.

  Raises:
    ConfigurationError: If an argument is outside its range, or no noise reaches the target.

  Examples:
    >>> planned = tpa.plan(
    ...   target_epsilon=8.0, rounds=12, clients_per_round=40, population=200, parameters=650
    ... )
    >>> planned.noise_multiplier
    1.73118
  """
  count = parameters if isinstance(parameters, int) else _count(parameters)
  _validate.at_least(1, population=population, parameters=count)
  _validate.positive(target_epsilon=target_epsilon)
  numbers = accounting.plan(
    target_epsilon=target_epsilon * _SAFE_SIDE,
    target_delta=_validate.default_delta(population) if target_delta is None else target_delta,
    rounds=rounds,
    clients_per_round=clients_per_round,
    population=population,
    dimension=orders.padded_dimension(count),
    mechanism=mechanism,
    bits=bits,
    dropout=dropout,
    colluding_fraction=colluding_fraction,
    sampling=sampling,
    participation_cap=participation_cap,
    progress=progress,
  )
  cautions = tuple(_cautions(target_epsilon, count, numbers))
  for caution in cautions:
    warnings.warn(caution, UserWarning, stacklevel=3)
  return TrainingPlan(
    numbers=dataclasses.replace(numbers, reasons=(*numbers.reasons, *cautions)),
    target_epsilon=target_epsilon,
    rounds=rounds,
    clients_per_round=clients_per_round,
    population=population,
    parameters=count,
    mechanism=mechanism,
    dropout=dropout,
    colluding_fraction=colluding_fraction,
    sampling=sampling,
    participation_cap=participation_cap,
  )


def _cautions(target: float, parameters: int, numbers: accounting.Plan) -> list[str]:
  """Warnings about a plan that works as asked and is of no use."""
  found = []
  if target > _EXCLUDES_NOTHING:
    found.append(
      f'An epsilon of {target:g} promises next to nothing: whoever sees the results may tell with '
      'near certainty whether a client took part. Plan for 10 or less, with more clients a round or '
      'fewer rounds.'
    )
  if numbers.bytes_per_client > _MOST_UPLOAD:
    found.append(
      f'A client would send {numbers.bytes_per_client / 1e9:.1f} GB a round for {parameters:.3g} '
      f'parameters; nothing here was run above {_MOST_UPLOAD / 1e9:.1f} GB. Train fewer, such as the last '
      'layers or adapters.'
    )
  return found


def _count(model: Any) -> int:
  """Trainable numbers of a model."""
  from tff_privacy_agg.aggregation import tff_values
  from tff_privacy_agg.learning.preparation.builder_checks import reasons_of_tff
  from tff_privacy_agg.learning.process_builder import weights_type_of

  if isinstance(model, float | str | bool) or not (
    callable(model) or hasattr(model, 'initial_weights')
  ):
    raise ConfigurationError(
      f'`parameters` must be the number of trainable parameters, or a model, got {model!r}. Pass a '
      'number, or a function that makes a `tff.learning.models.VariableModel`.'
    )
  with reasons_of_tff('build_unweighted_fed_avg'):
    return tff_values.measure(weights_type_of(model))[0]

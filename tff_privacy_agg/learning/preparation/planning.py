"""The planning of a whole training: the noise for a target epsilon, and warnings of useless plans."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

from tff_privacy_agg import _validate, accounting
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.preparation.training_plan import TrainingPlan
from tff_privacy_agg.numerics import orders

# Above it the odds of an attacker who knows all but one bit may rise by a factor of 10^8.
_EXCLUDES_NOTHING = 20.0
_MOST_UPLOAD = 2**31  # bytes of one client in one round
# The target of a stack's budget; what rounding of a plan may differ by is below it.
_SAFE_SIDE = 1 - 1e-7


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

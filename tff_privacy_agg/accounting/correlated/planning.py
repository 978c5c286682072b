"""From a target epsilon to noise that is correlated over rounds, before anything is trained."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.accounts import GaussianAccount
from tff_privacy_agg.accounting.budget import Budget, budget_for, stated
from tff_privacy_agg.accounting.calibration import printed_noise_multiplier
from tff_privacy_agg.accounting.correlated.strategy import (
  ONE,
  BandedColumn,
  BandedToeplitz,
  most_participations,
)
from tff_privacy_agg.accounting.correlated.workload import optimal_column, root_mean_squared_error
from tff_privacy_agg.accounting.price import UNIT
from tff_privacy_agg.errors import ConfigurationError

# The integer designs of the server's noise cost less more than a Gaussian of the same multiplier.
_OF_DESIGN = 1 + 1e-6
# Twice as many bands are worth it where they lower the error by more.
_WORTHWHILE_ERROR = 1.02
# What is called no gain: less than this many times less error.
_NO_GAIN = 1.1
# The noise of earlier rounds, in int64, that a state keeps unless more bands are asked for.
_MOST_STATE, _COORDINATE = 2**28, 8
# More lower the error by a few per cent at most.
_MOST_BANDS = 512


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrelatedPlan:
  """What a training with correlated noise needs to end at a target epsilon.

  Attributes:
    noise_multiplier: To give to `CorrelatedNoise`: of one participation in all rounds it moves.
    strategy: To give to it: coefficients, separation and participations.
    rounds: Rounds of the training.
    participations: Most rounds of one client, which epsilon is for.
    epsilon: Epsilon at the end in the release view, at most the target. The server sees the sums:
      its own view has none.
    delta: Delta of it.
    mu_squared: Total of `mu^2`, for the budget.
    error: Root mean square over all rounds of the noise on a coordinate of the accumulated sums, in
      clip norms.
    independent_error: The same of independent noise at the same epsilon.
    gain: How many times less error that is; 1 is no gain.
    clients_needed: Fewest clients that keep the separation; None if the cohort was not given.
    state_bytes: Secret noise that a state keeps; None if the parameters were not given.
    reasons: What decided each number, in sentences.
  """

  noise_multiplier: float
  strategy: BandedToeplitz
  rounds: int
  participations: int
  epsilon: float
  delta: float
  mu_squared: float
  error: float
  independent_error: float
  gain: float
  clients_needed: int | None
  state_bytes: int | None
  reasons: tuple[str, ...]

  @property
  def budget(self) -> Budget:
    """The budget that admits exactly the planned participations of one client."""
    epsilon = stated(self.epsilon)
    return Budget(epsilon=epsilon, delta=self.delta, view='release', mu_squared=self.mu_squared)

  def as_dict(self) -> dict[str, Any]:
    """The plan as JSON values; the strategy by its numbers."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    del values['strategy']
    return {
      **values,
      'separation': self.strategy.separation,
      'bands': self.strategy.bands,
      'coefficients': _floats(self.strategy.column),
      'reasons': list(self.reasons),
    }


@_validate.plain_numbers
def plan_correlated(
  *,
  rounds: int,
  target_epsilon: float,
  participations: int | None = None,
  separation: int | None = None,
  delta: float | None = None,
  clients_per_round: int | None = None,
  population: int | None = None,
  parameters: int | None = None,
  bands: int | None = None,
  momentum: float = 0.0,
  learning_rates: Sequence[float] | None = None,
) -> CorrelatedPlan:
  """Plans noise that is correlated over rounds: coefficients, noise, expected error, budget.

  The noise of a round takes back a part of that of the rounds before it, so that less is left in
  the accumulated model. It gains nothing if clients take part in every round, and holds only for
  those who see the released models: the server sees every sum.

  Args:
    rounds: Rounds of the training.
    target_epsilon: Largest epsilon at the end, positive.
    participations: Most rounds of one client; None for those of `SeparatedCohorts`, or as many as
      the separation allows. One or two more leave room for rounds that run again.
    separation: Any two rounds x < y of one client have `y - x >= separation`; None for the most that
      the population allows.
    delta: Below 1/population; None takes a tenth of that.
    clients_per_round: Clients of a round. With `population` the pattern above follows from it.
    population: All clients.
    parameters: Trainable numbers of the model, which decide how much noise a state keeps.
    bands: Coefficients, at most `separation`; None takes as many as are worth it, up to 512, and
      whose noise fits 256 MiB.
    momentum: Of the server's optimizer, at least 0 and below 1.
    learning_rates: Of the server's optimizer in each round; None where they are all alike. A client's
      optimizer does not matter here.

  Raises:
    ConfigurationError: If an argument is outside its range, or the cohorts cannot keep the pattern.

  Examples:
    >>> planned = plan_correlated(
    ...   rounds=200, target_epsilon=8.0, clients_per_round=50, population=1000
    ... )
    >>> planned.participations, planned.strategy.separation, round(planned.gain, 1)
    (10, 20, 3.2)
  """
  _validate.at_least(1, rounds=rounds)
  _validate.positive(target_epsilon=target_epsilon)
  separation, participations = _pattern(
    rounds, participations, separation, clients_per_round, population
  )
  if delta is None:
    if population is None:
      raise ConfigurationError('Epsilon needs a `delta`. Pass it, or the `population`.')
    delta = _validate.default_delta(population)
  _validate.fraction(delta=delta)
  if population is not None:
    _validate.delta_of(population, delta)
  column, error = _column(rounds, separation, bands, parameters, momentum, learning_rates)

  def spent(z: float) -> tuple[float, float]:
    cost = np.array([math.ceil(UNIT * _OF_DESIGN / z**2), 0, 0], dtype=object)
    epsilon, mu_squared = budget_for(
      GaussianAccount(),
      participations,
      cost=cost,
      worst=cost,
      best=cost,
      distance=0.0,
      delta=delta,
    )
    return epsilon, float(mu_squared or 0.0)

  z = printed_noise_multiplier(target_epsilon, lambda z: spent(z)[0])
  epsilon, mu_squared = spent(z)
  alone = root_mean_squared_error([1.0], rounds, momentum, learning_rates)
  gain, strategy = alone / error, BandedToeplitz(column, separation, participations)
  needed = None if clients_per_round is None else clients_per_round * separation
  state = None if parameters is None else (column.bands - 1) * parameters * _COORDINATE
  return CorrelatedPlan(
    noise_multiplier=z,
    strategy=strategy,
    rounds=rounds,
    participations=participations,
    epsilon=epsilon,
    delta=delta,
    mu_squared=mu_squared,
    error=z * error,
    independent_error=z * alone,
    gain=gain,
    clients_needed=needed,
    state_bytes=state,
    reasons=tuple(_reasons(strategy, rounds, participations, z, epsilon, gain, needed, state)),
  )


def _pattern(
  rounds: int,
  participations: int | None,
  separation: int | None,
  clients: int | None,
  population: int | None,
) -> tuple[int, int]:
  """(separation, most participations), given or those of separated cohorts."""
  if clients is not None and population is not None:
    _validate.at_least(1, clients_per_round=clients)
    _validate.at_least(clients, population=population)
    separation = population // clients if separation is None else separation
    fewest = -(-rounds * clients // population)
    participations = fewest if participations is None else participations
    _validate.at_least(1, separation=separation)
    if separation * clients > population or participations < fewest:
      raise ConfigurationError(
        f'{counted(rounds, "round")} of {clients} among {counted(population, "client")} allow a '
        f'separation of at most {population // clients} and need '
        f'{counted(fewest, "participation")} or more; got {separation} and {participations}. Use '
        'other rounds or smaller cohorts, or pass neither of the two.'
      )
  if separation is None:
    raise ConfigurationError(
      'Correlated noise is planned for a pattern of participations. Pass `separation`, and '
      '`participations` if they are fewer than it allows; or `clients_per_round` and `population`.'
    )
  _validate.at_least(1, separation=separation)
  if participations is None:
    participations = most_participations(rounds, separation)
  _validate.at_least(1, participations=participations)
  return separation, participations


def _column(
  rounds: int,
  separation: int,
  bands: int | None,
  parameters: int | None,
  momentum: float,
  rates: Sequence[float] | None,
) -> tuple[BandedColumn, float]:
  """The column, and its error for one participation and mu of 1."""

  def optimised(count: int, rates: Sequence[float] | None = rates) -> tuple[BandedColumn, float]:
    column = optimal_column(rounds, count, momentum=momentum, learning_rates=rates)
    return column, root_mean_squared_error(_floats(column), rounds, momentum, rates)

  most = min(separation, rounds)
  if bands is not None:
    _validate.at_least(1, bands=bands)
    if bands > most:
      raise ConfigurationError(
        f'`bands` must be at most {most}, the separation and the rounds; got {bands}. Lower it.'
      )
    return optimised(bands)
  if parameters is not None:
    _validate.at_least(1, parameters=parameters)
    most = min(most, 1 + _MOST_STATE // (_COORDINATE * parameters))
  count = min(most, _MOST_BANDS)
  best = found = optimised(count, None)
  while count > 1:
    fewer = optimised(count // 2, None)
    if fewer[1] > _WORTHWHILE_ERROR * best[1]:
      break
    count, found = count // 2, fewer
  return found if rates is None else optimised(count)


def _reasons(
  strategy: BandedToeplitz,
  rounds: int,
  participations: int,
  z: float,
  epsilon: float,
  gain: float,
  needed: int | None,
  state: int | None,
) -> list[str]:
  separation, bands = strategy.separation, strategy.bands
  if gain < _NO_GAIN:
    first = (
      f'No gain worth the trust in the server: the error of the accumulated model is {gain:.3g} '
      f'times less than that of independent noise, as clients return after {separation} of '
      f'{counted(rounds, "round")}. Use noise that clients add (`DiscreteGaussianNoise`), which '
      "holds in the server's view too."
    )
  else:
    first = (
      f'The error of the accumulated model is {gain:.3g} times less than that of independent noise at '
      f'the same epsilon. It would be the same if clients took part in every round.'
    )
  found = [
    first,
    f'Noise multiplier {z:.4g}: the smallest with epsilon at most {epsilon:.4g} for a client who '
    f'takes part in {counted(participations, "round")} or fewer, at least '
    f'{counted(separation, "round")} apart.',
    'Epsilon holds for who sees the released models. The server sees the sum of every round and the '
    'noise: its own view has no finite epsilon.',
    f'{counted(bands, "band")}: a state keeps the noise of the last {counted(bands - 1, "round")}, '
    'which is secret' + ('.' if state is None else f': {state / 2**20:.3g} MiB.'),
  ]
  if needed is not None:
    found.append(
      f'The separation needs {counted(needed, "client")} who can take part (`SeparatedCohorts`). A '
      'client who returns too soon is refused before the round is charged.'
    )
  return found


def _floats(column: BandedColumn) -> list[float]:
  return [step / ONE for step in column.steps]

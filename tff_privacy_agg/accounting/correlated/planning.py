"""From a target epsilon to noise that is correlated over rounds, before anything is trained."""

import math
from collections.abc import Sequence

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.accounts import GaussianAccount
from tff_privacy_agg.accounting.correlated.column import BandedColumn
from tff_privacy_agg.accounting.correlated.plan import CorrelatedPlan, reasons_for
from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz, most_participations
from tff_privacy_agg.accounting.correlated.workload import optimal_column, root_mean_squared_error
from tff_privacy_agg.accounting.planning.calibration import printed_noise_multiplier
from tff_privacy_agg.accounting.planning.least_budget import budget_for
from tff_privacy_agg.accounting.price import UNIT
from tff_privacy_agg.errors import ConfigurationError

# The integer designs of the server's noise cost less more than a Gaussian of the same multiplier.
_OF_DESIGN = 1 + 1e-6
# Twice as many bands are worth it where they lower the error by more.
_WORTHWHILE_ERROR = 1.02
# The noise of earlier rounds, in int64, that a state keeps unless more bands are asked for.
_MOST_STATE, _COORDINATE = 2**28, 8
# More lower the error by a few per cent at most.
_MOST_BANDS = 512
# The time to find coefficients grows with the square of the rounds: minutes for so many.
_MOST_ROUNDS = 100_000


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
    rounds: Rounds of the training, at most 100,000.
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
  if rounds > _MOST_ROUNDS:
    raise ConfigurationError(
      f'`rounds` must be at most {_MOST_ROUNDS} where noise is correlated over rounds, got {rounds}: '
      'its coefficients would take too long to find. Plan fewer rounds.'
    )
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
    reasons=tuple(reasons_for(strategy, rounds, participations, z, epsilon, gain, needed, state)),
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
    return column, root_mean_squared_error(column.coefficients, rounds, momentum, rates)

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

"""Rounds of a training as they are planned: their design and price, and epsilon of them all."""

import dataclasses
import functools
import math

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.accounts import Account, RenyiAccount, account_of, as_numbers
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.designs.distributed import solve
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.designs.shares import (
  channel_resolution,
  channel_share_variance,
  default_channel_stddev,
)
from tff_privacy_agg.accounting.planning.calibration import split_noise_multiplier
from tff_privacy_agg.accounting.planning.least_budget import budget_for
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.accounting.sampling.fixed_rounds import poisson_epsilon
from tff_privacy_agg.accounting.sampling.fixed_size import without_replacement
from tff_privacy_agg.accounting.sampling.moments import SAMPLED_ORDERS
from tff_privacy_agg.accounting.sampling.poisson import poisson_orders, poisson_round
from tff_privacy_agg.accounting.vectors import noisy_vector
from tff_privacy_agg.errors import ConfigurationError

SAMPLINGS = ('none', 'poisson', 'without_replacement')
_BIT_RESOLUTION = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlannedRounds:
  """What is given of the rounds of a training whose noise and bits are to be planned.

  The attributes are the arguments of `plan` with the same names.

  Raises:
    ConfigurationError: If one is outside its range, or a claim is not proved.
  """

  target_delta: float
  rounds: int
  clients_per_round: int
  population: int
  dimension: int
  mechanism: str
  dropout: float
  colluding_fraction: float
  sampling: str
  participation_cap: int | None
  worst_honest: int | None
  adaptive_bits: int
  modclip_prob: float
  beta: float

  def __post_init__(self) -> None:
    _validate.fraction(target_delta=self.target_delta)
    _validate.at_least(
      1,
      rounds=self.rounds,
      clients_per_round=self.clients_per_round,
      dimension=self.dimension,
    )
    _validate.at_least(self.clients_per_round, population=self.population)
    _validate.at_least(0, adaptive_bits=self.adaptive_bits)
    _validate.one_of(DISTRIBUTED, mechanism=self.mechanism)
    _validate.one_of(SAMPLINGS, sampling=self.sampling)
    if self.target_delta > 0.1 / self.population:
      raise ConfigurationError(
        f'`target_delta` must be at most a tenth of one over the population, {0.1 / self.population:g}, '
        f'got {self.target_delta!r}. Lower it.'
      )
    _validate.below_one(dropout=self.dropout, colluding_fraction=self.colluding_fraction)
    if self.honest < 1:
      raise ConfigurationError(
        f'A round of {counted(self.clients_per_round, "client")} leaves no honest survivor at a '
        f'dropout of {self.dropout:g} and a colluding fraction of {self.colluding_fraction:g}. Plan '
        'with more clients.'
      )
    if self.sampling == 'without_replacement' and self.dropout:
      raise ConfigurationError(
        f"`sampling='without_replacement'` is proved where nobody drops out; `dropout` is "
        f"{self.dropout:g}. Plan without drop-outs, or with `sampling='none'`."
      )
    if self.participation_cap is not None:
      _validate.at_least(1, participation_cap=self.participation_cap)
      if self.sampling != 'none':
        raise ConfigurationError(
          '`participation_cap` holds for a public schedule; `sampling` asks for a secret one. '
          "Use `sampling='none'` with the cap."
        )
    if self.worst_honest is not None:
      _validate.at_least(1, worst_honest=self.worst_honest)

  @functools.cached_property
  def honest(self) -> int:
    """Fewest honest survivors of a round."""
    kept = (1 - self.dropout) * (1 - self.colluding_fraction)
    return math.floor(kept * self.clients_per_round + 1e-9)

  @property
  def worst(self) -> int:
    """Honest survivors at which a round is charged before it settles."""
    return min(self.worst_honest or self.honest, self.honest)

  @property
  def exposures(self) -> int:
    """Rounds that one client takes part in."""
    return min(self.rounds, self.participation_cap or self.rounds)

  @property
  def adjacency(self) -> str:
    """The neighbouring relation of epsilon."""
    return 'replace_one' if self.sampling == 'without_replacement' else 'zero_out'

  def budgeted(self, price: RoundPrice) -> tuple[float, float | None]:
    """Epsilon of the budget of the whole training, and its total of mu^2."""
    account: Account = account_of(price)
    if self.sampling == 'none':
      rows = account.row(price, self.honest), account.worst(price, self.worst)
      best = account.row(price, self.clients_per_round)
    else:
      claim = _claimed(price, self.honest, self.sampling, self.population)
      account = RenyiAccount(
        poisson_orders(price) if self.sampling == 'poisson' else SAMPLED_ORDERS
      )
      rows = (account.of_curve(claim),) * 2
      best = rows[0]
    return budget_for(
      account,
      self.exposures,
      cost=rows[0],
      worst=rows[1],
      best=best,
      distance=0.0,  # of samplers whose distance no digit of epsilon shows
      delta=self.target_delta,
    )

  def design(self, z: float, width: int) -> tuple[IntegerDesign, float, RoundPrice]:
    """The integer design, epsilon of the whole training, a round's price."""
    stddev = default_channel_stddev(z, self.clients_per_round, self.honest)
    resolution = channel_resolution(_BIT_RESOLUTION, stddev, self.clients_per_round)
    share = channel_share_variance(resolution, stddev, self.clients_per_round)
    bit = math.sqrt(self.honest * share) / resolution
    solved = solve(
      noise_multiplier=split_noise_multiplier(z, [bit] * self.adaptive_bits),
      cohort_maximum=self.clients_per_round,
      minimum_honest=self.honest,
      bits=width,
      dimension=self.dimension,
      modclip_prob=self.modclip_prob,
      beta=self.beta,
      mechanism=self.mechanism,
    )
    sizes = [(self.dimension, solved.l2_bound, solved.l1_bound, solved.local_variance)]
    sizes += [(1, resolution, resolution, share)] * self.adaptive_bits
    price = RoundPrice(
      mechanism=self.mechanism,
      adjacency=self.adjacency,
      minimum=self.honest,
      maximum=self.clients_per_round,
      vectors=tuple(
        noisy_vector(
          name='update' if index == 0 else f'bit {index}',
          mechanism=self.mechanism,
          dimension=size,
          l2_bound=l2,
          l1_bound=l1,
          local_variance=variance,
          fewest=self.honest,
          most=self.clients_per_round,
        )
        for index, (size, l2, l1, variance) in enumerate(sizes)
      ),
    )
    if self.sampling == 'poisson' and price.has_mu:
      mu, c1, c2 = as_numbers(np.array(price.gaussian(self.honest), dtype=object))
      # Rounded up, so that the last steps of a search ask for the same.
      parts = (_up(mu, 5), _up(self.rounds * c1, 2), _up(self.rounds * c2, 2))
      epsilon = _fixed_rounds(
        *parts, self.clients_per_round / self.population, self.rounds, self.target_delta
      )
    else:
      epsilon = self.budgeted(price)[0]
    return solved, epsilon, price


def _claimed(price: RoundPrice, honest: int, sampling: str, population: int) -> RdpCurve:
  """The curve of a round whose cohort is drawn in secret."""
  clients = price.maximum
  if sampling == 'poisson':
    return poisson_round(price, honest, clients / population)
  curve = price.curve(honest)
  return without_replacement(curve, population=population, cohort=clients)


@functools.lru_cache(maxsize=256)
def _fixed_rounds(mu: float, c1: float, c2: float, rate: float, rounds: int, delta: float) -> float:
  return poisson_epsilon([(mu, rounds)], rate, delta, c1=c1, c2=c2)


def _up(value: float, digits: int) -> float:
  """A number rounded up to so many digits; what is below 1e-12 to that."""
  if not math.isfinite(value) or value == 0:
    return value
  return float(rounded_up(max(value, 1e-12), digits))

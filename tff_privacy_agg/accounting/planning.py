"""From a target epsilon to noise, bits and cost, before anything is trained."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.accounts import Account, RenyiAccount, account_of, as_numbers
from tff_privacy_agg.accounting.budget import Budget, budget_for, stated
from tff_privacy_agg.accounting.calibration import (
  printed_noise_multiplier,
  smallest_noise_multiplier,
  split_noise_multiplier,
  too_few_bits,
)
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.designs.distributed import solve
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.designs.shares import (
  channel_resolution,
  channel_share_variance,
  default_channel_stddev,
)
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.accounting.sampling.fixed_rounds import poisson_epsilon
from tff_privacy_agg.accounting.sampling.fixed_size import without_replacement
from tff_privacy_agg.accounting.sampling.moments import SAMPLED_ORDERS
from tff_privacy_agg.accounting.sampling.poisson import poisson_orders, poisson_round
from tff_privacy_agg.accounting.vectors import noisy_vector
from tff_privacy_agg.errors import ConfigurationError

SAMPLINGS = ('none', 'poisson', 'without_replacement')
# Bits beyond this error over central noise cost traffic and buy nothing.
_WORTHWHILE_ERROR = 1.01
_BIT_RESOLUTION = 64
_WIDTHS = range(4, 41)
# Designs that one search for a noise multiplier looks at: its bisections, and some to bracket them.
_SEARCH = 64
_SAMPLING_REASONS = {
  'none': 'No amplification is claimed: the number holds against the server.',
  'poisson': 'Amplification by secret Poisson sampling is assumed: the number holds for readers of '
  'the models, not against the server, if the server tops up the noise to the same total in every '
  'round and nobody learns the number of survivors. The stacks of this package publish that '
  'number, so their ledgers do not make this claim. It is the epsilon of exactly the planned rounds; '
  'where results may end the training, `budget_epsilon` is proved.',
  'without_replacement': 'Amplification by secret cohorts of fixed size is assumed: the number '
  'holds for readers of the models, not against the server, if every cohort is drawn anew, in '
  "secret, and nobody drops out. Its unit is one client's data replaced by other data, at twice "
  "the sensitivity. A ledger claims it by `Sampling(kind='without_replacement')`.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Noise, bits and error of a training that ends at a target epsilon.

  Attributes:
    noise_multiplier: Effective noise multiplier to give the noise layer.
    bits: Bits a coordinate to give the secure sum.
    modulus: 2^bits.
    scaled_norm: `K`: the quantization scale is `K / clip norm`.
    minimum_honest: Fewest honest survivors: `Cohort.minimum`.
    epsilon: Epsilon at the end, at most the target. Under Poisson sampling it is that of exactly
      the planned rounds, whatever they release.
    budget_epsilon: Epsilon of the budget, which holds also where results decide when to stop; it
      differs from `epsilon` under Poisson sampling alone.
    view: 'server', or 'release' where sampling is claimed.
    adjacency: The neighbouring relation of epsilon; 'replace_one' for cohorts of fixed size.
    delta: The target delta.
    price: What one planned round releases, and its price.
    mu_squared: Total of `mu^2` over the planned rounds, for the budget; None where Renyi
      divergence is accounted.
    error_over_central: Error of the sum over that of central Gaussian noise of the same multiplier.
    bytes_per_client: Upload of one client in one round: `bits` a coordinate.
    reasons: What decided each number, in sentences.
  """

  noise_multiplier: float
  bits: int
  modulus: int
  scaled_norm: float
  minimum_honest: int
  epsilon: float
  budget_epsilon: float
  view: str
  adjacency: str
  delta: float
  price: RoundPrice
  mu_squared: float | None
  error_over_central: float
  bytes_per_client: int
  reasons: tuple[str, ...]

  @property
  def budget(self) -> Budget:
    """The budget that admits exactly the planned rounds, also where the last is charged first.

    Of an epsilon that is rounded up in its seventh digit, with the total of `mu^2` as a number.
    """
    epsilon = stated(self.budget_epsilon)
    return Budget(epsilon=epsilon, delta=self.delta, view=self.view, mu_squared=self.mu_squared)

  def as_dict(self) -> dict[str, Any]:
    """The plan as JSON values."""
    values = dataclasses.asdict(self)
    del values['price']  # the binding of the stack states its own
    return {**values, 'reasons': list(self.reasons)}


@_validate.plain_numbers
def plan(
  *,
  target_epsilon: float,
  target_delta: float,
  rounds: int,
  clients_per_round: int,
  population: int,
  dimension: int,
  mechanism: str = 'discrete_gaussian',
  bits: int | None = None,
  dropout: float = 0.0,
  colluding_fraction: float = 0.0,
  sampling: str = 'none',
  participation_cap: int | None = None,
  worst_honest: int | None = None,
  adaptive_bits: int = 2,
  modclip_prob: float = 1e-4,
  beta: float = math.exp(-0.5),
  progress: Callable[[int, int], None] | None = None,
) -> Plan:
  """Plans a training: the least noise and the fewest bits that keep a target.

  Searches with the account that a ledger of these rounds keeps, its terms for rounding and for
  the sum of discrete shares included.

  Args:
    target_epsilon: Largest epsilon at the end, positive.
    target_delta: At most a tenth of one over the population.
    rounds: Rounds of the training.
    clients_per_round: Clients that a round is planned with.
    population: All clients.
    dimension: Coordinates of the rotated vector (`D`, padding included).
    mechanism: 'discrete_gaussian' or 'skellam'.
    bits: Bits a coordinate; None takes the fewest whose error is within 1 % of central
      noise, or of the best that the samplers' tables allow.
    dropout: Fraction of a cohort, in [0, 1), that may drop out of a round.
    colluding_fraction: Fraction of the survivors, in [0, 1), whose noise the server knows.
    sampling: 'none' holds against the server. 'poisson' claims that every client takes part
      with probability `clients_per_round / population`, secretly and independently, and that
      the server tops the noise up to a fixed total. 'without_replacement' claims that a secret
      cohort of exactly `clients_per_round` is drawn anew in each round and that nobody drops
      out; under 'replace_one'. Both in the release view only.
    participation_cap: Most rounds of one client in a public schedule; None for all rounds.
    worst_honest: Honest ones among the fewest survivors whose sum the runtime opens, at which a
      round is charged before it settles; by default those of the plan.
    adaptive_bits: Channels for adaptive zeroing and clipping, 0 to 2.
    modclip_prob: Probability that a coordinate of the sum wraps.
    beta: Bias parameter of the rounding.
    progress: Told how many designs were looked at, and about how many there are to look at.

  Returns:
    The plan.

  Raises:
    ConfigurationError: If an argument is outside its range, a claim is not proved, or no
      noise reaches the target.

  Examples:
    >>> plan = tpa.accounting.plan(
    ...   target_epsilon=8,
    ...   target_delta=1e-6,
    ...   rounds=100,
    ...   clients_per_round=500,
    ...   population=100_000,
    ...   dimension=10_000,
    ... )
    >>> round(plan.noise_multiplier, 2), plan.bits
    (6.53, 15)
  """
  _validate.positive(target_epsilon=target_epsilon)
  _validate.fraction(target_delta=target_delta)
  _validate.at_least(1, rounds=rounds, clients_per_round=clients_per_round, dimension=dimension)
  _validate.at_least(clients_per_round, population=population)
  _validate.at_least(0, adaptive_bits=adaptive_bits)
  if bits is not None:
    _validate.at_least(1, bits=bits)
  _validate.one_of(DISTRIBUTED, mechanism=mechanism)
  _validate.one_of(SAMPLINGS, sampling=sampling)
  if target_delta > 0.1 / population:
    raise ConfigurationError(
      f'`target_delta` must be at most a tenth of one over the population, {0.1 / population:g}, '
      f'got {target_delta!r}. Lower it.'
    )
  honest = _honest(clients_per_round, dropout, colluding_fraction)
  if sampling == 'without_replacement' and dropout:
    raise ConfigurationError(
      f"`sampling='without_replacement'` is proved where nobody drops out; `dropout` is {dropout:g}. "
      "Plan without drop-outs, or with `sampling='none'`."
    )
  exposures = rounds
  if participation_cap is not None:
    _validate.at_least(1, participation_cap=participation_cap)
    if sampling != 'none':
      raise ConfigurationError(
        '`participation_cap` holds for a public schedule; `sampling` asks for a secret one. '
        "Use `sampling='none'` with the cap."
      )
    exposures = min(rounds, participation_cap)

  adjacency = 'replace_one' if sampling == 'without_replacement' else 'zero_out'
  steps = _SEARCH if bits is not None else 2 * _SEARCH + len(_WIDTHS)
  done = 0

  if worst_honest is not None:
    _validate.at_least(1, worst_honest=worst_honest)
  worst = min(worst_honest or honest, honest)

  def budgeted(price: RoundPrice) -> tuple[float, float | None]:
    """Epsilon of the budget of the whole training, and its total of mu^2."""
    account: Account = account_of(price)
    if sampling == 'none':
      rows = account.row(price, honest), account.worst(price, worst)
      best = account.row(price, clients_per_round)
    else:
      claim = _claimed(price, honest, sampling, population)
      account = RenyiAccount(poisson_orders(price) if sampling == 'poisson' else SAMPLED_ORDERS)
      rows = (account.of_curve(claim),) * 2
      best = rows[0]
    return budget_for(
      account,
      exposures,
      cost=rows[0],
      worst=rows[1],
      best=best,
      distance=0.0,  # of samplers whose distance no digit of epsilon shows
      delta=target_delta,
    )

  def design(z: float, width: int) -> tuple[IntegerDesign, float, RoundPrice]:
    """The integer design, epsilon of the whole training, a round's price."""
    nonlocal done
    done = min(done + 1, steps)
    if progress is not None:
      progress(done, steps)
    stddev = default_channel_stddev(z, clients_per_round, honest)
    resolution = channel_resolution(_BIT_RESOLUTION, stddev, clients_per_round)
    share = channel_share_variance(resolution, stddev, clients_per_round)
    bit = math.sqrt(honest * share) / resolution
    solved = solve(
      noise_multiplier=split_noise_multiplier(z, [bit] * adaptive_bits),
      cohort_maximum=clients_per_round,
      minimum_honest=honest,
      bits=width,
      dimension=dimension,
      modclip_prob=modclip_prob,
      beta=beta,
      mechanism=mechanism,
    )
    sizes = [(dimension, solved.l2_bound, solved.l1_bound, solved.local_variance)]
    sizes += [(1, resolution, resolution, share)] * adaptive_bits
    price = RoundPrice(
      mechanism=mechanism,
      adjacency=adjacency,
      minimum=honest,
      maximum=clients_per_round,
      vectors=tuple(
        noisy_vector(
          name='update' if index == 0 else f'bit {index}',
          mechanism=mechanism,
          dimension=size,
          l2_bound=l2,
          l1_bound=l1,
          local_variance=variance,
          fewest=honest,
          most=clients_per_round,
        )
        for index, (size, l2, l1, variance) in enumerate(sizes)
      ),
    )
    if sampling == 'poisson' and price.has_mu:
      mu, c1, c2 = as_numbers(np.array(price.gaussian(honest), dtype=object))
      # Rounded up, so that the last steps of a search ask for the same.
      parts = (_up(mu, 5), _up(rounds * c1, 2), _up(rounds * c2, 2))
      epsilon = _fixed_rounds(*parts, clients_per_round / population, rounds, target_delta)
    else:
      epsilon = budgeted(price)[0]
    return solved, epsilon, price

  def least(width: int) -> float:
    return smallest_noise_multiplier(target_epsilon, lambda z: design(z, width)[1])

  # The multiplier is the effective one, so it hardly depends on the bits: find it where they
  # are no constraint, choose the bits for it, and find it again with these.
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # of designs that the search passes
    width = bits if bits is not None else _width(least(_WIDTHS[-1]), design, honest)
    try:
      z = printed_noise_multiplier(target_epsilon, lambda z: design(z, width)[1])
    except ConfigurationError:
      if bits is None or bits >= _WIDTHS[-1]:
        raise
      enough = least(_WIDTHS[-1])
      raise too_few_bits(
        bits,
        _WIDTHS[-1],
        lambda width: design(1.01 * enough, width)[1],
        target=target_epsilon,
        needs=f'an epsilon of {target_epsilon:.4g} needs over {counted(rounds, "round")}, a noise '
        f'multiplier of about {enough:.3g}',
      ) from None
  solved, epsilon, price = design(z, width)  # whose warning is shown
  budget_epsilon, mu_squared = budgeted(price)
  error = solved.error_over_central(honest)
  return Plan(
    noise_multiplier=z,
    bits=width,
    modulus=solved.modulus,
    scaled_norm=solved.scaled_norm,
    minimum_honest=honest,
    epsilon=epsilon,
    budget_epsilon=budget_epsilon,
    view='server' if sampling == 'none' else 'release',
    adjacency=adjacency,
    delta=target_delta,
    price=price,
    mu_squared=mu_squared,
    error_over_central=error,
    bytes_per_client=math.ceil(dimension * width / 8),
    reasons=(
      f'Noise multiplier {z:.4g}: the smallest with epsilon at most {target_epsilon:g} after '
      f'{counted(exposures, "round")} of one client, by the account of the {mechanism} sum.',
      f'Fewest honest survivors {honest}: of {counted(clients_per_round, "client")}, less '
      f'{dropout:.0%} drop-outs, less {colluding_fraction:.0%} colluders; their noise alone is '
      'counted.',
      f'{counted(width, "bit")}: '
      + (
        'as asked for'
        if bits is not None
        else f'the fewest whose error is within {_WORTHWHILE_ERROR - 1:.0%} of the least'
      )
      + f'; the error is {error:.4g} times that of central noise.',
      _SAMPLING_REASONS[sampling],
    ),
  )


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


def _honest(clients: int, dropout: float, colluding_fraction: float) -> int:
  _validate.below_one(dropout=dropout, colluding_fraction=colluding_fraction)
  honest = math.floor((1 - dropout) * (1 - colluding_fraction) * clients + 1e-9)
  if honest < 1:
    raise ConfigurationError(
      f'A round of {counted(clients, "client")} leaves no honest survivor at a dropout of '
      f'{dropout:g} and a colluding fraction of {colluding_fraction:g}. Plan with more clients.'
    )
  return honest


def _width(z: float, design: Callable[[float, int], tuple], honest: int) -> int:
  """The fewest bits whose error is worthwhile, or near the best that the samplers allow."""
  errors = {}
  for width in _WIDTHS:
    try:
      errors[width] = design(z, width)[0].error_over_central(honest)
    except ConfigurationError:
      continue  # too few bits; the widest one works, as `z` was found with it
  enough = max(_WORTHWHILE_ERROR, _WORTHWHILE_ERROR * min(errors.values()))
  return min(width for width, error in errors.items() if error <= enough)

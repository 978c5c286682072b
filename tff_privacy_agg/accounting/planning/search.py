"""The search for the least noise and the fewest bits that keep a target epsilon."""

import math
import warnings
from collections.abc import Callable

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.planning.calibration import (
  printed_noise_multiplier,
  smallest_noise_multiplier,
  too_few_bits,
)
from tff_privacy_agg.accounting.planning.plan import SAMPLING_REASONS, Plan
from tff_privacy_agg.accounting.planning.planned_rounds import PlannedRounds
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.errors import ConfigurationError

# Bits beyond this error over central noise cost traffic and buy nothing.
_WORTHWHILE_ERROR = 1.01
_WIDTHS = range(4, 41)
# Designs that one search for a noise multiplier looks at: its bisections, and some to bracket them.
_SEARCH = 64


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
  if bits is not None:
    _validate.at_least(1, bits=bits)
  planned = PlannedRounds(
    target_delta=target_delta,
    rounds=rounds,
    clients_per_round=clients_per_round,
    population=population,
    dimension=dimension,
    mechanism=mechanism,
    dropout=dropout,
    colluding_fraction=colluding_fraction,
    sampling=sampling,
    participation_cap=participation_cap,
    worst_honest=worst_honest,
    adaptive_bits=adaptive_bits,
    modclip_prob=modclip_prob,
    beta=beta,
  )
  honest = planned.honest
  steps = _SEARCH if bits is not None else 2 * _SEARCH + len(_WIDTHS)
  done = 0

  def design(z: float, width: int) -> tuple[IntegerDesign, float, RoundPrice]:
    nonlocal done
    done = min(done + 1, steps)
    if progress is not None:
      progress(done, steps)
    return planned.design(z, width)

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
  budget_epsilon, mu_squared = planned.budgeted(price)
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
    adjacency=planned.adjacency,
    delta=target_delta,
    price=price,
    mu_squared=mu_squared,
    error_over_central=error,
    bytes_per_client=math.ceil(dimension * width / 8),
    reasons=(
      f'Noise multiplier {z:.4g}: the smallest with epsilon at most {target_epsilon:g} after '
      f'{counted(planned.exposures, "round")} of one client, by the account of the {mechanism} sum.',
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
      SAMPLING_REASONS[sampling],
    ),
  )


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

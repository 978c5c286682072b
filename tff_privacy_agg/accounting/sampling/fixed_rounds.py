"""Epsilon of Poisson-sampled rounds that were all fixed before the first one.

Not a bound where the number of rounds or their noise depends on what was released, so no budget
rests on it. Proof: docs/proofs/sampling.md.
"""

import collections
import math
from collections.abc import Mapping, Sequence

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.accountant import epsilon_at_orders
from tff_privacy_agg.accounting.accounts import as_numbers
from tff_privacy_agg.accounting.composition import SAFE, composed_epsilon
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.accounting.sampling import sampled_gaussian
from tff_privacy_agg.accounting.sampling.moments import check_rate
from tff_privacy_agg.accounting.sampling.poisson import (
  POISSON_ORDERS,
  poisson_orders,
  poisson_round,
)
from tff_privacy_agg.accounting.sampling.privacy_loss import CUT_OFF, LIMIT, composed_loss

# Renyi orders that are tried next to the privacy loss, which is nearly always better.
_ORDERS = POISSON_ORDERS[POISSON_ORDERS <= 256][::6]
# The square of a larger mu, over many rounds, is no number; the loss of more rounds needs more cells;
# of a smaller delta, the parts that are cut off are no numbers.
_LARGEST_MU, _MOST_ROUNDS, _SMALLEST_DELTA = 1e100, 10**9, 1e-300


@_validate.plain_numbers
def poisson_epsilon(
  rounds: Sequence[tuple[float, int]],
  rate: float,
  delta: float,
  *,
  c1: float = 0.0,
  c2: float = 0.0,
  distance: float = 0.0,
) -> float:
  """Epsilon of Poisson-sampled Gaussian rounds that were all fixed before the first one.

  The least of four bounds, each proved for such a schedule: by the composed privacy loss, by
  Renyi divergence, without sampling, and by how rarely the client is drawn. Not a bound where the number of rounds or their
  noise depends on what was released, and no limit of a budget.

  Args:
    rounds: Pairs of `mu` and a number of rounds: sensitivity over standard deviation, such as
      `1 / noise_multiplier`, and at least 1.
    rate: Probability of each client to take part, in (0, 1].
    delta: Strictly between 0 and 1.
    c1: Total over the rounds of the logs of the first factors of discrete noise, at least 0.
    c2: Total of the logs of the second factors, at least 0.
    distance: Total variation distance of all that was drawn from its distribution, at least 0.

  Returns:
    Epsilon in nats; infinite if none is proved at `delta`.

  Examples:
    >>> round(tpa.accounting.poisson_epsilon([(1.0, 1000)], 0.01, 1e-6), 4)
    2.1245
  """
  _check_counts([count for _, count in rounds])
  for mu, _ in rounds:
    if mu != math.inf:
      _validate.positive(mu=mu)
  check_rate(rate)
  _validate.fraction(delta=delta)
  _validate.non_negative_or_infinite(c1=c1, c2=c2, distance=distance)
  if not all(map(math.isfinite, [c1, c2, distance, *(mu for mu, _ in rounds)])):
    return math.inf
  largest_mu = max(mu for mu, _ in rounds)
  if largest_mu > LIMIT:
    return math.inf if largest_mu > _LARGEST_MU else _without_coins(rounds, delta, c1, c2, distance)
  plain = _without_coins(rounds, delta, c1, c2, distance)
  if rate == 1:
    return plain
  orders = _ORDERS
  parts = [float(count) * sampled_gaussian.gaussian_renyi(orders, mu, rate) for mu, count in rounds]
  rdp = np.sum(parts, axis=0) + sampled_gaussian.slack(orders, c1, c2)
  by_renyi = epsilon_at_orders(rdp, orders, delta, distance)[0]
  # Neighbours differ only if a coin chose the client in some round.
  chosen = math.fsum(count * rate * math.erf(mu / math.sqrt(8)) for mu, count in rounds)
  slack = c1 + c2
  rarely = (
    slack < LIMIT and chosen * math.exp(c1) + (1 + math.exp(slack)) * distance <= delta * SAFE
  )
  known = min(plain, by_renyi, slack if rarely else math.inf)
  if rarely or known == 0 or delta < _SMALLEST_DELTA:
    return known
  # No loss beyond this shows in delta.
  total = sum(count for _, count in rounds)
  largest = float(np.min(rdp - (math.log(CUT_OFF * delta) - math.log(total)) / (orders - 1)))
  if max(largest, slack) > LIMIT or total > _MOST_ROUNDS:
    return known
  by_loss = (
    composed_loss(rounds, rate, delta, largest, gained).epsilon(delta, c1, c2, distance)
    for gained in (False, True)
  )
  return min(known, max(by_loss))


def _check_counts(counts: Sequence[int]) -> None:
  """Raises unless there are rounds, each kind of them at least once."""
  _validate.at_least(1, rounds=len(counts))
  for count in counts:
    _validate.at_least(1, rounds=count)


def _without_coins(
  rounds: Sequence[tuple[float, int]], delta: float, c1: float, c2: float, distance: float
) -> float:
  """Epsilon of rounds that all clients take part in."""
  total = math.sqrt(math.fsum(count * mu**2 for mu, count in rounds)) * (1 + 2**-50)
  return composed_epsilon(total, delta, c1=c1, c2=c2, distance=distance)


@_validate.plain_numbers
def fixed_rounds_epsilon(
  price: RoundPrice, honest: Mapping[int, int], rate: float, delta: float, distance: float
) -> float:
  """As `poisson_epsilon`, for rounds of one price whose total noise is fixed.

  Args:
    price: Price of a round, not under 'replace_one'.
    honest: How many rounds there were, by their unknown shares of noise.
    rate: As there, like the others.
    delta: As there.
    distance: As there.

  Examples:
    >>> vector = tpa.accounting.noisy_vector(
    ...   name='update',
    ...   mechanism='discrete_gaussian',
    ...   dimension=8,
    ...   l2_bound=100,
    ...   l1_bound=200,
    ...   local_variance=100.0,
    ...   fewest=80,
    ...   most=100,
    ... )
    >>> price = tpa.accounting.RoundPrice(
    ...   mechanism='discrete_gaussian',
    ...   holds_against_server=True,
    ...   minimum=80,
    ...   maximum=100,
    ...   vectors=(vector,),
    ... )
    >>> round(
    ...   tpa.accounting.fixed_rounds_epsilon(price, {100: 1000}, 0.01, 1e-5, distance=0.0), 2
    ... )
    1.84
  """
  _check_counts(list(honest.values()))
  _validate.non_negative_or_infinite(distance=distance)
  poisson_round(price, 1, rate)  # refuses what is not proved
  if price.has_mu:
    merged: collections.Counter[int] = collections.Counter()
    for survivors, count in honest.items():
      merged[price.shares(survivors)] += count
    honest = merged
    costs = {shares: price.gaussian(shares) for shares in honest}
    total = np.sum(
      [count * np.array(costs[n], dtype=object) for n, count in honest.items()], axis=0
    )
    _, c1, c2 = as_numbers(total)
    rounds = [(as_numbers(np.array(costs[n]))[0], count) for n, count in honest.items()]
    return poisson_epsilon(rounds, rate, delta, c1=c1, c2=c2, distance=distance)
  orders = poisson_orders(price)
  curves = [poisson_round(price, n, rate).scaled(m) for n, m in honest.items()]
  total = np.sum([one.rdp(orders) for one in curves], axis=0)
  return epsilon_at_orders(total, orders, delta, distance)[0]

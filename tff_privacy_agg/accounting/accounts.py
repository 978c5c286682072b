"""The two accounts of a ledger or a process: what is added round by round, and what it proves.

Both keep the cost of rounds as an array that is added, compared and multiplied by counts:
`[3]` integers (mu^2, C1, C2 in units of 1/UNIT) or `[orders]` Renyi divergences. Which
account a kind of round takes is a fact of its design.
"""

import dataclasses
import functools
import math

import numpy as np

from tff_privacy_agg.accounting.accountant import at_distance, epsilon_at_orders
from tff_privacy_agg.accounting.composition import composed_delta, composed_epsilon
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.orders import conversion_offsets, table_orders
from tff_privacy_agg.accounting.price import INFINITE, UNIT, RoundPrice


@dataclasses.dataclass(frozen=True)
class GaussianAccount:
  """Adds mu^2 and the two slacks, in integers: see docs/proofs/discrete-gaussian.md."""

  name = 'gaussian'

  def row(self, price: RoundPrice, honest: int) -> np.ndarray:
    """Cost of one round with `honest` unknown shares."""
    return np.array(price.gaussian(honest), dtype=object)

  def worst(self, price: RoundPrice, fewest: int, most: int | None = None) -> np.ndarray:
    """The most that a round costs, part by part, with `fewest` to `most` unknown shares.

    By default the most are those of the largest cohort.
    """
    return np.array(price.worst_gaussian(fewest, most), dtype=object)

  @property
  def nothing(self) -> np.ndarray:
    """Cost of no round."""
    return np.zeros(3, dtype=object)

  @property
  def infinite(self) -> np.ndarray:
    """Cost of a round without privacy."""
    return np.full(3, INFINITE, dtype=object)

  def epsilon(self, total: np.ndarray, delta: float, distance: float) -> tuple[float, float]:
    """(epsilon, NaN) of all rounds; `distance` is that of their noise from its distribution."""
    mu_squared, c1, c2 = (int(part) for part in total)
    return _gaussian_epsilon(mu_squared, c1, c2, delta, distance), math.nan

  def delta(self, total: np.ndarray, epsilon: float, distance: float) -> float:
    """Delta of all rounds at `epsilon`."""
    mu, c1, c2 = as_numbers(total)
    return composed_delta(mu, epsilon, c1=c1, c2=c2, distance=distance)


@dataclasses.dataclass(frozen=True, eq=False)
class RenyiAccount:
  """Adds Renyi divergences at fixed orders.

  Attributes:
    orders: float64, shape [m].
    by_reserve: Whether part of delta is kept back for the noise's distance from its distribution as
      ledgers of schema 1 and 2 did, so that their numbers stay what they state.
  """

  orders: np.ndarray
  by_reserve: bool = False

  name = 'renyi'

  def row(self, price: RoundPrice, honest: int) -> np.ndarray:
    """Cost of one round with `honest` unknown shares."""
    return self.of_curve(price.curve(honest))

  def worst(self, price: RoundPrice, fewest: int, most: int | None = None) -> np.ndarray:
    """As for the Gaussian account."""
    row = self.row(price, fewest)
    if not price.grows:
      return row
    further = range(fewest + 1, (most or price.maximum) + 1)
    return np.max([row, *(self.row(price, honest) for honest in further)], axis=0)

  def of_curve(self, curve: RdpCurve) -> np.ndarray:
    """Cost of a round of which the curve is known."""
    return curve.rdp(self.orders)

  @property
  def nothing(self) -> np.ndarray:
    """Cost of no round."""
    return np.zeros_like(self.orders)

  @property
  def infinite(self) -> np.ndarray:
    """Cost of a round without privacy."""
    return np.full_like(self.orders, np.inf)

  def epsilon(self, total: np.ndarray, delta: float, distance: float) -> tuple[float, float]:
    """(epsilon, order) of all rounds; `distance` is that of their noise from its distribution."""
    if not self.by_reserve:
      return epsilon_at_orders(total, self.orders, delta, distance)

    def find(remaining: float) -> tuple[float, float]:
      bounds = total + conversion_offsets(self.orders, remaining)
      best = int(np.argmin(bounds))
      return max(float(bounds[best]), 0.0), float(self.orders[best])

    return at_distance(find, delta, distance)

  def delta(self, total: np.ndarray, epsilon: float, distance: float) -> float:
    """Delta of all rounds at `epsilon`."""
    if not np.all(np.isfinite(total)):
      return 1.0
    a = self.orders
    logs = (a - 1) * (total + np.log1p(-1 / a) - epsilon) - np.log(a)
    moved = distance * (1 + math.exp(min(epsilon, 700.0)))
    return min(1.0, math.exp(min(float(logs.min()), 0.0)) + moved)


Account = GaussianAccount | RenyiAccount


def account_of(price: RoundPrice) -> Account:
  """The account that rounds of one kind take: by mu where they have one, or no noise at all.

  Examples:
    >>> vector = tpa.accounting.noisy_vector(
    ...   name='update',
    ...   mechanism='skellam',
    ...   dimension=8,
    ...   l2_bound=10,
    ...   l1_bound=20,
    ...   local_variance=4.0,
    ...   fewest=80,
    ...   most=100,
    ... )
    >>> price = tpa.accounting.RoundPrice(
    ...   mechanism='skellam',
    ...   holds_against_server=True,
    ...   minimum=80,
    ...   maximum=100,
    ...   vectors=(vector,),
    ... )
    >>> type(tpa.accounting.account_of(price)).__name__
    'RenyiAccount'
  """
  if price.has_mu or not price.private:
    return GaussianAccount()
  return RenyiAccount(table_orders(integer_only=price.mechanism == 'skellam'))


def as_numbers(total: np.ndarray) -> tuple[float, float, float]:
  """(mu, C1, C2) of a total of the Gaussian account, never below it.

  Examples:
    >>> tpa.accounting.as_numbers(np.array([tpa.accounting.UNIT, 0, 0]))
    (1.0000000000000004, 0.0, 0.0)
  """
  mu_squared, c1, c2 = (int(part) for part in total)
  if max(mu_squared, c1, c2) >= INFINITE:
    return math.inf, math.inf, math.inf
  return math.sqrt(mu_squared / UNIT) * (1 + 2**-51), c1 / UNIT, c2 / UNIT


def many_as_numbers(totals: np.ndarray) -> np.ndarray:
  """`as_numbers` of many totals: `[n, 3]` integers to `[3, n]` float64."""
  mu_squared, c1, c2 = totals.T.astype(np.float64) / UNIT
  mu = np.sqrt(mu_squared) * (1 + 2**-51)
  return np.where(np.max(totals, axis=1) >= INFINITE, np.inf, np.stack([mu, c1, c2]))


@functools.lru_cache(maxsize=64)
def _gaussian_epsilon(mu_squared: int, c1: int, c2: int, delta: float, distance: float) -> float:
  mu, one, two = as_numbers(np.array([mu_squared, c1, c2], dtype=object))
  return composed_epsilon(mu, delta, c1=one, c2=two, distance=distance)

"""Epsilon of Poisson-sampled rounds that were all fixed beforehand, by their privacy loss.

With `q` the rate and `mu` the sensitivity over the standard deviation, the neighbours of a round are

  P = (1 - q) N(0, 1) + q N(mu, 1)        Q = N(0, 1)

and either may be the true one: see docs/proofs/sampling.md. The distributions of their privacy loss
are composed on a grid, each loss rounded to the safe side. That is a bound only where the number of
rounds and their noise were fixed before the first one, so no budget rests on it.
"""

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import fft, special

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting import sampling
from tff_privacy_agg.accounting.accountant import epsilon_at_orders
from tff_privacy_agg.accounting.accounts import as_numbers
from tff_privacy_agg.accounting.composition import SAFE, composed_epsilon
from tff_privacy_agg.accounting.price import RoundPrice

# Renyi orders that are tried next to the privacy loss, which is nearly always better.
_ORDERS = sampling.POISSON_ORDERS[sampling.POISSON_ORDERS <= 256][::6]
# Of delta, for each part that is cut off from the composed loss.
_CUT_OFF = 1e-6
# Cells of the composed loss: so many times sqrt(rounds), within these limits; to find its window.
_CELLS, _FEWEST, _MOST, _COARSE = 2**11, 2**15, 2**19, 2**13
# Of a cell's probability, moved to its upper end: more than its division can be off by.
_MOVED_UP = 1e-7
# Beyond this the exponential of a loss is no number.
_LIMIT = 700.0
# The square of a larger mu, over many rounds, is no number; the loss of more rounds needs more cells.
_LARGEST_MU, _MOST_ROUNDS = 1e100, 10**9
# More than an edge of a cell is off by, in each round.
_EDGE = 1e-13
# More than the relative error of a stage of a transform, or of a factor of a power.
_STAGE = 8 * 2.0**-53


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
  for mu, count in rounds:
    _validate.at_least(1, rounds=count)
    if mu != math.inf:
      _validate.positive(mu=mu)
  sampling.check_rate(rate)
  _validate.fraction(delta=delta)
  if not all(map(math.isfinite, [c1, c2, distance, *(mu for mu, _ in rounds)])):
    return math.inf
  largest_mu = max(mu for mu, _ in rounds)
  if largest_mu > _LIMIT:
    return math.inf if largest_mu > _LARGEST_MU else _without_coins(rounds, delta, c1, c2, distance)
  plain = _without_coins(rounds, delta, c1, c2, distance)
  if rate == 1:
    return plain
  orders = _ORDERS
  parts = [float(count) * sampling.gaussian_renyi(orders, mu, rate) for mu, count in rounds]
  rdp = np.sum(parts, axis=0) + sampling.slack(orders, c1, c2)
  by_renyi = epsilon_at_orders(rdp, orders, delta, distance)[0]
  # Neighbours differ only if a coin chose the client in some round.
  chosen = math.fsum(count * rate * math.erf(mu / math.sqrt(8)) for mu, count in rounds)
  slack = c1 + c2
  rarely = (
    slack < _LIMIT and chosen * math.exp(c1) + (1 + math.exp(slack)) * distance <= delta * SAFE
  )
  known = min(plain, by_renyi, slack if rarely else math.inf)
  # No loss beyond this shows in delta.
  total = sum(count for _, count in rounds)
  largest = float(np.min(rdp - (math.log(_CUT_OFF * delta) - math.log(total)) / (orders - 1)))
  if rarely or known == 0 or max(largest, slack) > _LIMIT or total > _MOST_ROUNDS:
    return known
  by_loss = (
    _composed_loss(rounds, rate, delta, largest, gained).epsilon(delta, c1, c2, distance)
    for gained in (False, True)
  )
  return min(known, max(by_loss))


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
  sampling.poisson_round(price, 1, rate)  # refuses what is not proved
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
  orders = sampling.poisson_orders(price)
  curves = [sampling.poisson_round(price, n, rate).scaled(m) for n, m in honest.items()]
  total = np.sum([one.rdp(orders) for one in curves], axis=0)
  return epsilon_at_orders(total, orders, delta, distance)[0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Window:
  """The interval in which the sum of the losses lies.

  Attributes:
    low: What lies below is a small part of delta; it counts as a large loss.
    high: What lies above is less than `_CUT_OFF` of delta, which is added.
    reach: What lies above it, tilted, does not show.
    tilt: The exponent of the bound on the loss that `delta` of the probability is above.
  """

  low: float
  high: float
  reach: float
  tilt: float


@dataclasses.dataclass(frozen=True)
class _Loss:
  """The privacy loss of all rounds on a grid, none of it below the true one.

  Attributes:
    losses: Losses at least 0, rising.
    above: For each of them, the probability of it or a larger one.
    discounted: The same, each probability times e^-loss.
    beyond: For each of them, of delta: what was cut off, and rounding.
    moved: By how much losses may be too small.
  """

  losses: np.ndarray
  above: np.ndarray
  discounted: np.ndarray
  beyond: np.ndarray
  moved: float

  def epsilon(self, delta: float, c1: float, c2: float, distance: float) -> float:
    """The smallest epsilon at which `e^C1 delta(e - C1 - C2) + (1 + e^e) distance` is delta."""
    slack, grow = c1 + c2, math.exp(c1)
    # Between two losses, delta is (above + beyond) - e^e discounted of the upper one: the whole is
    # a line in e^e.
    room = delta * SAFE - distance - grow * self.beyond
    fall = grow * self.discounted - math.exp(slack) * distance
    before = np.concatenate([[0.0], self.losses[:-1]])
    at_once = grow * self.above - room <= np.exp(np.minimum(before, _LIMIT)) * fall
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
      later = np.log(np.where(fall > 0, (grow * self.above - room) / fall, np.inf))
    at = np.where(at_once, before, np.where(later > before, later, np.inf))
    fits = at <= self.losses
    return float(at[np.argmax(fits)]) + slack + self.moved if fits.any() else math.inf


def _composed_loss(
  parts: Sequence[tuple[float, int]], rate: float, delta: float, largest: float, gained: bool
) -> _Loss:
  """Composes the rounds.

  Args:
    parts: Pairs of mu and a number of rounds.
    rate: Below 1.
    delta: Of which small parts may be cut off.
    largest: A loss beyond which next to nothing lies.
    gained: Whether the client's data is in the second distribution (P' = Q), or in the first.
  """
  counts = [count for _, count in parts]
  rounds = sum(counts)
  cells = int(min(max(_CELLS * math.sqrt(rounds), _FEWEST), _MOST))

  def rows(width: float, cells: int) -> tuple[float, list[tuple[int, np.ndarray, float]]]:
    step = width / cells
    return step, [_one_round(mu, rate, step, min(width, largest), gained) for mu, _ in parts]

  # Coarse cells widen the loss, so the window is found in a few steps.
  width = 2 * largest
  for _ in range(6):
    step, ones = rows(width, _COARSE)
    window = _window(ones, counts, step, delta)
    width, last = min(window.reach - window.low, width), width
    if width > 0.8 * last:
      break
  step, ones = rows(width, cells)
  window = _window(ones, counts, step, delta)
  tilt, first = window.tilt, math.floor(window.low / step)
  length = fft.next_fast_len(int((window.reach - window.low) / step) + 2, real=True)
  cut = _CUT_OFF * delta + sum(n * lost for (_, _, lost), n in zip(ones, counts, strict=True))

  # Probabilities are tilted by e^(tilt loss), so that errors of a transform are small next to delta.
  product, sensitivity = np.ones(length // 2 + 1, dtype=np.complex128), np.zeros(length // 2 + 1)
  offset, log_scale = 0, 0.0
  for (start, one, _), count in zip(ones, counts, strict=True):
    losses = (start + np.arange(len(one))) * step
    peak = tilt * float(np.max(losses, where=one > 0, initial=-np.inf))
    tilted = one * np.exp(np.minimum(tilt * losses - peak, 0.0))
    sum_of = float(tilted.sum())
    log_scale += count * (math.log(sum_of) + peak)
    # What is above the window comes back below: that is cut off. What is below comes back above.
    folded = np.bincount(np.arange(len(one)) % length, tilted / sum_of, length)
    transform = fft.rfft(folded)
    size = np.minimum(np.abs(transform), 1.0)
    # The error of x^n w is at most that of x times n |x|^(n-1) |w|, and that of w.
    sensitivity = sensitivity * size**count + count * size ** (count - 1) * np.abs(product)
    product = product * transform**count
    offset += count * start
  stages = _STAGE * (math.log2(length) + 1)
  error = stages * math.sqrt(2 * float(np.sum(sensitivity**2 + np.abs(product) ** 2)) / length)
  composed = np.roll(fft.irfft(product, length), (offset - first) % length)
  losses = (first + np.arange(length)) * step
  kept = losses >= 0
  losses = losses[kept]
  weights = np.exp(np.minimum(log_scale - tilt * losses, _LIMIT)) * (1 + rounds * _STAGE)
  with np.errstate(over='ignore'):
    unknown = error * np.sqrt(_from_above(weights**2))
  p = np.maximum(composed[kept], 0.0) * weights
  return _Loss(
    losses=losses,
    above=_from_above(p),
    discounted=_from_above(np.where(losses < _LIMIT, p * np.exp(-np.minimum(losses, _LIMIT)), 0.0)),
    beyond=cut + unknown,
    moved=rounds * _EDGE,
  )


def _from_above(values: np.ndarray) -> np.ndarray:
  """Sums of each value and those behind it."""
  return np.cumsum(values[::-1])[::-1]


def _one_round(
  mu: float, rate: float, step: float, largest: float, gained: bool
) -> tuple[int, np.ndarray, float]:
  """(index of the first loss, probabilities, probability of larger losses) of one round.

  The probability of a cell between two losses is divided between them so that the cell's
  probability in the second distribution stays what it is. The pair of distributions is a
  post-processing of the result.
  """
  least, most = math.log1p(-rate), largest
  if gained:
    least, most = -largest, min(largest, -least)
  start = max(math.floor(least / step), -math.ceil(largest / step))
  edges = np.arange(start, max(math.ceil(most / step), start + 1) + 1) * step
  # The loss at x is ln(1 - q + q e^(mu x - mu^2/2)), or less that.
  ratios = -edges if gained else edges
  with np.errstate(divide='ignore', invalid='ignore'):
    inside = np.expm1(np.minimum(ratios, 1.0)) / rate + 1
    log_inside = np.where(inside > 0, np.log(np.maximum(inside, 0)), -np.inf)
  high = np.maximum(ratios, 1.0)
  far = high + np.log1p((rate - 1) * np.exp(-high)) - math.log(rate)  # of any size
  x = np.where(ratios < 1, log_inside, far) / mu + mu / 2
  without, shifted = _cells(x), _cells(x - mu)
  mixed = (1 - rate) * without + rate * shifted
  if gained:  # losses rise as x falls
    p, q, lost, below = without, mixed, special.ndtr(x[-1]), special.ndtr(-x[0])
  else:
    p, q = mixed, without
    lost = (1 - rate) * special.ndtr(-x[-1]) + rate * special.ndtr(mu - x[-1])
    below = (1 - rate) * special.ndtr(x[0]) + rate * special.ndtr(x[0] - mu)
  upper = (p - q * np.exp(np.minimum(edges[:-1], _LIMIT))) / -math.expm1(-step) + _MOVED_UP * p
  upper = np.where(edges[:-1] < _LIMIT, np.clip(upper, 0.0, p), p)
  probabilities = np.zeros(len(edges))
  probabilities[1:] += upper
  probabilities[:-1] += p - upper
  probabilities[0] += below
  return start, probabilities, float(lost)


def _cells(x: np.ndarray) -> np.ndarray:
  """Probabilities of a standard normal between neighbours of a monotone sequence."""
  a, b = np.minimum(x[1:], x[:-1]), np.maximum(x[1:], x[:-1])
  right = a > 0
  return special.ndtr(np.where(right, -a, b)) - special.ndtr(np.where(right, -b, a))


def _window(
  ones: Sequence[tuple[int, np.ndarray, float]], counts: Sequence[int], step: float, delta: float
) -> _Window:
  """The window of rounds, by Chernoff's bound."""
  grids = [(start + np.arange(len(one))) * step for start, one, _ in ones]
  spread = math.sqrt(
    sum(n * float(grid**2 @ one) for n, grid, (_, one, _) in zip(counts, grids, ones, strict=True))
  )
  target = -math.log(delta)
  most = max(abs(end) for grid in grids for end in (grid[0], grid[-1]))
  sought = max(target, 1.0)
  usual = math.sqrt(2 * sought) / spread
  # Where few clients are drawn, most losses are far below the few that delta is about.
  tilts = np.geomspace(min(0.02 * usual, 0.2 * sought / most), 4 * usual, 16)

  def bounds(direction: np.ndarray, target: float, base: float = 0.0) -> np.ndarray:
    """ln of the moments at base + direction over those at base, and `target`, by direction."""
    total = np.full(len(direction), target)
    for n, grid, (_, one, _) in zip(counts, grids, ones, strict=True):
      total -= n * _log_mean(one, base * grid)
      total += n * np.array([_log_mean(one, (base + tilt) * grid) for tilt in direction])
    return total / np.abs(direction)

  at_delta = bounds(tilts, target)
  tilt = float(tilts[np.argmin(at_delta)])
  cut = -math.log(_CUT_OFF)
  high = max(float(np.min(at_delta + cut / tilts)), 0.0) + step
  low = -float(np.min(bounds(-tilts, target + cut)))
  # No bound rests on what follows: tilted losses above the window come back as smaller ones.
  while True:
    reach = float(np.min(bounds(tilts, 2 * cut, tilt)))
    if reach <= 3 * high - 2 * low or tilt * high < 1:
      break
    tilt *= 0.8
  reach = min(reach, 3 * high - 2 * low)
  return _Window(low=min(low, -step), high=high, reach=max(high, reach), tilt=tilt)


def _log_mean(probabilities: np.ndarray, exponents: np.ndarray) -> float:
  peak = float(np.max(exponents, where=probabilities > 0, initial=-np.inf))
  terms = np.exp(np.minimum(exponents - peak, 0.0))
  return math.log(float(probabilities @ terms)) + peak

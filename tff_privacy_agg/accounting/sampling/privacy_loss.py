"""The privacy loss of Poisson-sampled Gaussian rounds: its distribution, composed on a grid.

With `q` the rate and `mu` the sensitivity over the standard deviation, the neighbours of a round are

  P = (1 - q) N(0, 1) + q N(mu, 1)        Q = N(0, 1)

and either may be the true one: see docs/proofs/sampling.md. The distributions of their privacy loss
are composed on a grid, each loss rounded to the safe side. That is a bound only where the number of
rounds and their noise were fixed before the first one, so no budget rests on it.
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from scipy import fft, special

from tff_privacy_agg.accounting.composition import SAFE

# Of delta, for each part that is cut off from the composed loss.
CUT_OFF = 1e-6
# Cells of the composed loss: so many times sqrt(rounds), within these limits; to find its window.
_CELLS, _FEWEST, _MOST, _COARSE = 2**11, 2**15, 2**19, 2**13
# Of a cell's probability, moved to its upper end: more than its division can be off by.
_MOVED_UP = 1e-7
# Beyond this the exponential of a loss is no number.
LIMIT = 700.0
# More than an edge of a cell is off by, in each round.
_EDGE = 1e-13
# More than the relative error of a stage of a transform, or of a factor of a power.
_STAGE = 8 * 2.0**-53


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Window:
  """The interval in which the sum of the losses lies.

  Attributes:
    low: What lies below is a small part of delta; it counts as a large loss.
    high: What lies above is less than `CUT_OFF` of delta, which is added.
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
    at_once = grow * self.above - room <= np.exp(np.minimum(before, LIMIT)) * fall
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
      later = np.log(np.where(fall > 0, (grow * self.above - room) / fall, np.inf))
    at = np.where(at_once, before, np.where(later > before, later, np.inf))
    fits = at <= self.losses
    return float(at[np.argmax(fits)]) + slack + self.moved if fits.any() else math.inf


def composed_loss(
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
  cut = CUT_OFF * delta + sum(n * lost for (_, _, lost), n in zip(ones, counts, strict=True))

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
  weights = np.exp(np.minimum(log_scale - tilt * losses, LIMIT)) * (1 + rounds * _STAGE)
  # The root of the sum of the squared weights from each loss on: theirs alone leave float64.
  fall = 2 * tilt * step
  terms = np.expm1(-fall * np.arange(len(losses), 0, -1)) / math.expm1(-fall)
  unknown = error * np.sqrt(terms) * weights
  p = np.maximum(composed[kept], 0.0) * weights
  return _Loss(
    losses=losses,
    above=_from_above(p),
    discounted=_from_above(np.where(losses < LIMIT, p * np.exp(-np.minimum(losses, LIMIT)), 0.0)),
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
  upper = (p - q * np.exp(np.minimum(edges[:-1], LIMIT))) / -math.expm1(-step) + _MOVED_UP * p
  upper = np.where(edges[:-1] < LIMIT, np.clip(upper, 0.0, p), p)
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
  cut = -math.log(CUT_OFF)
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

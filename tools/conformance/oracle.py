"""Exact values, slow and in one dimension, that the bounds are held against.

Nothing here is used to account for a training: these are the yardsticks of the
conformance command and of the tests.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from dp_accounting import dp_event, privacy_accountant
from dp_accounting.pld import pld_privacy_accountant, privacy_loss_distribution
from dp_accounting.rdp import rdp_privacy_accountant
from scipy import special

from tff_privacy_agg.errors import ConfigurationError

# Above it the exact laws take minutes.
_LARGEST_HALF_WIDTH = 2**20
_NEIGHBOURS = privacy_accountant.NeighboringRelation


def skellam_log_pmf(variance: float, half_width: int) -> np.ndarray:
  """Returns ln P(x) of a symmetric Skellam law for x in [-half_width, half_width].

  Ratios of Bessel functions by downward recurrence, so tails do not underflow.
  """
  ratios = np.zeros(half_width + 1)
  ratio = 0.0
  for k in range(half_width + 200, 0, -1):  # I_k / I_{k-1}
    ratio = 1.0 / (2.0 * k / variance + ratio)
    if k <= half_width:
      ratios[k] = ratio
  half = np.log(special.ive(0, variance)) + np.concatenate([[0.0], np.cumsum(np.log(ratios[1:]))])
  return np.concatenate([half[:0:-1], half])


def discrete_gaussian_sum_log_pmf(
  local_variance: float, shares: int, half_width: int
) -> np.ndarray:
  """Returns ln P(x) of a sum of discrete Gaussians for x in [-half_width, half_width]."""
  x = np.arange(-half_width, half_width + 1, dtype=np.float64)
  power = -(x**2) / (2 * local_variance)
  power -= special.logsumexp(power)
  total = np.where(x == 0, 0.0, -np.inf)
  while shares:
    if shares % 2:
      total = _log_convolve(total, power)
    shares //= 2
    if shares:
      power = _log_convolve(power, power)
  return total


def exact_renyi(log_pmf: np.ndarray, shift: int, orders: Sequence[float]) -> np.ndarray:
  """Returns the Renyi divergence between an integer law and its shift, at each order."""
  p, q = log_pmf[: len(log_pmf) - shift], log_pmf[shift:]
  return np.array([special.logsumexp(a * p + (1 - a) * q) / (a - 1) for a in orders])


def skellam_renyi(variance: float, shift: int, orders: Sequence[float]) -> np.ndarray:
  """Returns the exact Renyi divergence of a Skellam law from its shift by `shift`."""
  return exact_renyi(skellam_log_pmf(variance, _half_width(variance, shift, orders)), shift, orders)


def discrete_gaussian_sum_renyi(
  local_variance: float, shares: int, shift: int, orders: Sequence[float]
) -> np.ndarray:
  """Returns the exact Renyi divergence of a sum of `shares` discrete Gaussians from its shift."""
  half_width = _half_width(local_variance * shares, shift, orders)
  log_pmf = discrete_gaussian_sum_log_pmf(local_variance, shares, half_width)
  return exact_renyi(log_pmf, shift, orders)


def skellam_pld_epsilon(variance: float, compositions: int, delta: float) -> float:
  """Returns epsilon of `compositions` unit shifts under Skellam noise, by privacy loss."""
  half_width = math.ceil(20 * math.sqrt(variance)) + 60
  log_pmf = skellam_log_pmf(variance, half_width)
  support = range(-half_width, half_width + 1)
  loss = privacy_loss_distribution.from_two_probability_mass_functions(
    dict(zip(support, log_pmf.tolist(), strict=True)),
    dict(zip((x + 1 for x in support), log_pmf.tolist(), strict=True)),
    value_discretization_interval=1e-5,
    log_mass_truncation_bound=math.log(delta) - 30.0,
  )
  return loss.self_compose(compositions).get_epsilon_for_delta(delta)


def poisson_gaussian_pld_epsilon(
  noise_multiplier: float, rate: float, rounds: int, delta: float
) -> float:
  """Returns epsilon of Poisson-sampled Gaussian rounds by dp_accounting's privacy loss."""
  event = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise_multiplier))
  accountant = pld_privacy_accountant.PLDAccountant(_NEIGHBOURS.ADD_OR_REMOVE_ONE)
  return accountant.compose(event, rounds).get_epsilon(delta)


def gaussian_rdp_epsilon(noise_multiplier: float, rounds: int, delta: float) -> float:
  """Returns epsilon of Gaussian rounds by dp_accounting's RDP, on its default orders."""
  accountant = rdp_privacy_accountant.RdpAccountant()
  accountant.compose(dp_event.GaussianDpEvent(noise_multiplier), rounds)
  return accountant.get_epsilon(delta)


def without_replacement_gaussian_epsilon(
  event_noise_multiplier: float,
  *,
  population: int,
  cohort: int,
  rounds: int,
  delta: float,
  orders: Sequence[float] | np.ndarray | None,
) -> float:
  """Returns epsilon of fixed-size cohorts by dp_accounting.

  The event carries standard deviation over *twice* the clip norm: replacing one
  client moves the sum by two clip norms. Without `orders`, dp_accounting's own.
  """
  event = dp_event.SampledWithoutReplacementDpEvent(
    population, cohort, dp_event.GaussianDpEvent(event_noise_multiplier)
  )
  grid = None if orders is None else list(orders)
  accountant = rdp_privacy_accountant.RdpAccountant(grid, _NEIGHBOURS.REPLACE_ONE)
  return accountant.compose(event, rounds).get_epsilon(delta)


def recovered_below_counts(
  reported: Sequence[float],
  *,
  num_clients: int,
  target_quantile: float,
  learning_rate: float,
  multiplier: float = 1.0,
  increment: float = 0.0,
) -> list[float]:
  """Returns the counts that a reader infers from un-noised adaptive thresholds.

  An estimate moves by `C *= exp(-rate (count/n - q))`, so two consecutive reports
  of `multiplier * C + increment` give the count between them.
  """
  estimates = [(value - increment) / multiplier for value in reported]
  return [
    num_clients * (target_quantile - math.log(after / before) / learning_rate)
    for before, after in itertools.pairwise(estimates)
  ]


def _half_width(variance: float, shift: int, orders: Sequence[float]) -> int:
  # P^a Q^(1-a) is centred about a shifts away from P, farther where tails are heavier.
  width = math.ceil(14 * math.sqrt(variance) + 3 * shift * max(orders)) + 40
  if width > _LARGEST_HALF_WIDTH:
    raise ConfigurationError(
      f'An exact divergence was asked over {2 * width + 1} integers; at most '
      f'{2 * _LARGEST_HALF_WIDTH + 1} are summed. Ask for a smaller variance, shift or order.'
    )
  return width


def _log_convolve(first: np.ndarray, second: np.ndarray) -> np.ndarray:
  """Convolves two laws on one symmetric support, keeping that support."""
  width = len(first)
  half = width // 2
  result = np.full(width, -np.inf)
  for index in range(width):
    low = max(0, index - half)
    high = min(width, index + half + 1)
    terms = first[low:high] + second[index + half - np.arange(low, high)]
    largest = terms.max()  # finite: both laws have mass at 0 and around it
    result[index] = largest + np.log(np.exp(terms - largest).sum())
  return result

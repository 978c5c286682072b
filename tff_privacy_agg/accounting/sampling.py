"""Curves of rounds with a random cohort, and of clients with a participation cap.

Which bound may be claimed:

  cohort                          adjacency                      here
  every view of the server        zero_out                       no sampling bound at all
  cap m on participations         any                            `participation_cap`
  Poisson, view of the release    add_or_remove_one or zero_out  `poisson`, `poisson_round`
  fixed size, no replacement      replace_one                    `without_replacement`
  shuffled, check-in              any                            none

Amplification needs a secret cohort: the server of secure aggregation sees who
takes part, so it never holds in the server's view. Distributed noise grows with
the cohort, so Poisson sampling may be claimed only where the server tops the
noise up to a total that does not depend on the cohort. Proofs: docs/proofs/sampling.md.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy import special

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED, GAUSSIAN
from tff_privacy_agg.accounting.accounts import as_numbers
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.errors import ConfigurationError

MAXIMUM_ORDER = 256
# One Gaussian or discrete Gaussian on the sum, whoever takes part.
OF_SERVER = (GAUSSIAN, CENTRAL)
# Orders of general bounds, and of Poisson-sampled Gaussians, of which an account takes the best.
SAMPLED_ORDERS = np.arange(2.0, MAXIMUM_ORDER + 1)
POISSON_ORDERS = np.union1d(1 + np.geomspace(0.01, 2047, 300), SAMPLED_ORDERS)
_MOST_ORDER = 4096.0
# Relative rounding of `gaussian_renyi`, whose terms are positive.
_ROUNDING = 1 + 1e-10
# The trapezoid rule is off by a factor below 1 + e^-_EXPONENT; the integral is cut off where less
# than e^-80 of it is left.
_EXPONENT, _REACH = 70.0, 13.0
# Beyond this `a mu^2` the integral would need too many steps.
_WIDE = 1e4
# Below this `a u`, a power comes from so many terms of its series.
_SMALL, _TERMS = 0.02, 8


@_validate.plain_numbers
def poisson_round(price: RoundPrice, honest: int, rate: float) -> RdpCurve:
  """One Poisson-sampled round whose total noise is fixed, by the tightest bound that is proved.

  A round that is a Gaussian up to small factors is a sampled Gaussian up to the same factors, at
  real orders. Any other is bounded by `poisson`.

  Args:
    price: Price of the round, not under 'replace_one'.
    honest: Unknown shares of noise in the sum, with those of a top-up.
    rate: Probability of each client to take part, in (0, 1].

  Raises:
    ConfigurationError: If neighbours replace a client's data by other data.

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
    >>> curve = tpa.accounting.poisson_round(price, 100, rate=0.01)
    >>> round(tpa.accounting.epsilon(curve.scaled(1000), 1e-5)[0], 2)
    2.11
  """
  check_rate(rate)
  base = price.curve(honest)
  _check_base(base)
  _check_adjacency(base.adjacency, base.adjacency)
  if not price.has_mu:
    return poisson(base, rate, adjacency=base.adjacency, total_noise_fixed=True)
  mu, c1, c2 = as_numbers(np.array(price.gaussian(honest), dtype=object))
  return _sampled_gaussian(base, mu, c1, c2, rate, base.adjacency)


def poisson_orders(price: RoundPrice) -> np.ndarray:
  """The orders of an account of `poisson_round`, float64."""
  return POISSON_ORDERS if price.has_mu else SAMPLED_ORDERS


@_validate.plain_numbers
def poisson(
  base: RdpCurve,
  rate: float,
  *,
  adjacency: str = 'add_or_remove_one',
  tight: bool | None = None,
  total_noise_fixed: bool = False,
) -> RdpCurve:
  """Amplification by Poisson sampling, for who sees only the released models.

  A Gaussian has its exact moments, at real orders. One discrete Gaussian has the same at integer
  orders. Else: Zhu and Wang (ICML 2019), Theorem 5, with factor 3 on the terms above the second.

  Args:
    base: One round's curve without sampling.
    rate: Probability of each client to take part, in (0, 1].
    adjacency: 'add_or_remove_one' or 'zero_out'.
    tight: Whether to use the exact moments; by default where they are proved: for noise of
      the server. `poisson_round` has them for sums of discrete Gaussian shares.
    total_noise_fixed: Whether the total noise does not depend on the size of the
      cohort. Must be true for distributed noise: see the server's top-up.

  Returns:
    A curve for real orders up to 4096 if `base` is Gaussian and `tight`; else for integer
    orders 2 to 256.

  Raises:
    ConfigurationError: If the combination has no proof.

  Examples:
    >>> sampled = tpa.accounting.poisson(tpa.accounting.gaussian(1.0), rate=0.01).scaled(1000)
    >>> round(tpa.accounting.epsilon(sampled, 1e-5)[0], 2)
    2.1
  """
  check_rate(rate)
  _check_base(base)
  _check_adjacency(adjacency, base.adjacency)
  if base.mechanism not in OF_SERVER and tight:
    raise ConfigurationError(
      'The tight Poisson bound is proved for Gaussian noise of the server only, not for '
      f'{base.mechanism} noise. Leave `tight` out.'
    )
  if base.mechanism not in OF_SERVER and not total_noise_fixed:
    raise ConfigurationError(
      f'Poisson sampling has no bound for {base.mechanism} noise, whose total moves with the size '
      'of the cohort. Top the noise up to a fixed total at the server and pass '
      '`total_noise_fixed=True`, or claim no amplification.'
    )
  if tight is None:
    tight = base.mechanism in OF_SERVER
  if tight and base.mechanism == GAUSSIAN:
    return _sampled_gaussian(base, math.sqrt(float(base.rdp(2.0))), 0.0, 0.0, rate, adjacency)
  log_factor = 0.0 if tight else math.log(3.0)
  log_in, log_out = math.log(rate), math.log1p(-rate) if rate < 1 else -math.inf
  moments = _moments(base)

  def log_a(a: int) -> float:
    j = np.arange(2, a + 1)
    terms = _log_binomials(a) + _times(a - j, log_out) + j * log_in + moments[: a - 1]
    terms[1:] += log_factor
    first = _times(np.array([a - 1]), log_out)[0] + math.log(a * rate - rate + 1)
    return _log_sum(np.append(terms, first))

  label = f'Poisson rate {rate:g} (Zhu-Wang 2019 Thm 5, factor {1 if tight else 3})'
  return _sampled(base, log_a, label, adjacency)


@_validate.plain_numbers
def without_replacement(base: RdpCurve, *, population: int, cohort: int) -> RdpCurve:
  """Amplification by a cohort of fixed size drawn without replacement.

  arXiv:1808.00087 (Wang, Balle, Kasiviswanathan 2019), Theorem 9. For who sees
  only the released models.

  Args:
    base: One round's curve under 'replace_one', that is at doubled sensitivity.
    population: Number of clients to draw from, at least `cohort`.
    cohort: Number of clients in each round, at least 1.

  Returns:
    A curve for integer orders 2 to 256, adjacency 'replace_one'.

  Raises:
    ConfigurationError: If `base` is not a curve under 'replace_one'.

  Examples:
    >>> base = tpa.accounting.gaussian(1.0, adjacency='replace_one')
    >>> sampled = tpa.accounting.without_replacement(base, population=10_000, cohort=100)
    >>> round(tpa.accounting.epsilon(sampled.scaled(100), 1e-5)[0], 2)
    11.21
  """
  _validate.at_least(1, cohort=cohort)
  _validate.at_least(cohort, population=population)
  _check_base(base)
  if base.adjacency != 'replace_one':
    raise ConfigurationError(
      f'Sampling without replacement has no bound for a curve under {base.adjacency!r}: a cohort '
      "of fixed size needs 'replace_one', at twice the sensitivity. Build the curve with "
      "`adjacency='replace_one'`."
    )
  rate = cohort / population
  moments = _moments(base)
  second = moments[0]  # RDP(2)
  if second > 0:
    log_two = min(math.log(4.0) + second + math.log(-math.expm1(-second)), math.log(2.0) + second)
  else:
    log_two = -math.inf

  def log_a(a: int) -> float:
    j = np.arange(2, a + 1)
    terms = math.log(2.0) + j * math.log(rate) + _log_binomials(a) + moments[: a - 1]
    terms[0] = 2 * math.log(rate) + _log_binomials(a)[0] + log_two
    return _log_sum(np.append(terms, 0.0))

  label = f'without replacement {cohort}/{population} (Wang et al. 2019 Thm 9)'
  return _sampled(base, log_a, label, 'replace_one')


@_validate.plain_numbers
def participation_cap(curve: RdpCurve, *, rounds: int, cap: int) -> RdpCurve:
  """Total of a client that takes part in at most `cap` of `rounds` rounds.

  A round without the client has one distribution on both neighbours and costs it
  nothing. Needs no secret, so it holds against the server too, but the cap must
  be enforced.

  Args:
    curve: One round's curve.
    rounds: Number of rounds, at least 0.
    cap: Most rounds in which one client takes part, at least 0.

  Examples:
    >>> capped = tpa.accounting.participation_cap(
    ...   tpa.accounting.gaussian(4.0), rounds=100, cap=10
    ... )
    >>> round(tpa.accounting.epsilon(capped, 1e-5)[0], 3)
    3.617
  """
  _validate.at_least(0, rounds=rounds, cap=cap)
  return curve.scaled(min(rounds, cap))


def gaussian_renyi(orders: np.ndarray, mu: float, rate: float) -> np.ndarray:
  """Renyi divergence of one sampled round in both directions, rounded up; shape of `orders`.

  `ln E_Q[r^a] / (a - 1)` with `r = P/Q`, the larger of the two directions (arXiv:1908.10530,
  Theorem 5). Section 3.3 there sums an alternating series; here the integral of the positive
  `Q (r^a - 1 - a (r - 1))` is a sum of positive terms, by the trapezoid rule. For |y| < pi / mu
  the integrand is analytic at x + iy, so at steps `h` the sum is off by less than
  `2 e^(y^2/2) / (e^(2 pi y/h) - 1)` of `E_Q[r^a] + 1 + 2a`.

  Args:
    orders: Real orders above 1, at most 4096.
    mu: Sensitivity over standard deviation, at least 0.
    rate: Probability of a client to take part, in (0, 1].

  Examples:
    >>> float(gaussian_renyi(np.array([8.0]), 1.0, 0.01)[0]) < 8 / 2 / 4000
    True
  """
  a = np.asarray(orders, dtype=np.float64)
  unsampled = a * mu**2 / 2
  if rate == 1 or mu == 0 or not math.isfinite(mu):
    return unsampled
  flat = [_log_moment(order, mu, rate) / (order - 1) for order in a.ravel().tolist()]
  return np.minimum(unsampled, np.reshape(flat, a.shape) * _ROUNDING)


def slack(orders: np.ndarray, c1: float, c2: float) -> np.ndarray:
  """Renyi divergence that factors e^c1 on one distribution and e^-c2 on the other add."""
  return (orders * c1 + (orders - 1) * c2) / (orders - 1)


def _log_moment(order: float, mu: float, rate: float) -> float:
  """ln E_Q[r^a]."""
  if order * mu * mu > _WIDE:
    # (x + y)^a <= 2^(a-1) (x^a + y^a), where a factor of 2 in r does not show.
    kept = order * math.log1p(-rate)
    drawn = order * math.log(rate) + order * (order - 1) / 2 * mu**2
    return (order - 1) * math.log(2) + float(np.logaddexp(kept, drawn))
  y = min(4.0, 0.99 * math.pi / mu)
  step = 2 * math.pi * y / (_EXPONENT + y * y / 2)
  x = np.arange(-_REACH, max(order, 2.0) * mu + _REACH + step, step)
  shift = mu * x - mu * mu / 2
  log_ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + shift)
  u = rate * np.expm1(np.minimum(shift, 300.0))  # r - 1
  exponent = order * log_ratio
  far = exponent > 600  # where what is taken from r^a does not show
  log_r, u = np.where(far, 0.0, log_ratio), np.where(far, 0.0, u)
  excess = np.exp(log_r) * np.expm1((order - 1) * log_r) - (order - 1) * u
  small = (order * np.abs(u) < _SMALL) & (np.abs(u) < _SMALL)
  u = np.where(small, u, 0.0)
  series = np.ones_like(u)
  for k in range(_TERMS, 2, -1):
    series = 1 + (order - k + 1) / k * u * series
  excess = np.where(small, order * (order - 1) / 2 * u**2 * series, np.maximum(excess, 0.0))
  with np.errstate(divide='ignore'):
    logs = np.where(far, exponent, np.log(excess)) - x * x / 2
  log_excess = _log_sum(logs) + math.log(step / math.sqrt(2 * math.pi))
  return (
    float(np.logaddexp(0.0, log_excess)) if log_excess > 0 else math.log1p(math.exp(log_excess))
  )


def _sampled_gaussian(
  base: RdpCurve, mu: float, c1: float, c2: float, rate: float, adjacency: str
) -> RdpCurve:
  def function(orders: np.ndarray) -> np.ndarray:
    bound = gaussian_renyi(orders, mu, rate) + slack(orders, c1, c2)
    return np.minimum(base.rdp(orders), bound)

  return RdpCurve(
    function=function,
    integer_only=False,
    provenance=f'Poisson rate {rate:g} (arXiv:1908.10530 Thm 5) of [{base.provenance}]',
    mechanism='sampled',
    adjacency=adjacency,
    maximum_order=_MOST_ORDER,
  )


def check_rate(rate: float) -> None:
  """Raises unless `rate` is in (0, 1]."""
  _validate.positive(rate=rate)
  if rate > 1:
    raise ConfigurationError(f'`rate` must be at most 1, got {rate!r}.')


def _check_adjacency(adjacency: str, of_base: str) -> None:
  if adjacency not in ('add_or_remove_one', 'zero_out') or of_base == 'replace_one':
    raise ConfigurationError(
      f'Poisson sampling under {adjacency!r} has no bound for a curve under {of_base!r}. It is '
      "proved for 'add_or_remove_one' and 'zero_out'. Use one of these, or `without_replacement`."
    )


def _check_base(base: RdpCurve) -> None:
  _validate.instance(RdpCurve, base=base)
  if base.mechanism == CORRELATED:
    raise ConfigurationError(
      'Sampling has no proved bound for noise that is correlated over rounds. Claim the separation '
      'of participations alone, or use independent noise.'
    )
  if base.mechanism == 'sampled':
    raise ConfigurationError(
      f'This curve is sampled already: {base.provenance}. Sample the curve of the mechanism itself.'
    )


def _moments(base: RdpCurve) -> np.ndarray:
  """Returns (l-1) * RDP(l) for l = 2..256."""
  return (SAMPLED_ORDERS - 1) * base.rdp(SAMPLED_ORDERS)


@functools.cache
def _log_binomials(n: int) -> np.ndarray:
  """Logs of the binomial coefficients of n over 2, ..., n."""
  k = np.arange(2, n + 1)
  return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def _log_sum(logs: np.ndarray) -> float:
  """Log of the sum of exponentials. SciPy's takes ten times as long for so few."""
  largest = logs.max()
  if not math.isfinite(largest):
    return float(largest)
  return float(largest + math.log(np.exp(logs - largest).sum()))


def _times(count: np.ndarray, log_value: float) -> np.ndarray:
  """Returns count * log_value with 0 * -inf = 0."""
  return np.where(count > 0, count * log_value if math.isfinite(log_value) else -np.inf, 0.0)


def _sampled(base: RdpCurve, log_a: Callable[[int], float], label: str, adjacency: str) -> RdpCurve:
  def function(orders: np.ndarray) -> np.ndarray:
    bound = [max(log_a(int(a)), 0.0) / (a - 1) for a in orders.ravel()]
    return np.minimum(base.rdp(orders), np.reshape(bound, orders.shape))

  return RdpCurve(
    function=function,
    integer_only=True,
    provenance=f'{label} of [{base.provenance}]',
    mechanism='sampled',
    adjacency=adjacency,
    maximum_order=float(MAXIMUM_ORDER),
  )

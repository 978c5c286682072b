"""Curves of rounds in which every client takes part by a coin of its own: Poisson sampling."""

import math

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, GAUSSIAN
from tff_privacy_agg.accounting.accounts import as_numbers
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.accounting.sampling.moments import (
  SAMPLED_ORDERS,
  check_base,
  check_rate,
  log_binomials,
  log_sum,
  moments_of,
  sampled_curve,
  times,
)
from tff_privacy_agg.accounting.sampling.sampled_gaussian import gaussian_renyi, slack
from tff_privacy_agg.errors import ConfigurationError

# One Gaussian or discrete Gaussian on the sum, whoever takes part.
OF_SERVER = (GAUSSIAN, CENTRAL)
# Orders of Poisson-sampled Gaussians, of which an account takes the best.
POISSON_ORDERS = np.union1d(1 + np.geomspace(0.01, 2047, 300), SAMPLED_ORDERS)
_MOST_ORDER = 4096.0


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
  check_base(base)
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
  check_base(base)
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
  moments = moments_of(base)

  def log_a(a: int) -> float:
    j = np.arange(2, a + 1)
    terms = log_binomials(a) + times(a - j, log_out) + j * log_in + moments[: a - 1]
    terms[1:] += log_factor
    first = times(np.array([a - 1]), log_out)[0] + math.log(a * rate - rate + 1)
    return log_sum(np.append(terms, first))

  label = f'Poisson rate {rate:g} (Zhu-Wang 2019 Thm 5, factor {1 if tight else 3})'
  return sampled_curve(base, log_a, label, adjacency)


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


def _check_adjacency(adjacency: str, of_base: str) -> None:
  if adjacency not in ('add_or_remove_one', 'zero_out') or of_base == 'replace_one':
    raise ConfigurationError(
      f'Poisson sampling under {adjacency!r} has no bound for a curve under {of_base!r}. It is '
      "proved for 'add_or_remove_one' and 'zero_out'. Use one of these, or `without_replacement`."
    )

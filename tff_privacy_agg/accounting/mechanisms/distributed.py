"""Curves of noise that the clients add: sums of discrete Gaussian or Skellam shares.

Symbols: `B` and `L1` the norm bounds of one client's vector, `v` the variance of
one client's noise share, `h` the honest shares in the sum, `V = h v`. Everything is
in integer units.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from tff_privacy_agg import _validate
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg.accounting.curves import RdpCurve, infinite, sensitivity_factor
from tff_privacy_agg.accounting.reduction import MOST_TERMS
from tff_privacy_agg.errors import ConfigurationError


@_validate.plain_numbers
def tau(local_variance: float, honest: int) -> float:
  """Bounds the distance of a sum of discrete Gaussians from a discrete Gaussian.

  `10 * sum_{j=1}^{honest-1} exp(-2 pi^2 v j/(j+1))`, arXiv:2102.06387, Theorem 1.
  One share is an exact discrete Gaussian: 0.

  Args:
    local_variance: sigma^2 of one share, integer units, positive.
    honest: Number of honest shares in the sum, at least 1.

  Examples:
    >>> f'{tpa.accounting.tau(1.0, honest=100):.1e}'
    '5.5e-04'
  """
  _validate.positive(local_variance=local_variance)
  _validate.at_least(1, honest=honest)
  if math.pi**2 * local_variance > 750.0:  # the largest term underflows to zero
    return 0.0
  added = min(honest, MOST_TERMS)
  j = np.arange(1, added + 1, dtype=np.float64)
  terms = np.exp(-2.0 * math.pi**2 * local_variance * j / (j + 1.0))
  return 10.0 * float(np.sum(terms[:-1]) + (honest - added) * terms[-1])


@_validate.plain_numbers
def discrete_gaussian_terms(
  orders: ArrayLike, l2: float, l1: float, local_variance: float, honest: int, dimension: int
) -> np.ndarray:
  """Returns the three bounds whose minimum is the curve, shape [3, len(orders)].

  The first holds by closeness to one discrete Gaussian, the others are concentrated
  DP; arXiv:2102.06387, Theorem 1. The arguments are those of `discrete_gaussian`.

  Examples:
    >>> tpa.accounting.discrete_gaussian_terms(
    ...   [2.0, 8.0], 100, 1000, 100, honest=100, dimension=512
    ... )
    array([[1., 4.],
           [1., 4.],
           [1., 4.]])
  """
  a = np.asarray(orders, dtype=np.float64)
  t = tau(local_variance, honest)
  variance = honest * local_variance
  return np.stack(
    [
      a * l2**2 / (2.0 * variance) + t * dimension,
      0.5 * a * (l2**2 / variance + 2.0 * l1 * t / math.sqrt(variance) + t**2 * dimension),
      0.5 * a * (l2 / math.sqrt(variance) + t * math.sqrt(dimension)) ** 2,
    ]
  )


@_validate.plain_numbers
def discrete_gaussian(
  l2: float,
  l1: float,
  local_variance: float,
  honest: int,
  dimension: int,
  *,
  adjacency: str = 'zero_out',
) -> RdpCurve:
  """Sum of `honest` shares, each a discrete Gaussian N_Z(0, local_variance).

  Valid for real orders; arXiv:2102.06387, Theorem 1. No honest share or no
  variance: infinite at every order.

  Args:
    l2: L2 bound of one client's integer vector, positive.
    l1: L1 bound of the same vector, positive.
    local_variance: sigma^2 of one share, integer units, at least 0.
    honest: Shares whose noise the adversary does not know, at least 0. The
      survivors less the colluders, never the planned cohort.
    dimension: Padded number of coordinates, at least 1.
    adjacency: 'zero_out' or 'replace_one'.

  Examples:
    >>> curve = tpa.accounting.discrete_gaussian(
    ...   l2=100, l1=1000, local_variance=100, honest=100, dimension=512
    ... )
    >>> round(tpa.accounting.epsilon(curve, 1e-5)[0], 3)
    4.728
  """
  factor = _check_distributed(l2, l1, local_variance, honest, adjacency)
  _validate.at_least(1, dimension=dimension)
  text = (
    f'distributed discrete Gaussian (arXiv:2102.06387 Thm 1), l2={factor * l2:g}, '
    f'v={local_variance:g}, honest={honest}, dimension={dimension}'
  )
  if honest == 0 or local_variance == 0:
    return infinite(text, 'discrete_gaussian', adjacency, integer_only=False)

  def function(a: np.ndarray) -> np.ndarray:
    terms = discrete_gaussian_terms(a, factor * l2, factor * l1, local_variance, honest, dimension)
    return terms.min(axis=0)

  return RdpCurve(function, False, text, 'discrete_gaussian', adjacency)


@_validate.plain_numbers
def skellam(
  l2: float,
  l1: float,
  *,
  central_variance: float | None = None,
  local_variance: float | None = None,
  honest: int | None = None,
  adjacency: str = 'zero_out',
) -> RdpCurve:
  """Symmetric Skellam noise on the sum; a sum of Skellam shares is Skellam.

  `a B^2/(2V) + min(((2a-1) B^2 + 6 L1)/(4 V^2), 3 L1/(2V))` for integers a >= 2;
  arXiv:2110.04995. No noise: infinite at every order.

  Args:
    l2: L2 bound `B` of one client's integer vector, positive.
    l1: L1 bound of the same vector, positive.
    central_variance: Variance `V` of the whole noise, integer units; or else
    local_variance: variance of one share, together with
    honest: the number of shares whose noise the adversary does not know.
    adjacency: 'zero_out' or 'replace_one'.

  Examples:
    >>> curve = tpa.accounting.skellam(l2=100, l1=1000, local_variance=100, honest=100)
    >>> round(tpa.accounting.epsilon(curve, 1e-5)[0], 3)
    4.753
  """
  if (central_variance is None) == (local_variance is None) or (local_variance is None) != (
    honest is None
  ):
    raise ConfigurationError(
      'Skellam noise takes either `central_variance` or both `local_variance` and `honest`; got '
      f'{central_variance!r}, {local_variance!r} and {honest!r}. Give one of the two forms.'
    )
  share = central_variance if local_variance is None else local_variance
  factor = _check_distributed(l2, l1, share, 1 if honest is None else honest, adjacency)
  variance = float(share) * (1 if honest is None else honest)  # type: ignore[arg-type]
  b2, b1 = (factor * l2) ** 2, factor * l1
  text = f'Skellam (arXiv:2110.04995), l2={factor * l2:g}, l1={b1:g}, V={variance:g}'
  if variance == 0:
    return infinite(text, 'skellam', adjacency, integer_only=True)

  def function(a: np.ndarray) -> np.ndarray:
    extra = np.minimum(((2 * a - 1) * b2 + 6 * b1) / (4 * variance**2), 3 * b1 / (2 * variance))
    return a * b2 / (2 * variance) + extra

  return RdpCurve(function, True, text, 'skellam', adjacency)


@_validate.plain_numbers
def bit_channel(
  mechanism: str,
  bound: float,
  local_variance: float,
  honest: int,
  *,
  adjacency: str = 'zero_out',
) -> RdpCurve:
  """One client's bit, sent as `+bound` or `-bound` (zeroed out: 0) with integer noise.

  Args:
    mechanism: 'discrete_gaussian' or 'skellam'.
    bound: `S`, the L1 and L2 bound of the one coordinate, positive.
    local_variance: Variance of one share, integer units, at least 0.
    honest: Shares whose noise the adversary does not know, at least 0.
    adjacency: 'zero_out' or 'replace_one' (+S against -S).

  Examples:
    >>> curve = tpa.accounting.bit_channel(
    ...   'discrete_gaussian', 64, local_variance=1e4, honest=100
    ... )
    >>> round(tpa.accounting.epsilon(curve, 1e-5)[0], 3)
    0.232
  """
  _validate.one_of(DISTRIBUTED, mechanism=mechanism)
  if mechanism == 'skellam':
    return skellam(bound, bound, local_variance=local_variance, honest=honest, adjacency=adjacency)
  return discrete_gaussian(bound, bound, local_variance, honest, 1, adjacency=adjacency)


def _check_distributed(
  l2: float, l1: float, variance: float | None, honest: int, adjacency: str
) -> int:
  factor = sensitivity_factor(adjacency)
  _validate.positive(l2=l2, l1=l1)
  _validate.non_negative(variance=variance)
  _validate.at_least(0, honest=honest)
  return factor

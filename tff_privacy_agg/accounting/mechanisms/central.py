"""Curves of noise that the server adds to the sum."""

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL
from tff_privacy_agg.accounting.curves import RdpCurve, infinite, sensitivity_factor


@_validate.plain_numbers
def gaussian(noise_multiplier: float, *, adjacency: str = 'zero_out') -> RdpCurve:
  """Central Gaussian noise: `a/(2 z^2)` for real a > 1; arXiv:1702.07476, Corollary 3.

  Sampling in floating point is outside the theorem (Mironov, CCS 2012).

  Args:
    noise_multiplier: `z`, standard deviation over one client's L2 bound, at
      least 0; 0 gives an infinite curve.
    adjacency: Any of the three; 'replace_one' halves `z`.

  Examples:
    >>> tpa.accounting.gaussian(2.0).rdp([2.0, 8.0])
    array([0.25, 1.  ])
  """
  _validate.non_negative(noise_multiplier=noise_multiplier)
  factor = sensitivity_factor(adjacency, distributed=False)
  text = f'Gaussian (arXiv:1702.07476 Cor 3), z={noise_multiplier / factor:g}'
  if noise_multiplier == 0:
    return infinite(text, 'gaussian', adjacency, integer_only=False)
  slope = 0.5 * (factor / noise_multiplier) ** 2
  return RdpCurve(lambda a: a * slope, False, text, 'gaussian', adjacency)


@_validate.plain_numbers
def central_discrete_gaussian(
  l2_squared: float, variance: float, *, adjacency: str = 'zero_out'
) -> RdpCurve:
  """One discrete Gaussian of the server on a sum of integers: `a l2^2 / (2V)` for real a > 1.

  arXiv:2004.00010, Proposition 5. For integer orders the moments of the likelihood ratio are
  those of the Gaussian, exactly.

  Args:
    l2_squared: Largest squared L2 norm of one client's integer vector, positive.
    variance: `V`, variance parameter of the noise, in squared steps; 0 gives an infinite curve.
    adjacency: Any of the three; 'replace_one' doubles the norm.

  Examples:
    >>> curve = tpa.accounting.central_discrete_gaussian(l2_squared=100.0**2, variance=100.0**2)
    >>> round(tpa.accounting.epsilon(curve, 1e-5)[0], 3)
    4.728
  """
  factor = sensitivity_factor(adjacency, distributed=False)
  _validate.positive(l2_squared=l2_squared)
  _validate.non_negative(variance=variance)
  text = (
    f'discrete Gaussian (arXiv:2004.00010 Prop 5), l2^2={factor**2 * l2_squared:g}, V={variance:g}'
  )
  if variance == 0:
    return infinite(text, CENTRAL, adjacency, integer_only=False)
  slope = factor**2 * l2_squared / (2 * variance)
  return RdpCurve(lambda a: a * slope, False, text, CENTRAL, adjacency)

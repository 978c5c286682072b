"""What bounds of sampled rounds at integer orders share: checks, moments, the curve."""

import functools
import math
from collections.abc import Callable

import numpy as np
from scipy import special

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CORRELATED
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.errors import ConfigurationError

MAXIMUM_ORDER = 256
# Orders of general bounds, of which an account takes the best.
SAMPLED_ORDERS = np.arange(2.0, MAXIMUM_ORDER + 1)


def check_rate(rate: float) -> None:
  """Raises unless `rate` is in (0, 1]."""
  _validate.positive(rate=rate)
  if rate > 1:
    raise ConfigurationError(f'`rate` must be at most 1, got {rate!r}.')


def check_base(base: RdpCurve) -> None:
  """Raises unless `base` is the curve of one round of a mechanism, which may be sampled."""
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


def moments_of(base: RdpCurve) -> np.ndarray:
  """Returns (l-1) * RDP(l) for l = 2..256."""
  return (SAMPLED_ORDERS - 1) * base.rdp(SAMPLED_ORDERS)


@functools.cache
def log_binomials(n: int) -> np.ndarray:
  """Logs of the binomial coefficients of n over 2, ..., n."""
  k = np.arange(2, n + 1)
  return special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)


def log_sum(logs: np.ndarray) -> float:
  """Log of the sum of exponentials. SciPy's takes ten times as long for so few."""
  largest = logs.max()
  if not math.isfinite(largest):
    return float(largest)
  return float(largest + math.log(np.exp(logs - largest).sum()))


def times(count: np.ndarray, log_value: float) -> np.ndarray:
  """Returns count * log_value with 0 * -inf = 0."""
  return np.where(count > 0, count * log_value if math.isfinite(log_value) else -np.inf, 0.0)


def sampled_curve(
  base: RdpCurve, log_a: Callable[[int], float], label: str, adjacency: str
) -> RdpCurve:
  """The curve of rounds whose moments are bounded by e^`log_a` at integer orders."""

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

"""Grids of Renyi orders, and tables over them."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.curves import RdpCurve

INTEGER_ORDERS = np.array(
  [*range(2, 513), 576, 640, 768, 896, 1024, 1280, 1536, 2048, 3072, 4096], dtype=np.float64
)
REAL_ORDERS = np.union1d(np.round(np.arange(1.05, 10.001, 0.05), 2), INTEGER_ORDERS)


def table_orders(integer_only: bool) -> np.ndarray:
  """Returns about 100 orders, few enough for a table kept in a computation.

  Their best epsilon is within 0.4 % of the continuous (or all-integer) optimum
  for epsilon from 0.01 to 50 and delta from 1e-10 to 1e-3.

  Args:
    integer_only: Whether the curve is proved for integer orders only.

  Examples:
    >>> tpa.accounting.table_orders(integer_only=True)[:4]
    array([2., 3., 4., 5.])
  """
  if integer_only:
    coarse = np.rint(np.geomspace(20, 4096, 80))
    return np.union1d(np.arange(2.0, 21.0), coarse)
  return 1.0 + np.geomspace(0.02, 4095.0, 100)


@_validate.plain_numbers
def conversion_offsets(orders: ArrayLike, delta: float) -> np.ndarray:
  """Returns what is added to RDP(a) to give epsilon at each order, float64, shape [m].

  Args:
    orders: Renyi orders above 1, shape [m].
    delta: Strictly between 0 and 1.

  Examples:
    >>> tpa.accounting.conversion_offsets([2.0, 8.0, 32.0], delta=1e-5).round(2)
    array([10.13,  1.21,  0.23])
  """
  _validate.fraction(delta=delta)
  a = np.asarray(orders, dtype=np.float64)
  return np.log1p(-1 / a) - (math.log(delta) + np.log(a)) / (a - 1)


@_validate.plain_numbers
def rdp_table(
  curve_of_honest: Callable[[int], RdpCurve], maximum: int, orders: ArrayLike
) -> np.ndarray:
  """Tabulates one round's RDP for every possible number of honest survivors.

  Args:
    curve_of_honest: Gives the curve for a number of honest shares from 1 to `maximum`.
    maximum: Largest cohort, at least 1.
    orders: Renyi orders, shape [m], valid for every curve.

  Returns:
    float64 array of shape [maximum + 1, m]. Row 0 is infinite: with no honest
    share there is no privacy.

  Examples:
    >>> tpa.accounting.rdp_table(
    ...   lambda honest: tpa.accounting.gaussian(max(honest, 1)), 3, [2.0]
    ... ).round(3)
    array([[  inf],
           [1.   ],
           [0.25 ],
           [0.111]])
  """
  _validate.at_least(1, maximum=maximum)
  grid = np.asarray(orders, dtype=np.float64)
  rows = [np.full(grid.shape, np.inf)]
  rows.extend(curve_of_honest(honest).rdp(grid) for honest in range(1, maximum + 1))
  return np.stack(rows)

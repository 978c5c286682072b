"""Fields that many kinds of conformance case share."""

import re
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.curves import RdpCurve

Inputs = Mapping[str, Any]
Values = dict[str, Any]


def numbered(expected: Inputs, prefix: str) -> list[tuple[str, float]]:
  """Returns the expected fields whose name is `prefix` and a number, with that number."""
  names = [name for name in expected if re.fullmatch(re.escape(prefix) + r'\d+', name)]
  return [(name, float(name.removeprefix(prefix))) for name in names]


def of_curve(curve: RdpCurve, rounds: int, delta: float, orders: Any = None) -> Values:
  """Fields that every curve has."""
  total = curve.scaled(rounds)
  epsilon, order = accounting.epsilon(total, delta, orders)
  return {
    'rdp_one_round': curve,
    'total_rdp': total,
    'epsilon': epsilon,
    'optimal_order': order,
  }


def of_discrete_gaussian(l2, l1, local_variance, honest, dimension, expected) -> Values:
  """Fields of the discrete Gaussian alone."""
  values: Values = {'tau': accounting.tau(local_variance, honest)}
  for name, order in numbered(expected, 'three_terms_at_order_'):
    values[name] = accounting.discrete_gaussian_terms(
      order, l2, l1, local_variance, honest, dimension
    ).tolist()
  return values

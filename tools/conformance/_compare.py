"""Comparison of computed values with the `expected` fields of a conformance case."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.accounting.curves import RdpCurve

# Claims about the computed values themselves, stated among the tolerances.
CLAIMS = (
  'achieved_epsilon_must_be_at_most_target',
  'exact_must_not_exceed_bound',
  'rdp_bound_must_be_at_least_pld',
)
_RANGES = ('_rel_low', '_rel_high', '_rel')
_NO_TOLERANCE = 1e-6
_ZERO = 1e-12
_EPSILON_HIGH = 5e-3
_ORDER_REL = 1e-3  # the optimum is flat: orders that near give one epsilon


def unknown_tolerances(tolerance: Mapping[str, Any]) -> list[str]:
  """Returns the entries of a case's tolerance that mean nothing here."""
  return [
    key
    for key in tolerance
    if key not in (*CLAIMS, 'exact_int', 'rel') and not key.endswith(_RANGES)
  ]


def resolve(value: Any, expected: Any) -> Any:
  """Returns a computed value in the form of the expected one.

  A callable is called; a curve is evaluated at the orders that are expected.
  """
  if isinstance(value, RdpCurve):
    if not isinstance(expected, Mapping):
      return value.provenance
    return {order: float(value.rdp(float(order))) for order in expected}
  return value() if callable(value) else value


def matches(field: str, computed: Any, expected: Any, tolerance: Mapping[str, Any]) -> bool:
  """Says whether a computed field agrees with the expected one.

  Args:
    field: Name of the field; its tolerance is the entry with the longest name
      that begins it (`epsilon_exact_rel` serves `epsilon_exact_gaussian`).
    computed: From `resolve`.
    expected: From the case.
    tolerance: From the case.
  """
  if isinstance(expected, Mapping):
    return (
      isinstance(computed, Mapping)
      and computed.keys() == expected.keys()
      and all(matches(field, computed[key], expected[key], tolerance) for key in expected)
    )
  if isinstance(expected, list):
    return (
      isinstance(computed, list)
      and len(computed) == len(expected)
      and all(matches(field, c, e, tolerance) for c, e in zip(computed, expected, strict=True))
    )
  if expected is None or isinstance(expected, bool | str):
    return type(computed) is type(expected) and computed == expected
  if isinstance(computed, bool) or not isinstance(computed, numbers.Real):
    return False
  if not isinstance(expected, numbers.Real):
    return False
  if isinstance(expected, int) and (tolerance.get('exact_int') or isinstance(computed, int)):
    return computed == expected
  found, reference = float(computed), float(expected)
  if math.isinf(found) or math.isinf(reference):
    return found == reference
  if reference == 0:
    return abs(found) <= _ZERO
  low, high = _range(field, tolerance)
  return -low * abs(reference) <= found - reference <= high * abs(reference)


def _range(field: str, tolerance: Mapping[str, Any]) -> tuple[float, float]:
  """Returns how far, relatively, a field may lie below and above the expected value."""
  if field == 'optimal_order':
    return _ORDER_REL, _ORDER_REL
  found: dict[str, tuple[int, float]] = {}
  for key, value in tolerance.items():
    suffix = next((s for s in _RANGES if key.endswith(s)), None)
    stem = key.removesuffix(suffix or '')
    if suffix and field.startswith(stem) and len(stem) > found.get(suffix, (-1, 0.0))[0]:
      found[suffix] = (len(stem), float(value))
  exact = found.get('_rel', (-1, 0.0))
  low, high = found.get('_rel_low', (-1, 0.0)), found.get('_rel_high', (-1, 0.0))
  if exact[0] > max(low[0], high[0]):
    return exact[1], exact[1]
  if low[0] >= 0 or high[0] >= 0:
    return low[1], high[1]
  for key in ('intermediates_rel', 'rel'):
    if key in tolerance:
      return float(tolerance[key]), float(tolerance[key])
  others = [float(v) for key, v in tolerance.items() if key.endswith('_rel')]
  if others:
    return min(others), min(others)
  return _NO_TOLERANCE, _EPSILON_HIGH if field.startswith('epsilon') else _NO_TOLERANCE

"""What the inputs of conformance cases are, by name, so that a wrong one is named."""

import math
import numbers
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.errors import ConfigurationError

_NUMBERS = frozenset(
  [
    'S',
    'beta',
    'central_variance',
    'clip',
    'colluding_fraction',
    'column_norm',
    'delta',
    'event_noise_multiplier',
    'increment',
    'l1_int',
    'l2_bound',
    'l2_int',
    'local_var',
    'local_var_int',
    'local_variance',
    'modclip_prob',
    'multiplier',
    'noise_multiplier',
    'noise_multiplier_per_clip',
    'q',
    'rho',
    'target_epsilon',
    'target_quantile',
    'target_z_eff',
    'total_noise_multiplier',
    'total_variance',
    'value_noise_multiplier',
  ]
)
_INTEGERS = frozenset(
  [
    'actual_dropouts',
    'bits',
    'cohort',
    'coordinates_shifted_by_one',
    'dim',
    'dimension',
    'expected_clients',
    'honest_survivors',
    'max_clients',
    'max_participation',
    'max_participations',
    'max_participations_per_client',
    'min_honest',
    'num_clients',
    'padded_dim',
    'participations_per_tree',
    'population',
    'rounds',
    'sampled',
    'shift',
    'tolerated_dropouts',
    'total_steps',
  ]
)
# Negative values make no sense in any kind.
_ANY_SIGN = frozenset(['increment'])
_TEXTS = frozenset(['adjacency', 'bound', 'honest_rule', 'mechanism', 'rotation', 'sampling'])
_INTEGER_LISTS = frozenset(['steps_per_tree', 'survivors_per_round'])
_NUMBER_LISTS = frozenset(['column', 'reported_zeroing_norms'])
_OPTIONAL_NUMBERS = frozenset(['clip_count_stddev', 'zero_count_stddev'])


def checked(inputs: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the inputs of a case, each of the type and sign that its name says.

  Integers may be written with a fraction of zero, as `1e6`.

  Args:
    inputs: Of a case. Names that no kind reads are not looked at.

  Raises:
    ConfigurationError: Naming the input.
  """
  found = {}
  for name, given in inputs.items():
    value = given
    if name in _INTEGERS and isinstance(given, float) and given.is_integer():
      value = int(given)
    found[name] = value
    if name in _NUMBERS or (name in _OPTIONAL_NUMBERS and value is not None):
      _require(_is_number(value), name, value, 'a finite number')
    elif name in _INTEGERS:
      _require(_is_integer(value), name, value, 'an integer')
    elif name in _TEXTS:
      _require(isinstance(value, str), name, value, 'a string')
    elif name in _INTEGER_LISTS:
      _require(_is_list(value) and all(map(_is_integer, value)), name, value, 'a list of integers')
    elif name in _NUMBER_LISTS:
      _require(_is_list(value) and all(map(_is_number, value)), name, value, 'a list of numbers')
    if name in _NUMBERS | _INTEGERS and name not in _ANY_SIGN:
      _require(value >= 0, name, value, 'at least 0')
  return found


def _require(holds: bool, name: str, value: Any, what: str) -> None:
  if not holds:
    raise ConfigurationError(f'Input `{name}` must be {what}, got {value!r}.')


def _is_list(value: Any) -> bool:
  return isinstance(value, list) and bool(value)


def _is_integer(value: Any) -> bool:
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    return False
  return abs(value) < 2**1000 and math.isfinite(value)

"""Words and findings of a ledger that its card prints: what they may be."""

import json
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.errors import ConfigurationError

NAMES = ('empirical_audit', 'example_level', 'tuning_runs')


def check_text(name: str, value: Any) -> str:
  """Returns a text that can be printed.

  Raises:
    ConfigurationError: If it is none, or holds half of a character, which no terminal prints.
  """
  try:
    if isinstance(value, str) and value.encode('utf-8') is not None:
      return value
  except UnicodeEncodeError:
    pass
  raise ConfigurationError(f'`{name}` must be words, got {value!r}.')


def check_note(name: Any, value: Any) -> None:
  """Raises unless the card can print a finding.

  Args:
    name: One of `NAMES`.
    value: For 'empirical_audit' an object, whose `audits` is a list of words; for 'example_level'
      one with `local_epochs` and `noise_multiplier`; for 'tuning_runs' a count.

  Raises:
    ConfigurationError: If it cannot.
  """
  if name not in NAMES:
    raise ConfigurationError(f'`name` must be one of {", ".join(NAMES)}, got {name!r}.')
  if name == 'tuning_runs':
    if type(value) is not int or value < 0:
      raise ConfigurationError(f'`tuning_runs` must be a count, got {value!r}.')
    return
  if not isinstance(value, Mapping):
    raise ConfigurationError(f'`{name}` must be an object, got {value!r}.')
  check_text(name, json.dumps(value, ensure_ascii=False))
  if name == 'empirical_audit':
    audits = value.get('audits', [])
    if not isinstance(audits, list | tuple) or not all(isinstance(one, str) for one in audits):
      raise ConfigurationError(f'`audits` must be a list of words, got {audits!r}.')
    return
  epochs, multiplier = value.get('local_epochs'), value.get('noise_multiplier')
  if not isinstance(epochs, int) or isinstance(epochs, bool) or not 1 <= epochs < 2**31:
    raise ConfigurationError(f'`local_epochs` must be a count, got {epochs!r}.')
  if not isinstance(multiplier, int | float) or not 0 < multiplier < 2**31:
    raise ConfigurationError(f'`noise_multiplier` must be positive, got {multiplier!r}.')


def whole(line: Mapping[str, Any], name: str, least: int, *, or_none: bool = False) -> Any:
  """An integer that a line states.

  Raises:
    KeyError: If it states none.
    ValueError: If it is not one of at least `least`, or None where that is allowed.
  """
  value = line[name]
  if (type(value) is int and value >= least) or (value is None and or_none):
    return value
  raise ValueError(f'`{name}` is {value!r}')

"""Argument checks: each names the argument, shows the value, says what is allowed."""

import difflib
import functools
import math
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

from tff_privacy_agg.errors import ConfigurationError

_LONGEST = 200  # characters of a value in a message
_MOST_NOISE = 1e12  # far above any use, far below where its square leaves float64
_Made = TypeVar('_Made', bound=Callable[..., Any])


def plain_numbers(made: _Made) -> _Made:
  """Turns NumPy's numbers among the arguments of a function or a constructor into Python's.

  NumPy's wrap beyond 64 bits, compute in their own precision, and are not JSON.

  Args:
    made: The function, or the class whose constructor takes the arguments.
  """
  call: Callable[..., Any] = made.__init__ if isinstance(made, type) else made  # type: ignore[misc]

  @functools.wraps(call)
  def plain(*arguments: Any, **named: Any) -> Any:
    return call(*map(_plain, arguments), **{name: _plain(one) for name, one in named.items()})

  if not isinstance(made, type):
    return plain  # type: ignore[return-value]
  made.__init__ = plain  # type: ignore[misc]
  return made  # type: ignore[return-value]


def _plain(value: Any) -> Any:
  if not (isinstance(value, numbers.Real) and type(value).__module__ == 'numpy'):
    return value
  return int(value) if isinstance(value, numbers.Integral) else float(value)


def _shown(value: Any) -> str:
  """A value on one line of a message."""
  text = ' '.join(repr(value).split())
  return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}...'


def _number(name: str, value: Any) -> None:
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise ConfigurationError(f'`{name}` must be a number, got {_shown(value)}.')
  try:
    float(value)
  except OverflowError:
    raise ConfigurationError(f'`{name}` is {_shown(value)}, too large for a number.') from None


def positive(**values: Any) -> None:
  """Raises unless every value is a finite number above zero."""
  for name, value in values.items():
    _number(name, value)
    if not (math.isfinite(value) and value > 0):
      raise ConfigurationError(f'`{name}` must be finite and positive, got {_shown(value)}.')


def noise_multiplier(value: Any) -> None:
  """Raises unless a noise multiplier is a positive number of at most 1e12."""
  positive(noise_multiplier=value)
  if value > _MOST_NOISE:
    raise ConfigurationError(
      f'`noise_multiplier` must be at most {_MOST_NOISE:g}, got {_shown(value)}: so much noise leaves '
      'nothing of a sum. Lower it.'
    )


def non_negative(**values: Any) -> None:
  """Raises unless every value is a finite number of at least zero."""
  for name, value in values.items():
    _number(name, value)
    if not (math.isfinite(value) and value >= 0):
      raise ConfigurationError(f'`{name}` must be finite and not negative, got {_shown(value)}.')


def non_negative_or_infinite(**values: Any) -> None:
  """Raises unless every value is a number of at least zero; infinity is one."""
  for name, value in values.items():
    if value != math.inf:
      non_negative(**{name: value})


def at_least(lowest: int, **values: Any) -> None:
  """Raises unless every value is an integer of at least `lowest`."""
  for name, value in values.items():
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
      raise ConfigurationError(f'`{name}` must be an integer, got {_shown(value)}.')
    _number(name, value)  # one too large for a float ends in an error where it is divided
    if value < lowest:
      raise ConfigurationError(f'`{name}` must be at least {lowest}, got {_shown(value)}.')


def fraction(**values: Any) -> None:
  """Raises unless every value lies strictly between 0 and 1."""
  for name, value in values.items():
    _number(name, value)
    if not 0 < value < 1:
      raise ConfigurationError(f'`{name}` must lie strictly between 0 and 1, got {_shown(value)}.')


def below_one(**values: Any) -> None:
  """Raises unless every value is a number of at least 0 and below 1."""
  for name, value in values.items():
    _number(name, value)
    if not 0 <= value < 1:
      raise ConfigurationError(f'`{name}` must be at least 0 and below 1, got {_shown(value)}.')


def delta_of(clients: int, delta: Any, name: str = 'population', what: str = 'delta') -> None:
  """Raises unless `delta` lies strictly between 0 and one over the number of clients.

  Args:
    clients: How many there are, at least 1.
    delta: What was given.
    name: What the message calls their number.
    what: What it calls the delta.
  """
  fraction(**{what: delta})
  if delta >= 1 / clients:
    raise ConfigurationError(
      f'`{what}` must be below 1/{name} = {1 / clients:g}, got {delta!r}. A delta that large '
      "permits publishing one client's data. A tenth of it is the usual choice."
    )


def default_delta(clients: int) -> float:
  """A tenth of one over the number of clients, which is refused for fewer than ten."""
  if clients < 10:
    raise ConfigurationError(
      f'`delta` has no default for fewer than 10 clients, got {clients}: a tenth of one over them is '
      f"{0.1 / clients:.2g}, and a delta that large permits publishing one client's data. Give "
      '`delta`, at most 0.01.'
    )
  return 0.1 / clients


def several(**values: Any) -> None:
  """Raises unless every value is a list, a tuple or the like; one string is a single thing."""
  for name, value in values.items():
    if isinstance(value, str | bytes | dict) or not hasattr(value, '__iter__'):
      raise ConfigurationError(f'`{name}` must be a list, got {_shown(value)}.')


def one_of(options: tuple, **values: Any) -> None:
  """Raises unless every value is one of `options`."""
  for name, value in values.items():
    if value not in options:
      allowed = ', '.join(repr(option) for option in options)
      words = [option for option in options if isinstance(option, str)]
      near = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
      hint = f' Did you mean {near[0]!r}?' if near else ''
      raise ConfigurationError(f'`{name}` must be one of {allowed}, got {_shown(value)}.{hint}')


def instance(kind: type, **values: Any) -> None:
  """Raises unless every value is an instance of `kind`."""
  for name, value in values.items():
    if not isinstance(value, kind):
      raise ConfigurationError(f'`{name}` must be a {kind.__name__}, got {_shown(value)}.')

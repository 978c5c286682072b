"""Functions that a user names: data, models, processes."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError


def entry_point(name: str, directory: str | os.PathLike[str]) -> Callable[[], Any]:
  """The function `module:function`, looked up in a directory first.

  Returns:
    The function; what it raises comes as a `ConfigurationError`.

  Raises:
    ConfigurationError: If there is none.
  """
  module, colon, function = name.partition(':')
  where = os.path.abspath(directory)
  if where not in sys.path:
    sys.path.insert(0, where)
  try:
    if not colon:
      raise ValueError('no colon in it')
    found = getattr(importlib.import_module(module), function)
    if not callable(found):
      raise TypeError('no function')
  except Exception as error:
    raise ConfigurationError(
      f'{name!r} does not name a `module:function` ({type(error).__name__}: {error}). Correct the '
      'name, or its module.'
    ) from error

  def call() -> Any:
    try:
      return found()
    except PrivacyAggError:
      raise
    except Exception as error:
      raise ConfigurationError(
        f'The entry point {name!r} was called; it failed with {type(error).__name__}: {error}. Fix '
        'the function, or what it reads.'
      ) from error

  return call

"""Functions that a user names on the command line."""

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

from tff_privacy_agg.errors import ConfigurationError


def entry_point(name: str) -> Callable[[], Any]:
  """The function `module:function`, looked up in the working directory, too.

  Raises:
    ConfigurationError: If there is none.
  """
  module, _, function = name.partition(':')
  if os.getcwd() not in sys.path:  # an installed command does not have it
    sys.path.insert(0, os.getcwd())
  try:
    found = getattr(importlib.import_module(module), function)
  except (ImportError, AttributeError) as error:
    raise ConfigurationError(
      f'A function was asked for as `module:function`; {name!r} gives none ({error}). Correct '
      'the name, or run where the module is.'
    ) from error
  return found

"""Names of a package that load when they are first used."""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tff_privacy_agg.errors import RuntimeUnavailableError


@contextlib.contextmanager
def tff_named() -> Iterator[None]:
  """Says how to get TFF, where a module could not be imported for want of it.

  Raises:
    RuntimeUnavailableError: If that is so.
  """
  try:
    yield
  except ModuleNotFoundError:
    try:
      importlib.import_module('tff_privacy_agg._requires_tff')
    except RuntimeUnavailableError as refused:
      raise refused from None
    raise


def lazy_names(
  package: str, homes: Mapping[str, Sequence[str]], moved: Mapping[str, str] | None = None
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
  """The face of a package whose names are imported on first use.

  A command can then start, and say what is missing, without TensorFlow.

  Args:
    package: `__name__` of the package.
    homes: Names by the module of `tff_privacy_agg` that defines them.
    moved: Names that an earlier version had here, and where they are now.

  Returns:
    `__all__`, `__getattr__` and `__dir__` for the package.
  """
  home_of = {name: module for module, names in homes.items() for name in names}
  names = sorted(home_of)

  def find(name: str) -> Any:
    if name in home_of:
      with tff_named():
        return getattr(importlib.import_module(f'tff_privacy_agg.{home_of[name]}'), name)
    short = package.rpartition('.')[2]
    if moved and name in moved:
      raise AttributeError(f'`{short}.{name}` has moved; use `tff_privacy_agg.{moved[name]}`.')
    raise AttributeError(f'module {package!r} has no attribute {name!r}')

  return names, find, lambda: names

"""Names of a package that load when they are first used."""

import ast
import contextlib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tff_privacy_agg.errors import RuntimeUnavailableError

# What Python's `tempfile` says where it finds none; importing TFF asks it.
NO_TEMPORARY = 'No usable temporary directory found'
SET_TMPDIR = 'Set TMPDIR to one that can be written.'


@contextlib.contextmanager
def tff_named() -> Iterator[None]:
  """Says how to get TFF, or a directory for its temporary files, where an import fails for want of it.

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
  except FileNotFoundError as error:
    if NO_TEMPORARY not in str(error):
      raise
    raise RuntimeUnavailableError(
      f'TensorFlow needs a directory for temporary files: {error.strerror}. {SET_TMPDIR}'
    ) from None


def lazy_names(
  package: str, moved: Mapping[str, str] | None = None
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
  """The face of a package whose names are imported on first use.

  A command can then start, and say what is missing, without TensorFlow. The names are those
  that the package's `__init__.py` imports `if TYPE_CHECKING:`, so type checkers, editors and
  the running program read one list. Call it in the `else` of that block: a type checker that
  saw `__getattr__` would accept every name.

  Args:
    package: `__name__` of the package.
    moved: Names that an earlier version had here, and where they are now.

  Returns:
    `__all__`, `__getattr__` and `__dir__` for the package.
  """
  home_of = _imports_for_types(inspect.getsource(sys.modules[package]))
  names = sorted(home_of)

  def find(name: str) -> Any:
    if home_of.get(name) == package:
      return importlib.import_module(f'{package}.{name}')
    if name in home_of:
      with tff_named():
        return getattr(importlib.import_module(home_of[name]), name)
    short = package.rpartition('.')[2]
    if moved and name in moved:
      raise AttributeError(f'`{short}.{name}` has moved; use `tff_privacy_agg.{moved[name]}`.')
    raise AttributeError(f'module {package!r} has no attribute {name!r}')

  return names, find, lambda: names


def _imports_for_types(source: str) -> dict[str, str]:
  """The names that a module imports `if TYPE_CHECKING:`, each with the module it is from."""
  return {
    alias.name: str(node.module)
    for block in ast.parse(source).body
    if isinstance(block, ast.If) and ast.unparse(block.test) == 'TYPE_CHECKING'
    for node in block.body
    if isinstance(node, ast.ImportFrom)
    for alias in node.names
  }

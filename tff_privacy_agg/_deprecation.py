"""Old names, which go on working with a warning."""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

Named = TypeVar('Named', bound=Callable[..., Any])


def warn_renamed(old: str, new: str, *, stacklevel: int) -> None:
  """Warns of an old name in one sentence; `stacklevel` as for `warnings.warn`, this call included."""
  warnings.warn(
    f'`{old}` is now `{new}`; the old name goes in the next minor version.',
    DeprecationWarning,
    stacklevel=stacklevel,
  )


def renamed(**new_name_of: str) -> Callable[[Named], Named]:
  """Lets a function or class take keyword arguments by their old names too.

  Args:
    **new_name_of: The new name by the old one.

  Examples:
    >>> @renamed(max_clients='cohort_maximum')
    ... def size(*, cohort_maximum):
    ...   return cohort_maximum
    >>> with warnings.catch_warnings():
    ...   warnings.simplefilter('ignore')
    ...   size(max_clients=3)
    3
  """

  def decorate(target: Named) -> Named:
    kind: Any = target if inspect.isclass(target) else None
    function = target if kind is None else kind.__init__

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
      for old in new_name_of.keys() & kwargs.keys():
        new = new_name_of[old]
        if new in kwargs:
          raise TypeError(f'`{old}` is the old name of `{new}`; both were given. Leave it out.')
        warn_renamed(old, new, stacklevel=3)
        kwargs[new] = kwargs.pop(old)
      return function(*args, **kwargs)

    if kind is None:
      return wrapper  # type: ignore[return-value]
    kind.__init__ = wrapper
    return target

  return decorate

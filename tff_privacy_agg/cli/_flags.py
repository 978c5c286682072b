"""Wording of commands: defaults in help, flags in refusals, warnings in plain sentences."""

import argparse
import contextlib
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Commands: TypeAlias = 'argparse._SubParsersAction[argparse.ArgumentParser]'
_PACKAGE = pathlib.Path(__file__).parents[1]
_ARGUMENT = re.compile(r"`(\w+)(?:\[\d+\])?`|`?\b(\w+)='?([\w.]+)'?`?")


def told(text: str, default: Any) -> str:
  """The help of an option with its default at the end."""
  if default is None:
    default = 'none'
  elif isinstance(default, list | tuple):
    default = ' '.join(map(str, default))
  return f'{text} (default: {default})'.lstrip()


def finish(parser: argparse.ArgumentParser) -> None:
  """Keeps the lines of a command's examples, adds its defaults to its help, notes its flags."""
  parser.formatter_class = argparse.RawDescriptionHelpFormatter
  flags = {}
  for action in parser._actions:
    if action.option_strings:
      flags[action.dest] = max(action.option_strings, key=len)
    if action.nargs != 0 and action.default not in (None, argparse.SUPPRESS):
      action.help = told(action.help or '', action.default)
  parser.set_defaults(flags=flags)


def named(text: str, flags: Mapping[str, str]) -> str:
  """A refusal by the library in the words of the command: `bits` is --bits there.

  Args:
    text: What names arguments.
    flags: As `finish` notes them in what is parsed.
  """

  def flag(found: re.Match) -> str:
    name, value = found[1] or found[2], found[3]
    if name not in flags:
      return found[0]
    return flags[name] if value is None else f'{flags[name]} {value}'

  return _ARGUMENT.sub(flag, text)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
  """Shows warnings of this package as notes on stderr; those of others as they are."""
  with warnings.catch_warnings():
    shown = warnings.showwarning

    def show(
      message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any
    ) -> None:
      if category is UserWarning and pathlib.Path(filename).is_relative_to(_PACKAGE):
        start = '\r\033[K' if sys.stderr.isatty() else ''  # where a line of progress may stand
        print(f'{start}note: {message}', file=sys.stderr, flush=True)
      else:
        shown(message, category, filename, *rest, **more)

    warnings.showwarning = show
    yield

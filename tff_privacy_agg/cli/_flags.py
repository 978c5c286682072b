"""How options are shown: defaults in every help, flags where a refusal names an argument."""

import argparse
import re
from collections.abc import Mapping
from typing import Any

_ARGUMENT = re.compile(r"`(\w+)`|`?\b(\w+)='?([\w.]+)'?`?")


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

"""Configuration files: TOML in sections, read strictly, for every command alike.

A key is known or refused, with the nearest known one. What is unset is left out. A key of an
earlier dialect is refused with the one that has taken its place.
"""

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from typing import Any

from tff_privacy_agg._files import read_bounded
from tff_privacy_agg.errors import ConfigurationError

_LARGEST = 2**20


def read_sections(
  path: str | os.PathLike[str],
  known: Mapping[str, Collection[str]],
  moved: Mapping[str, str],
) -> dict[str, dict[str, Any]]:
  """The sections of a file.

  Args:
    path: The file.
    known: {section: its keys}.
    moved: {'[section] key', or a key above all sections, of the earlier dialect: what to write}.

  Returns:
    {section: {key: value}}, without the sections that are not there.

  Raises:
    ConfigurationError: If the file cannot be read, or has another section or key.
  """
  try:
    content = tomllib.loads(read_bounded(path, _LARGEST).decode('utf-8'))
  except OSError as error:
    raise ConfigurationError(
      f'Cannot read the configuration {path}: {error.strerror}. Pass the path of a TOML file.'
    ) from None
  except ValueError as error:
    raise ConfigurationError(
      f'Cannot read the configuration {path}: {error}. Correct the file.'
    ) from None
  given = [
    f'[{section}] {key}' if isinstance(keys, dict) else section
    for section, keys in content.items()
    for key in (keys if isinstance(keys, dict) else [section])
  ]
  old = [f'{key!r} is now {moved[key]}' for key in given if key in moved]
  if old:
    raise ConfigurationError(f'{path} is of version 0.1: {"; ".join(old)}. Write them so.')
  for section, keys in content.items():
    if section not in known:
      named = f'[{section}]' if isinstance(keys, dict) else f'{section!r} above the sections'
      plain = section.replace('-', '_')
      where = [name for name in known if plain in known[name]]
      hint = f' Did you mean `[{where[0]}] {plain}`?' if where else _nearest(section, known)
      raise ConfigurationError(f'{path} has no {named}; its sections are {_list(known)}.{hint}')
    if not isinstance(keys, dict):
      raise ConfigurationError(f'{path}: `{section}` must be a section, `[{section}]`.')
    for key in keys:
      if key not in known[section]:
        raise ConfigurationError(
          f'{path}: [{section}] has no {key!r}; it has {_list(known[section])}.'
          f'{_nearest(key, known[section])}'
        )
  return content


def _list(names: Collection[str]) -> str:
  return ', '.join(names)


def _nearest(name: str, known: Collection[str]) -> str:
  found = difflib.get_close_matches(name.replace('-', '_'), list(known), n=1)
  return f' Did you mean {found[0]!r}?' if found else ''

"""Configuration files of servers and clients: TOML, read strictly.

Every key is known, of its type, and present unless it has a default; what is unset is left out.
Paths are relative to the file. An entry point `module:function` is looked up next to the file first.
"""

import dataclasses
import os
import pathlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from tff_privacy_agg._config_file import read_sections
from tff_privacy_agg.deployment.config_sections import (
  ClientPolicy,
  ClientProcess,
  ClientRun,
  ClientSection,
  Cohort,
  Data,
  Keys,
  Listen,
  Privacy,
  Process,
  Run,
  Session,
)
from tff_privacy_agg.deployment.served_session import Deadlines
from tff_privacy_agg.errors import ConfigurationError

File = TypeVar('File')


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig:
  """A server's file."""

  run: Run
  process: Process
  server: Listen
  keys: Keys
  privacy: Privacy
  cohort: Cohort
  session: Session
  deadlines: Deadlines


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientConfig:
  """A client's file."""

  run: ClientRun
  process: ClientProcess
  data: Data
  client: ClientSection
  keys: Keys
  policy: ClientPolicy


_PATHS = {('run', 'directory')} | {('keys', field.name) for field in dataclasses.fields(Keys)}
_MOVED = {
  '[run] process': '`[process] source`',
  '[run] evaluate': '`[process] evaluate`, a function of the model weights',
  '[run] ledger': '`[privacy] ledger`',
  '[session] clients': '`[cohort] clients_per_round`, left out for all of the roster',
  '[client] task': '`[run] task`',
  '[client] process': '`[process] source`',
  '[client] data': '`[data] source`',
  '[client] state': '`[run] directory`',
}


def read(path: str | os.PathLike[str], kind: type[File]) -> File:
  """Reads a file as `ServerConfig` or `ClientConfig`.

  Raises:
    ConfigurationError: If it cannot be read, or a key is unknown, missing or of another type.
  """
  kinds = {field.name: field.type for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
  known = {
    name: [field.name for field in dataclasses.fields(section)] for name, section in kinds.items()
  }
  content, file = read_sections(path, known, _MOVED), pathlib.Path(path)
  return kind(**{name: _section(file, name, kinds[name], content.get(name, {})) for name in kinds})


def _section(file: pathlib.Path, name: str, kind: Any, given: Mapping[str, Any]) -> Any:
  values = {}
  for field in dataclasses.fields(kind):
    key = field.name
    if key not in given:
      if field.default is dataclasses.MISSING:
        raise ConfigurationError(f'{file}: [{name}] needs `{key}`. Add it.')
      continue
    value, wanted = given[key], _type_of(field)
    if wanted is float and type(value) is int:
      try:
        value = float(value)
      except OverflowError:
        raise ConfigurationError(f'{file}: [{name}] `{key}` is too large a number.') from None
    if type(value) is not wanted:
      raise ConfigurationError(
        f'{file}: [{name}] `{key}` must be of type {wanted.__name__}, got {value!r}.'
      )
    values[key] = str(file.parent.absolute() / value) if (name, key) in _PATHS else value
  try:
    return kind(**values)
  except ConfigurationError as error:
    raise ConfigurationError(f'{file}: [{name}] {error}') from error


def _type_of(field: Any) -> Any:
  """The type of a field that is set: that of `str | None` is `str`."""
  if isinstance(field.type, types.UnionType):
    return next(one for one in typing.get_args(field.type) if one is not type(None))
  return field.type

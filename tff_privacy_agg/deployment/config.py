"""Configuration files of servers and clients: TOML, read strictly.

Every key is known, of its type, and present unless it has a default. Paths are relative to
the file. An entry point `module:function` is looked up beside the file first.
"""

import dataclasses
import os
import pathlib
import tomllib
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg.deployment.served_session import Deadlines
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import params

Section = TypeVar('Section')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
  """Section `[keys]`: files of `tff-privacy-agg keys`."""

  ca: str
  certificate: str
  key: str
  identity: str
  roster: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """Section `[run]` of a server.

  Args:
    task: Name of the task.
    process: Entry point: () -> a process with `initialize` and `next`.
    rounds: Rounds in all.
    directory: Where checkpoints, metrics and the ledger go; resumes what is there.
    evaluate: Entry point: () -> a function from the state to metrics; or empty.
    ledger: Entry point: () -> `LedgerFacts`; or empty.
  """

  task: str
  process: str
  rounds: int
  directory: str
  evaluate: str = ''
  ledger: str = ''

  def __post_init__(self):
    _validate.at_least(1, rounds=self.rounds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
  """Section `[session]` of a server; as in `secagg.SessionParams`.

  Args:
    clients: Clients of a round; 0 for all of the roster.
    minimum_clients: Fewest in a sum.
    mode: 'semi_honest' or 'authenticated'.
    colluding_fraction: At most this part helps the server.
    dropout_fraction: At most this part drops out.
    verify: 'mac', or empty.
  """

  clients: int = 0
  minimum_clients: int = 3
  mode: str = 'authenticated'
  colluding_fraction: float = 0.0
  dropout_fraction: float = 0.0
  verify: str = ''

  def __post_init__(self):
    # A session checks them too, but once its clients have joined.
    _validate.at_least(3, minimum_clients=self.minimum_clients)
    if self.clients:
      _validate.at_least(self.minimum_clients, clients=self.clients)
    _validate.one_of(params.MODES, mode=self.mode)
    _validate.one_of(('', 'mac'), verify=self.verify)
    params.basis_points('colluding_fraction', self.colluding_fraction)
    params.basis_points('dropout_fraction', self.dropout_fraction)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listen:
  """Section `[server]`: where it listens, `host:port`."""

  listen: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ServerConfig:
  """A server's file."""

  run: Run
  server: Listen
  keys: Keys
  session: Session
  deadlines: Deadlines


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSection:
  """Section `[client]`.

  Args:
    name: Name in the certificate and in the roster.
    server: `host:port`.
    task: Name of the task.
    process: Entry point, as at the server.
    data: Entry point: () -> a `tf.data.Dataset` of this client's batches.
    state: Directory for what the client must remember between runs.
    reconnect_seconds: How long to look for a server that is not there.
  """

  name: str
  server: str
  task: str
  process: str
  data: str
  state: str
  reconnect_seconds: float = 60.0

  def __post_init__(self):
    _validate.non_negative(reconnect_seconds=self.reconnect_seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientPolicy(secagg.Policy):
  """Section `[policy]` of a client: what it insists on, whatever the server offers.

  Args:
    authenticated: Whether only the authenticated mode is good enough; here it is, unless the
      file says otherwise.
  """

  authenticated: bool = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientConfig:
  """A client's file."""

  client: ClientSection
  keys: Keys
  policy: ClientPolicy


_PATHS = {('run', 'directory'), ('client', 'state')} | {
  ('keys', field.name) for field in dataclasses.fields(Keys)
}


def read(path: str | os.PathLike[str], kind: type[Section]) -> Section:
  """Reads a file as `ServerConfig` or `ClientConfig`.

  Raises:
    ConfigurationError: If it cannot be read, or a key is unknown, missing or of another type.
  """
  wanted = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
  content, file = read_toml(path, 'the file', wanted), pathlib.Path(path)
  sections = {name: _section(file, name, field.type, content) for name, field in wanted.items()}
  return kind(**sections)


def read_toml(path: str | os.PathLike[str], where: str, known: Collection[str]) -> dict[str, Any]:
  """What a TOML file holds.

  Args:
    path: The file.
    where: What has its keys, for messages.
    known: The keys that it may have.

  Raises:
    ConfigurationError: If it cannot be read, or has another key.
  """
  try:
    content = tomllib.loads(pathlib.Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError) as error:
    raise ConfigurationError(
      f'A configuration was to be read; {path} cannot be: {error}. Correct the file.'
    ) from None
  _known(path, where, content, known)
  return content


def _section(file: pathlib.Path, name: str, kind: Any, content: Mapping[str, Any]) -> Any:
  given = content.get(name, {})
  if not isinstance(given, dict):
    raise ConfigurationError(f'{file}: `{name}` must be a section, `[{name}]`.')
  fields = {field.name: field for field in dataclasses.fields(kind)}
  _known(file, f'[{name}]', given, fields)
  values = {}
  for key, field in fields.items():
    if key not in given:
      if field.default is dataclasses.MISSING:
        raise ConfigurationError(f'{file}: [{name}] needs `{key}`. Add it.')
      continue
    value = given[key]
    if field.type is float and isinstance(value, int) and not isinstance(value, bool):
      value = float(value)
    if type(value) is not field.type:
      raise ConfigurationError(
        f'{file}: [{name}] `{key}` must be of type {field.type.__name__}, got {value!r}.'
      )
    values[key] = str(file.parent.absolute() / value) if (name, key) in _PATHS else value
  try:
    return kind(**values)
  except ConfigurationError as error:
    raise ConfigurationError(f'{file}: [{name}] {error}') from error


def _known(path: Any, where: str, given: Mapping[str, Any], known: Collection[str]) -> None:
  unknown = sorted(set(given) - set(known))
  if unknown:
    raise ConfigurationError(
      f'{path}: {where} has no {", ".join(map(repr, unknown))}; it has {", ".join(known)}.'
    )

"""The sections of configuration files, each with what its values must be."""

import dataclasses
import os
import pathlib

from tff_privacy_agg import _validate, secagg
from tff_privacy_agg.deployment.standing import STRIKES
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
  """Section `[keys]`: files of `tff-privacy-agg keys`."""

  ca: str
  certificate: str
  key: str
  identity: str
  roster: str

  @classmethod
  def of(cls, directory: str | os.PathLike[str], name: str) -> 'Keys':
    """The files of one party, as `make_keys` names them.

    Args:
      directory: Where `make_keys`, or `tff-privacy-agg keys`, wrote.
      name: 'server', or the name of a client.
    """
    where = pathlib.Path(directory)
    files = {
      'ca': 'ca.pem',
      'certificate': f'{name}.pem',
      'key': f'{name}.key',
      'identity': f'{name}.identity',
      'roster': 'roster.json',
    }
    return cls(**{key: str(where / file) for key, file in files.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
  """Section `[run]` of a server.

  Args:
    task: Name of the task.
    rounds: Rounds in all.
    directory: Where checkpoints, metrics and the ledger go; resumes what is there.
  """

  task: str
  rounds: int
  directory: str

  def __post_init__(self) -> None:
    _validate.at_least(1, rounds=self.rounds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
  """Section `[process]` of a server.

  Args:
    source: Entry point: () -> a process with `initialize` and `next`.
    evaluate: Entry point: () -> a function from the model weights to metrics.
  """

  source: str
  evaluate: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Privacy:
  """Section `[privacy]` of a server.

  Args:
    ledger: Entry point: () -> `LedgerFacts`, for a process that does not know its own.
  """

  ledger: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cohort:
  """Section `[cohort]` of a server.

  Args:
    clients_per_round: Most clients of a round; all of the roster by default.
    strikes: Times that a client may send what no honest client sends before it is out of the run;
      0 for any number.
  """

  clients_per_round: int | None = None
  strikes: int = STRIKES

  def __post_init__(self) -> None:
    _validate.at_least(0, strikes=self.strikes)
    if self.clients_per_round is not None:
      _validate.at_least(3, clients_per_round=self.clients_per_round)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
  """Section `[session]` of a server; as in `secagg.SessionParams`.

  Args:
    minimum_clients: Fewest in a sum.
    mode: 'semi_honest' or 'authenticated'.
    colluding_fraction: At most this part helps the server.
    dropout_fraction: At most this part drops out.
    verify: 'mac', for clients that check the published sum.
    version: Version of the protocol.
  """

  minimum_clients: int = 3
  mode: str = 'authenticated'
  colluding_fraction: float = 0.0
  dropout_fraction: float = 0.0
  verify: str | None = None
  version: int = params.VERSIONS[-1]

  def __post_init__(self) -> None:
    # A session checks them too, but once its clients have joined.
    _validate.at_least(3, minimum_clients=self.minimum_clients)
    _validate.one_of(params.MODES, mode=self.mode)
    if self.verify is not None:
      _validate.one_of(('mac',), verify=self.verify)
    _validate.one_of(params.VERSIONS, version=self.version)
    params.basis_points('colluding_fraction', self.colluding_fraction)
    params.basis_points('dropout_fraction', self.dropout_fraction)


def check_address(name: str, address: str) -> tuple[str, int]:
  """The host and the port of an address to listen on.

  Raises:
    ConfigurationError: If it is none.
  """
  # Taken modulo 2**16 where it is opened: 70000 would serve on 4464.
  host, _, port = address.rpartition(':')
  if not host or not (port.isascii() and port.isdigit()) or int(port) >= 2**16:
    raise ConfigurationError(
      f'`{name}` must be `host:port` with a port of 0 to 65535, got {address!r}.'
    )
  return host, int(port)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Listen:
  """Section `[server]`: where it listens, `host:port`."""

  listen: str

  def __post_init__(self) -> None:
    check_address('listen', self.listen)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientRun:
  """Section `[run]` of a client.

  Args:
    task: Name of the task, as at the server.
    directory: Where the client keeps what it must remember between runs.
  """

  task: str
  directory: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientProcess:
  """Section `[process]` of a client.

  Args:
    source: Entry point, as at the server.
  """

  source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
  """Section `[data]` of a client.

  Args:
    source: Entry point: () -> a `tf.data.Dataset` of this client's batches.
  """

  source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientSection:
  """Section `[client]`.

  Args:
    name: Name in the certificate and in the roster.
    server: `host:port`.
    reconnect_seconds: How long to look for a server that is not there.
  """

  name: str
  server: str
  reconnect_seconds: float = 60.0

  def __post_init__(self) -> None:
    _validate.positive(reconnect_seconds=self.reconnect_seconds)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientPolicy(secagg.Policy):
  """Section `[policy]` of a client: what it insists on, whatever the server offers.

  Args:
    authenticated: Whether only the authenticated mode is good enough; here it is, unless the
      file says otherwise.
  """

  authenticated: bool = True

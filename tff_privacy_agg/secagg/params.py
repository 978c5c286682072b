"""Parameters of a session, which every party must hold identically."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.errors import CapacityError, InvalidMessage, SecAggError
from tff_privacy_agg.secagg.layout import VERSIONS, Layout
from tff_privacy_agg.secagg.leaves import NAME, Leaf, bits_of_max_input
from tff_privacy_agg.secagg.primitives import keys

MODES = ('semi_honest', 'authenticated')
GRAPHS = ('complete', 'ring', 'auto')
SESSION_ID_BYTES = 32
LARGEST_SECURITY_BITS = 256
_FORMATS = {version: f'tff_privacy_agg/secagg/v{version}' for version in VERSIONS}


def context_digest(arrays: Sequence[Any]) -> bytes:
  """SHA-256 of all that was broadcast to a client, for `SessionParams.context`.

  Args:
    arrays: In one fixed order; each counts with its dtype, shape and contents.

  Examples:
    >>> tpa.secagg.context_digest([np.zeros(3)]).hex()[:16]
    'bff21197f9e7a207'
  """
  state = hashlib.sha256(keys.label('context'))
  for value in arrays:
    array = np.asarray(value)
    if array.dtype.hasobject:
      raise ConfigurationError('`arrays` must hold numbers, booleans or strings of fixed size.')
    array = np.ascontiguousarray(array, array.dtype.newbyteorder('<'))
    data = array.tobytes()
    head = json.dumps([array.dtype.str, list(np.shape(value)), len(data)]).encode()
    state.update(len(head).to_bytes(4, 'little') + head + data)
  return state.digest()


def session_salt(session_id: bytes, parameters: bytes, context: bytes) -> bytes:
  """S = SHA-256(label || session id || SHA-256(params) || context).

  Salt of every key derivation, associated data of every share, part of every
  signature: whoever was given other parameters or another model shares no key.

  Args:
    session_id: 32 bytes.
    parameters: SHA-256 of the parameters' canonical encoding.
    context: Digest of all that was broadcast.
  """
  return keys.digest('session', session_id, parameters, context)


def check_bits(**values: int) -> None:
  """Raises unless every number of bits is 1 to 256; the search for a graph grows with them."""
  _validate.at_least(1, **values)
  for name, value in values.items():
    if value > LARGEST_SECURITY_BITS:
      raise ConfigurationError(f'`{name}` must be at most {LARGEST_SECURITY_BITS}, got {value}.')


def basis_points(name: str, value: float) -> int:
  """A fraction in [0, 1) of at most four decimals, as its integer multiple of 1/10000."""
  _validate.non_negative(**{name: value})
  points = Fraction(str(float(value))) * 10_000
  if points >= 10_000 or points.denominator != 1:
    raise ConfigurationError(
      f'`{name}` must be below 1 and have at most four decimals, got {value!r}.'
    )
  return int(points)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class SessionParams:
  """The parameters of one session; any difference makes the shares unreadable.

  Args:
    task: Name of the task, printable ASCII without blanks.
    round_number: Number of the training round, which grows from session to session.
    leaves: What is summed.
    mode: 'semi_honest': the server follows the protocol. 'authenticated': it may
      do anything; clients hold each other's Ed25519 keys.
    graph: 'complete', 'ring' (semi-honest only), or 'auto': the ring from 50 clients on.
    minimum_clients: Fewest clients in the sum, 3 or more.
    maximum_clients: Most clients in the session; needed for `Leaf.no_wrap`.
    colluding_fraction: gamma, at most this part of the clients helps the server.
    dropout_fraction: delta, at most this part of the clients drops out.
    sigma: Privacy fails with probability at most 2**-sigma over the graph.
    eta: The session fails for lack of shares with probability at most 2**-eta.
    verify: None, or 'mac': clients check the published sum (complete graph).
    version: Version of the protocol. 2: keys from X25519 and ML-KEM-768, so that a recorded
      session stays closed to a future quantum computer. 1: from X25519 alone, in fewer bytes.
    context: Digest of all that was broadcast to the clients; see `context_digest`.
    session_id: 32 random bytes, drawn by default; never used twice.
  """

  task: str
  round_number: int
  leaves: Sequence[Leaf]
  mode: str = 'semi_honest'
  graph: str = 'auto'
  minimum_clients: int = 3
  maximum_clients: int | None = None
  colluding_fraction: float = 0.05
  dropout_fraction: float = 0.1
  sigma: int = 40
  eta: int = 30
  verify: str | None = None
  version: int = VERSIONS[-1]
  context: bytes = b''
  session_id: bytes = dataclasses.field(default_factory=lambda: os.urandom(SESSION_ID_BYTES))

  def __post_init__(self) -> None:
    _validate.instance(str, task=self.task)
    if not NAME.fullmatch(self.task):
      raise ConfigurationError(f'`task` must be printable ASCII without blanks, got {self.task!r}.')
    _validate.at_least(0, round_number=self.round_number)
    if self.round_number >= 2**64:
      raise ConfigurationError(f'`round_number` must be below 2**64, got {self.round_number}.')
    _validate.one_of(MODES, mode=self.mode)
    _validate.one_of(GRAPHS, graph=self.graph)
    _validate.one_of((None, 'mac'), verify=self.verify)
    _validate.one_of(VERSIONS, version=self.version)
    _validate.at_least(3, minimum_clients=self.minimum_clients)
    check_bits(sigma=self.sigma, eta=self.eta)
    _validate.instance(bytes, context=self.context, session_id=self.session_id)
    if len(self.session_id) != SESSION_ID_BYTES:
      raise ConfigurationError('`session_id` must be 32 bytes; leave it out to draw them.')
    if self.graph == 'ring' and (self.authenticated or self.verify):
      raise ConfigurationError(
        "graph='ring' does not go with mode='authenticated' or verify='mac': both need every "
        "client to see every other. Use graph='complete' or 'auto'."
      )
    basis_points('colluding_fraction', self.colluding_fraction)
    basis_points('dropout_fraction', self.dropout_fraction)
    self._check_leaves()

  def _check_leaves(self) -> None:
    object.__setattr__(self, 'leaves', tuple(self.leaves))
    if not 1 <= len(self.leaves) <= 2**16:
      raise ConfigurationError(f'`leaves` must hold 1 to 65536, got {len(self.leaves)}.')
    for leaf in self.leaves:
      _validate.instance(Leaf, leaves=leaf)
    if len({leaf.name for leaf in self.leaves}) != len(self.leaves):
      raise ConfigurationError('`leaves` must have different names.')
    if self.maximum_clients is not None:
      _validate.at_least(self.minimum_clients, maximum_clients=self.maximum_clients)
    for leaf in self.leaves:
      if leaf.no_wrap is None:
        continue
      if self.maximum_clients is None:
        raise ConfigurationError(f'Leaf {leaf.name!r} states `no_wrap`; give `maximum_clients`.')
      if leaf.no_wrap * self.maximum_clients >= 2**leaf.bits:
        bits = bits_of_max_input(leaf.no_wrap, self.maximum_clients)
        raise CapacityError(
          f'Leaf {leaf.name!r} must not wrap with {counted(self.maximum_clients, "value")} up to '
          f'{leaf.no_wrap}. It has {counted(leaf.bits, "bit")}. Give it {bits}.'
        )

  @property
  def authenticated(self) -> bool:
    """Whether the server may do anything."""
    return self.mode == 'authenticated'

  @property
  def layout(self) -> Layout:
    """Sizes of the parts of the session's messages."""
    return Layout(self.version, self.verify)

  def to_bytes(self) -> bytes:
    """The canonical encoding, ASCII JSON; what parties compare and hash."""
    fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    fields['leaves'] = [dataclasses.astuple(leaf) for leaf in self.leaves]
    fields['context'] = self.context.hex()
    fields['session_id'] = self.session_id.hex()
    for name in ('colluding_fraction', 'dropout_fraction'):
      fields[name] = basis_points(name, fields[name])
    fields['format'] = _FORMATS[fields.pop('version')]
    return json.dumps(fields, sort_keys=True, separators=(',', ':')).encode('ascii')

  @classmethod
  def from_bytes(cls, data: bytes) -> 'SessionParams':
    """Reads what `to_bytes` wrote, and nothing else.

    Raises:
      InvalidMessage: If the bytes are not such an encoding.
    """
    try:
      fields = json.loads(data)
      versions = {name: version for version, name in _FORMATS.items()}
      version = versions.get(fields.pop('format'))
      if version is None:
        raise ValueError('another format')
      fields['leaves'] = [
        Leaf(name, tuple(shape), bits, no_wrap) for name, shape, bits, no_wrap in fields['leaves']
      ]
      fields['context'] = bytes.fromhex(fields['context'])
      fields['session_id'] = bytes.fromhex(fields['session_id'])
      for name in ('colluding_fraction', 'dropout_fraction'):
        fields[name] = fields[name] / 10_000
      params = cls(version=version, **fields)
      canonical = params.to_bytes() == data
    except (
      ArithmeticError,
      AttributeError,
      KeyError,
      RecursionError,
      SecAggError,
      TypeError,
      ValueError,
    ) as e:
      raise InvalidMessage(f'Session parameters were expected, got something else: {e}') from None
    if not canonical:
      raise InvalidMessage('The session parameters are not in canonical form.')
    return params

  def digest(self) -> bytes:
    """SHA-256 of the canonical encoding."""
    return hashlib.sha256(self.to_bytes()).digest()

  def salt(self) -> bytes:
    """S of this session, see `session_salt`."""
    return session_salt(self.session_id, self.digest(), self.context)

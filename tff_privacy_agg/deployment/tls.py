"""Keys of a deployment: a certificate authority, certificates, Ed25519 identities, a roster.

For tests and closed groups: whoever runs `make_keys` sees every private key. In a real
deployment each client makes its own key and has it signed.
"""

import dataclasses
import datetime
import functools
import ipaddress
import json
import os
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES

_SERVER = 'server'
_LONGEST_DAYS = 36_500
_HOST = re.compile(r'(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?')


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roster:
  """The clients that may take part, by certificate.

  Attributes:
    ids: {name in the certificate: client id}.
    keys: {client id: Ed25519 public key}.
    server_key: Ed25519 public key of the server.
  """

  ids: Mapping[str, int]
  keys: Mapping[int, bytes]
  server_key: bytes

  @classmethod
  def read(cls, path: str | os.PathLike[str]) -> 'Roster':
    """The roster in a file.

    Raises:
      ConfigurationError: If it cannot be read, or names a client, an id or a key twice.
    """
    try:
      content = json.loads(
        pathlib.Path(path).read_text(encoding='utf-8'), object_pairs_hook=_different_names
      )
      ids = {name: _client_id(one['id']) for name, one in content['clients'].items()}
      keys = {one['id']: _public_key(one['key']) for one in content['clients'].values()}
      server_key = _public_key(content['server'])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
      raise ConfigurationError(
        f'{path} is not a roster ({type(error).__name__}: {error}). Make one with `tff-privacy-agg '
        'keys`.'
      ) from None
    if len(set(ids.values())) != len(ids):
      raise ConfigurationError(f'{path} gives one id to two clients. Give each its own.')
    if len({*keys.values(), server_key}) != len(ids) + 1:
      raise ConfigurationError(f'{path} gives one key to two parties. Give each its own.')
    return cls(ids=ids, keys=keys, server_key=server_key)

  def check_client(self, name: str, certificate: str, identity: str | None) -> None:
    """Refuses a client whose files are another's, before a session with it is charged.

    Args:
      name: The client's.
      certificate: Its file.
      identity: Its file; None for a client that may do without.
    """
    if name not in self.ids:
      raise ConfigurationError(
        f'The client is {name!r}; the roster has {", ".join(self.ids)}. Correct the name, or the roster.'
      )
    named = _name_in(_read(certificate))
    if named != name:
      raise ConfigurationError(
        f'The client is {name!r}; {certificate} is a certificate of {named!r}. Correct the name, '
        "or take the client's own files."
      )
    if identity is None:
      return
    key = Ed25519PrivateKey.from_private_bytes(read_identity(identity)).public_key()
    if key.public_bytes_raw() != self.keys[self.ids[name]]:
      raise ConfigurationError(
        f'{identity} is not the identity that the roster has for {name!r}. Take the files that '
        'were made with this roster.'
      )


def _different_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  found = dict(pairs)
  if len(found) != len(pairs):
    raise ValueError(f'{", ".join(name for name, _ in pairs)} are not different names')
  return found


def _client_id(value: Any) -> int:
  if type(value) is not int or not 0 <= value < 2**32:
    raise ValueError(f'{value!r:.40} is no id of 0 to 2**32 - 1')
  return value


def _public_key(text: str) -> bytes:
  data = bytes.fromhex(text)
  if len(data) != KEY_BYTES:
    raise ValueError(f'{text!r:.80} is no key of {KEY_BYTES} bytes')
  return data


@_validate.plain_numbers
def make_keys(
  directory: str | os.PathLike[str],
  clients: Sequence[str],
  *,
  hosts: Sequence[str] = ('localhost', '127.0.0.1'),
  days: int = 90,
) -> pathlib.Path:
  """Makes a test authority with certificates and identities for a server and its clients.

  Files: `ca.pem`, `roster.json` (both public), and for `server` and each client NAME:
  `NAME.pem`, `NAME.key` (TLS) and `NAME.identity` (Ed25519), the latter two with mode 0600.
  The authority's own key is not kept.

  Args:
    directory: Where they go; made if missing.
    clients: Names of the clients: letters, digits, `-`, `_` and `.`.
    hosts: Names and addresses under which clients reach the server.
    days: How long the certificates are valid.

  Returns:
    The directory.

  Raises:
    ConfigurationError: If a name will not do, a file is there already, or this system cannot
      keep files from other users.

  Examples:
    >>> with tempfile.TemporaryDirectory() as directory:
    ...   keys = tpa.deployment.make_keys(f'{directory}/keys', ['north', 'south'])
    ...   print(len(list(keys.iterdir())))
    11
  """
  if sys.platform == 'win32':
    raise ConfigurationError(
      f'Keys cannot be made on this system ({sys.platform}), which has no file modes that keep them from '
      'other users. Make them on Linux or macOS.'
    )
  _validate.at_least(1, days=days)
  if days > _LONGEST_DAYS:
    raise ConfigurationError(f'`days` must be at most {_LONGEST_DAYS}, got {days}.')
  if isinstance(hosts, str) or not hosts or not all(map(_is_host, hosts)):
    raise ConfigurationError(
      f'`hosts` must be one or more addresses, or names of ASCII letters, digits, - and ., got {hosts!r}. '
      'Write a name in other letters as `xn--...`.'
    )
  _validate.several(clients=clients)
  names = list(clients)
  for name in names:
    plain = name.replace('-', '').replace('_', '').replace('.', '')
    if not (plain.isascii() and plain.isalnum()) or len(name) > 60 or name in (_SERVER, 'ca'):
      raise ConfigurationError(
        f'`clients` must be names of at most 60 letters, digits, -, _ and . other than {_SERVER!r} '
        f"and 'ca', got {name!r}."
      )
  if len(set(names)) != len(names) or not names:
    raise ConfigurationError(f'`clients` must be one or more different names, got {names}.')
  where = pathlib.Path(directory)
  where.mkdir(parents=True, exist_ok=True)
  if any(where.iterdir()):
    raise ConfigurationError(
      f'Keys are never overwritten, and {where} is not empty. Choose another directory.'
    )
  authority = _Authority(days)
  public: dict[str, str] = {}
  files: dict[str, tuple[bytes, int]] = {}
  for name in [_SERVER, *names]:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority.certify(name, key, hosts if name == _SERVER else ())
    identity = Ed25519PrivateKey.generate()
    files[f'{name}.pem'] = _pem(certificate), 0o644
    files[f'{name}.key'] = _private_pem(key), 0o600
    files[f'{name}.identity'] = _private_pem(identity), 0o600
    public[name] = identity.public_key().public_bytes_raw().hex()
  members = {name: {'id': index, 'key': public[name]} for index, name in enumerate(names)}
  roster = {'server': public[_SERVER], 'clients': members}
  files['ca.pem'] = _pem(authority.certificate), 0o644
  files['roster.json'] = (json.dumps(roster, indent=2) + '\n').encode(), 0o644
  written: list[pathlib.Path] = []
  try:
    for name, (content, mode) in files.items():
      _write(where / name, content, mode)
      written.append(where / name)
  except BaseException:
    for path in written:  # half a set serves nobody, and would refuse the next one
      path.unlink(missing_ok=True)
    raise
  return where


class _Authority:
  """Signs certificates; its key lives as long as this object."""

  def __init__(self, days: int):
    self._key = ec.generate_private_key(ec.SECP256R1())
    # A clock that is a little behind must not refuse a fresh certificate.
    self._from = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    self._until = self._from + datetime.timedelta(days=days)
    self._name = _name('tff_privacy_agg test authority')
    builder = self._builder(self._name, self._key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    self.certificate = builder.sign(self._key, hashes.SHA256())

  def certify(
    self, name: str, key: ec.EllipticCurvePrivateKey, hosts: Sequence[str]
  ) -> x509.Certificate:
    usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = self._builder(_name(name), key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
    if hosts:
      alternatives = x509.SubjectAlternativeName([_host(host) for host in hosts])
      builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(self._key, hashes.SHA256())

  def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
      issuer_name=self._name,
      subject_name=name,
      public_key=key.public_key(),
      serial_number=x509.random_serial_number(),
      not_valid_before=self._from,
      not_valid_after=self._until,
    )


def _name(text: str) -> x509.Name:
  return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(host: str) -> x509.GeneralName:
  try:
    return x509.IPAddress(ipaddress.ip_address(host))
  except ValueError:
    return x509.DNSName(host)


def _is_host(text: Any) -> bool:
  try:
    ipaddress.ip_address(text)
  except ValueError:
    return isinstance(text, str) and len(text) <= 253 and bool(_HOST.fullmatch(text))
  return True


def _pem(certificate: x509.Certificate) -> bytes:
  return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: PrivateKeyTypes) -> bytes:
  return key.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
  )


def _write(path: pathlib.Path, data: bytes, mode: int) -> None:
  # Never readable by others, not even for a moment.
  handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
  try:
    with os.fdopen(handle, 'wb') as file:
      os.fchmod(file.fileno(), mode)
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
  except OSError as error:
    error.filename = str(path)  # a full disk does not say of which file
    path.unlink()
    raise


def _read(path: str | os.PathLike[str], *, secret: bool = False) -> bytes:
  try:
    file = pathlib.Path(path)
    if secret and file.stat().st_mode & 0o077:
      raise ConfigurationError(
        f'{path} holds a private key that others on this machine can read. Run `chmod 600` on it.'
      )
    return file.read_bytes()
  except OSError as error:
    raise ConfigurationError(
      f'Cannot read the key file {path}: {error.strerror}. Make keys with `tff-privacy-agg keys`, '
      'or correct the path.'
    ) from None


def server_credentials(ca: str, certificate: str, key: str) -> grpc.ServerCredentials:
  """TLS of a server that talks to clients of the authority only.

  Raises:
    ConfigurationError: If a file cannot be read, or a private key is readable by others.
  """
  authority, chain, private = _tls_files(ca, certificate, key)
  return grpc.ssl_server_credentials([(private, chain)], authority, require_client_auth=True)


def channel_credentials(ca: str, certificate: str, key: str) -> grpc.ChannelCredentials:
  """TLS of a client that talks to a server of the authority only.

  Raises:
    ConfigurationError: If a file cannot be read, or the private key is readable by others.
  """
  authority, chain, private = _tls_files(ca, certificate, key)
  return grpc.ssl_channel_credentials(authority, private, chain)


def _tls_files(ca: str, certificate: str, key: str) -> tuple[bytes, bytes, bytes]:
  """What these files hold, once it is what it must be.

  gRPC says of a broken file that there is no server; over an empty one it ends the program.
  """
  private, chain, authority = _read(key, secret=True), _read(certificate), _read(ca)
  _certificate(ca, authority)
  public = _certificate(certificate, chain).public_key()
  if _private_key(key, private).public_key() != public:
    raise ConfigurationError(
      f'{key} is not the private key of the certificate {certificate}. Give both of one party.'
    )
  return authority, chain, private


def _certificate(path: str, data: bytes) -> x509.Certificate:
  try:
    return x509.load_pem_x509_certificates(data)[0]
  except ValueError:
    raise ConfigurationError(
      f'{path} is not a certificate in PEM. Make keys with `tff-privacy-agg keys`, or correct the '
      'path.'
    ) from None


def _private_key(path: str, data: bytes) -> Any:
  try:
    return serialization.load_pem_private_key(data, None)
  except (ValueError, TypeError, UnsupportedAlgorithm):
    raise ConfigurationError(
      f'{path} is not a private key in PEM without a password. Make keys with `tff-privacy-agg '
      'keys`, or correct the path.'
    ) from None


def read_identity(path: str) -> bytes:
  """The 32 raw bytes of an Ed25519 private key in PKCS8.

  Raises:
    ConfigurationError: If the file is none, or readable by others.
  """
  data = _read(path, secret=True)
  try:
    key = serialization.load_pem_private_key(data, None)
  except (ValueError, TypeError):
    key = None
  if not isinstance(key, Ed25519PrivateKey):
    raise ConfigurationError(
      f'{path} is not an Ed25519 private key in PKCS8. Make identities with `tff-privacy-agg keys`.'
    )
  return key.private_bytes_raw()


def common_name(peer: Mapping[str, Sequence[bytes]]) -> str:
  """The one name in a peer's certificate; empty if it has none, or several.

  gRPC tells the first of several, and an authority may have checked another.
  """
  return _name_in((*peer.get('x509_pem_cert', ()), b'')[0])


@functools.lru_cache(2**10)
def _name_in(certificate: bytes) -> str:
  try:
    subject = x509.load_pem_x509_certificate(certificate).subject
  except ValueError:
    return ''
  names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
  return str(names[0].value) if len(names) == 1 else ''

"""Makes the keys of a deployment: a certificate authority, certificates, Ed25519 identities, a roster.

For tests and closed groups: whoever runs `make_keys` sees every private key. In a real
deployment each client makes its own key and has it signed.
"""

import datetime
import ipaddress
import json
import os
import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError

_SERVER = 'server'
_LONGEST_DAYS = 36_500
_HOST = re.compile(r'(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.?')


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

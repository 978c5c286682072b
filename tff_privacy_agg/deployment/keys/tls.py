"""TLS of servers and clients from the files of their keys, each checked first."""

import datetime
import functools
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from tff_privacy_agg._files import read_bounded
from tff_privacy_agg.errors import ConfigurationError

_LARGEST = 2**20


def read_key_file(path: str | os.PathLike[str], *, secret: bool = False) -> bytes:
  """What a file holds.

  Raises:
    ConfigurationError: If it cannot be read; if `secret`, if others can read it.
  """
  try:
    file = pathlib.Path(path)
    if secret and file.stat().st_mode & 0o077:
      raise ConfigurationError(
        f'{path} holds a private key that others on this machine can read. Run `chmod 600` on it.'
      )
    return read_bounded(file, _LARGEST)
  except OSError as error:
    raise ConfigurationError(
      f'Cannot read the key file {path}: {error.strerror}. Make keys with `tff-privacy-agg keys`, '
      'or correct the path.'
    ) from None


def server_credentials(ca: str, certificate: str, key: str) -> grpc.ServerCredentials:
  """TLS of a server that talks to clients of the authority only.

  Raises:
    ConfigurationError: If a file cannot be read, a private key is readable by others, or a
      certificate is not valid at this time.
  """
  authority, chain, private = _tls_files(ca, certificate, key)
  return grpc.ssl_server_credentials([(private, chain)], authority, require_client_auth=True)


def channel_credentials(ca: str, certificate: str, key: str) -> grpc.ChannelCredentials:
  """TLS of a client that talks to a server of the authority only.

  Raises:
    ConfigurationError: If a file cannot be read, the private key is readable by others, or a
      certificate is not valid at this time.
  """
  authority, chain, private = _tls_files(ca, certificate, key)
  return grpc.ssl_channel_credentials(authority, private, chain)


class Expiry:
  """When a party's certificate ends, or its authority's if that comes first.

  Args:
    ca: File of the authorities.
    certificate: The party's file.

  Attributes:
    path: The file of the certificate that ends first.
    at: When, in UTC.

  Raises:
    ConfigurationError: If a file cannot be read.
  """

  def __init__(self, ca: str, certificate: str):
    authorities = _certificates(ca, read_key_file(ca))
    own = _certificates(certificate, read_key_file(certificate))[0].not_valid_after_utc
    last = max(one.not_valid_after_utc for one in authorities)
    self.path, self.at = (certificate, own) if own <= last else (ca, last)
    self._told = False

  def __str__(self) -> str:
    return _written(self.at)

  @property
  def passed(self) -> bool:
    """Whether the time has come."""
    return datetime.datetime.now(datetime.UTC) > self.at

  def tell(self, events: Callable[..., None]) -> None:
    """Writes an event once the time has come: connections that are open stay, new ones fail."""
    if self.passed and not self._told:
      self._told = True
      effect = 'no new connection; get a new certificate, and start this party again'
      events('certificate expired', file=self.path, at=str(self), effect=effect)


def _tls_files(ca: str, certificate: str, key: str) -> tuple[bytes, bytes, bytes]:
  """What these files hold, once it is what it must be.

  gRPC says of a broken file that there is no server; over an empty one it ends the program.
  """
  private, chain, authority = (
    read_key_file(key, secret=True),
    read_key_file(certificate),
    read_key_file(ca),
  )
  authorities, own = _certificates(ca, authority), _certificates(certificate, chain)[0]
  if _private_key(key, private).public_key() != own.public_key():
    raise ConfigurationError(
      f'{key} is not the private key of the certificate {certificate}. Give both of one party.'
    )
  now = datetime.datetime.now(datetime.UTC)
  _check_dates(certificate, [own], now)
  _check_dates(ca, authorities, now)
  return authority, chain, private


def _certificates(path: str, data: bytes) -> list[x509.Certificate]:
  try:
    return x509.load_pem_x509_certificates(data)
  except ValueError:
    raise ConfigurationError(
      f'{path} is not a certificate in PEM. Make keys with `tff-privacy-agg keys`, or correct the '
      'path.'
    ) from None


def _check_dates(
  path: str, certificates: Sequence[x509.Certificate], now: datetime.datetime
) -> None:
  """Raises unless one of a file's certificates is valid now; gRPC would say that nobody is there."""
  if any(one.not_valid_before_utc <= now <= one.not_valid_after_utc for one in certificates):
    return
  last = max(certificates, key=lambda one: one.not_valid_after_utc)
  start, end = last.not_valid_before_utc, last.not_valid_after_utc
  raise ConfigurationError(
    f"{path} is valid from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC, and this machine's "
    f'clock says {now:%Y-%m-%d %H:%M}. Get a new certificate, or set the clock.'
  )


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
  data = read_key_file(path, secret=True)
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
  return name_in((*peer.get('x509_pem_cert', ()), b'')[0])


def expiry_of_peer(peer: Mapping[str, Sequence[bytes]]) -> str:
  """When a peer's certificate ends; TLS has read it before."""
  return _written(x509.load_pem_x509_certificate(peer['x509_pem_cert'][0]).not_valid_after_utc)


def _written(time: datetime.datetime) -> str:
  return f'{time:%Y-%m-%dT%H:%M:%SZ}'


@functools.lru_cache(2**10)
def name_in(certificate: bytes) -> str:
  """The one name in a certificate in PEM; empty if it has none, or several."""
  try:
    subject = x509.load_pem_x509_certificate(certificate).subject
  except ValueError:
    return ''
  names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
  return str(names[0].value) if len(names) == 1 else ''

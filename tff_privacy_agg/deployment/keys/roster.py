"""Who may take part: names in certificates, client ids and public keys, as a file has them."""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tff_privacy_agg._files import read_bounded
from tff_privacy_agg.deployment.keys.tls import name_in, read_identity, read_key_file
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.primitives.keys import KEY_BYTES

_LARGEST = 2**28  # a million clients with names of 60 letters


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
        read_bounded(path, _LARGEST).decode('utf-8'), object_pairs_hook=_different_names
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
    named = name_in(read_key_file(certificate))
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

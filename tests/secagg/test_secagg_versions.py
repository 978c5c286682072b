"""Versions of the protocol: no downgrade, no mixture, and what an abort says in each."""

import dataclasses

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from secagg_sessions import Session, body_of, params, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.primitives import kem


def test_a_downgrade_is_refused():
  old = params(version=1)
  with pytest.raises(secagg.UnsafeParameters, match='version=1'):
    secagg.Client(old, 1)
  assert secagg.Client(old, 1, policy=secagg.Policy(version=1)).start()
  assert secagg.SessionParams.from_bytes(old.to_bytes()) == old
  with pytest.raises(ConfigurationError, match='version'):
    params(version=3)


def test_the_version_is_in_every_key():
  new = params(session_id=b's' * 32)
  old = dataclasses.replace(new, version=1)
  assert new.salt() != old.salt()
  changed = new.to_bytes().replace(b'secagg/v2', b'secagg/v1')
  assert secagg.SessionParams.from_bytes(changed) == old
  for text in (b'secagg/v0', b'secagg/v3', b'secagg/v02'):
    with pytest.raises(secagg.InvalidMessage):
      secagg.SessionParams.from_bytes(new.to_bytes().replace(b'secagg/v2', text))


@pytest.mark.parametrize('version', [1, 2])
def test_messages_of_another_version_are_refused(version):
  session = Session(
    4, version=version, client_options={'policy': secagg.Policy(version=1)}, dropout_fraction=0.25
  )
  message = session.clients[1].start()
  other = rewrap(message, body_of(message), version=3 - version)
  with pytest.raises(secagg.InvalidMessage, match=f'version {version}'):
    session.server.receive(1, other)


def test_a_session_of_two_versions_leaves_the_older_out():
  old = {c: params(session_id=b's' * 32, version=1) for c in (1, 2, 3)}
  options = {'policy': secagg.Policy(version=1)}
  session = Session(8, session_id=b's' * 32, changed=old, client_options=options)
  session.finish().assert_exact(range(4, 9))
  assert {type(error) for error in session.refused.values()} == {secagg.InvalidMessage}


def test_an_unsupported_library_is_said_so(monkeypatch):
  class Unsupported:
    @staticmethod
    def from_seed_bytes(_):
      raise UnsupportedAlgorithm('none')

  monkeypatch.setattr(kem, 'MLKEM768PrivateKey', Unsupported)
  with pytest.raises(ConfigurationError, match='version=1'):
    secagg.Client(params(), 1)
  old = params(version=1)
  assert secagg.Client(old, 1, policy=secagg.Policy(version=1)).start()


def test_an_abort_names_at_most_16_clients_and_version_1_names_none():
  error = secagg.BadShares('text', clients=range(40))
  message = wire.decode(wire.encode_abort(b's' * 32, 3, error), b's' * 32)
  assert wire.decode_abort(message.body) == (14, tuple(range(16)), 'BadShares: text')
  old = wire.decode(wire.encode_abort(b's' * 32, 3, error, 1), b's' * 32, 1)
  assert wire.decode_abort(old.body, 1) == (14, (), 'BadShares: text')
  for body in (b'', b'\0', b'\0\0', b'\0\0\1', b'\0\0\x11' + bytes(68), b'\0\0\0' + bytes(257)):
    with pytest.raises(secagg.InvalidMessage):
      wire.decode_abort(memoryview(body))

"""Who may speak for whom: certificates of clients, of servers and of other authorities."""

import contextlib
import datetime
import pathlib
import types

import deployments
import grpc
import process_ends
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from deployments import NAMES, Running, client_of, running

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment.keys import authority, tls
from tff_privacy_agg.errors import ConfigurationError, RuntimeUnavailableError


def test_another_clients_message_is_refused(deploy):
  # East holds north's certificate, and speaks as itself.
  deployment = deploy(limits=deployments.deadlines(join=1.0, work=1.0, round=1.0))
  thief = Running(client_of(deployment, 'east', certificate='north'))
  with running(deployment, ['south', 'west', 'centre']):
    with pytest.raises(secagg.NotEnoughClients):
      deployment.session(expected=4, minimum_clients=4)
    assert any('SenderMismatch' in fields['reason'] for fields in deployment.log.of('refused'))
  assert thief.join() == 0


def test_certificates_are_asked_for(deploy, keys, tmp_path):
  deployment = deploy()
  ca = (keys / 'ca.pem').read_bytes()
  stranger_keys = authority.make_keys(tmp_path / 'others', ['north', 'x', 'y'])
  without = grpc.ssl_channel_credentials(ca)
  foreign = tls.channel_credentials(
    str(keys / 'ca.pem'), *(str(stranger_keys / f'north.{kind}') for kind in ('pem', 'key'))
  )
  for credentials in (without, foreign):
    client = client_of(deployment, 'north', credentials=credentials, reconnect_seconds=0.5)
    with pytest.raises(secagg.RoundTimeout, match='does not take this certificate'):
      client.serve(None)
    client.close()
  # The server's own certificate is of the authority, but no client's.
  own = client_of(deployment, 'north', certificate='server', reconnect_seconds=0.5)
  with pytest.raises((RuntimeUnavailableError, secagg.RoundTimeout)):
    own.serve(None)
  own.close()
  assert not deployment.log.of('joined')


def test_a_certificate_with_two_names_is_nobodys(keys):
  one = x509.load_pem_x509_certificate((keys / 'north.pem').read_bytes())
  key = ec.generate_private_key(ec.SECP256R1())
  name = x509.NameAttribute(NameOID.COMMON_NAME, 'north')
  other = x509.NameAttribute(NameOID.COMMON_NAME, 'south')
  builder = x509.CertificateBuilder(
    issuer_name=one.issuer,
    subject_name=x509.Name([name, other]),
    public_key=key.public_key(),
    serial_number=1,
    not_valid_before=one.not_valid_before_utc,
    not_valid_after=one.not_valid_after_utc,
  )
  pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
  assert tls.common_name({'x509_pem_cert': [pem]}) == ''
  assert tls.common_name({'x509_pem_cert': [(keys / 'north.pem').read_bytes()]}) == 'north'
  assert tls.common_name({}) == ''


def test_a_client_does_not_talk_to_a_server_of_another_authority(deploy, keys, tmp_path):
  deployment = deploy()
  others = authority.make_keys(tmp_path / 'others', NAMES)
  credentials = tls.channel_credentials(
    str(others / 'ca.pem'), *(str(keys / f'north.{kind}') for kind in ('pem', 'key'))
  )
  client = client_of(deployment, 'north', credentials=credentials, reconnect_seconds=0.5)
  with pytest.raises(secagg.RoundTimeout):
    client.serve(None)
  client.close()


def at(monkeypatch, module, days):
  """Moves a module's clock."""

  class Clock(datetime.datetime):
    @classmethod
    def now(cls, zone=None):
      return datetime.datetime.now(zone) + datetime.timedelta(days=days)

  clock = types.SimpleNamespace(datetime=Clock, timedelta=datetime.timedelta, UTC=datetime.UTC)
  monkeypatch.setattr(module, 'datetime', clock)


@pytest.mark.parametrize('days', [-1, 91])
@pytest.mark.parametrize('make', [tls.server_credentials, tls.channel_credentials])
def test_a_party_whose_certificate_is_not_valid_now_does_not_start(keys, monkeypatch, make, days):
  files = [str(keys / one) for one in ('ca.pem', 'north.pem', 'north.key')]
  make(*files)
  at(monkeypatch, tls, days)
  with pytest.raises(ConfigurationError, match=r'north\.pem is valid from .* UTC, .* clock says'):
    make(*files)


def test_of_several_authorities_one_must_be_valid_now(keys, monkeypatch, tmp_path):
  at(monkeypatch, authority, days=-200)
  former = authority.make_keys(tmp_path / 'former', ['north']) / 'ca.pem'
  own = [str(keys / one) for one in ('north.pem', 'north.key')]
  with pytest.raises(ConfigurationError, match=r'former/ca\.pem is valid from'):
    tls.channel_credentials(str(former), *own)
  both = tmp_path / 'both.pem'
  both.write_bytes(former.read_bytes() + (keys / 'ca.pem').read_bytes())
  tls.channel_credentials(str(both), *own)


def test_a_client_says_that_the_servers_certificate_has_expired(monkeypatch, tmp_path):
  for module in (authority, tls):
    at(monkeypatch, module, days=-200)
  deployment = deployments.Deployment(authority.make_keys(tmp_path / 'keys', NAMES), tmp_path)
  log = deployments.Log()
  client = client_of(deployment, 'north', reconnect_seconds=0.5, events=log)
  with pytest.raises(secagg.RoundTimeout, match='certificate has expired'):
    client.serve(None)
  assert 'certificate has expired' in log.of('waiting')[0]['reason']
  client.close()
  deployment.close()


def test_the_first_end_of_ones_files_counts(keys, monkeypatch, tmp_path):
  at(monkeypatch, authority, days=-30)
  former = authority.make_keys(tmp_path / 'former', ['north'])
  own, others = str(keys / 'north.pem'), str(former / 'north.pem')
  for ca, certificate, first in (
    (keys / 'ca.pem', own, own),
    (keys / 'ca.pem', others, others),
    (former / 'ca.pem', own, str(former / 'ca.pem')),
  ):
    expiry = tls.Expiry(str(ca), certificate)
    assert expiry.path == first
    ends = x509.load_pem_x509_certificate(pathlib.Path(first).read_bytes()).not_valid_after_utc
    assert expiry.at == datetime.datetime.fromisoformat(str(expiry)) == ends


@pytest.fixture
def short_lived(monkeypatch, tmp_path):
  """Makes keys in which the certificate of one party ends after some seconds."""

  def make(name, seconds):
    certify = authority._Authority.certify

    def certifies(self, party, *rest):
      whole = self._until
      if party == name:
        self._until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
      try:
        return certify(self, party, *rest)
      finally:
        self._until = whole

    monkeypatch.setattr(authority._Authority, 'certify', certifies)
    return authority.make_keys(tmp_path / 'short', NAMES)

  return make


@pytest.mark.parametrize('name', ['north', 'server'])
def test_a_certificate_that_ends_ends_no_connection_and_is_told(name, short_lived, tmp_path):
  keys = short_lived(name, 3)
  deployment = deployments.Deployment(
    keys, tmp_path, limits=deployments.deadlines(join=2.0, work=2.0, round=2.0)
  )
  expiry = tls.Expiry(*deployment.files(name)[:2])
  with contextlib.ExitStack() as stack:
    clients = {}
    for one in NAMES:
      own = tls.Expiry(*deployment.files(one)[:2])
      client = client_of(deployment, one, expiry=own, reconnect_seconds=0.5)
      clients[one] = Running(client)
    stack.callback(deployment.close)
    deployments.assert_sum(deployment.session(), range(5))
    joined = {fields['name']: fields for fields in deployment.log.of('joined')}
    assert name == 'server' or joined[name]['certificate_expires'] == str(expiry)
    assert process_ends.wait_for(lambda: expiry.passed, 10)
    # Connections that are there go on.
    deployments.assert_sum(deployment.session(), range(5))
    # New ones fail: one client has lost its own.
    connection = clients['north'].client._connection
    connection._channel.close()
    connection._connect()
    deployments.assert_sum(deployment.session(minimum_clients=3), range(1, 5))
    error = clients['north'].join()
    assert isinstance(error, secagg.RoundTimeout)
    if name == 'north':
      log, said = clients['north'].client._events, f'{expiry.path} expired at {expiry}'
    else:
      log, said = deployment.log, "the server's certificate has expired"
    assert said in str(error)
    (told,) = log.of('certificate expired')
    assert (told['file'], told['at']) == (expiry.path, str(expiry))
  assert [clients[one].join() for one in NAMES[1:]] == [3] * 4

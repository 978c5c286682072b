"""Who may speak for whom: certificates of clients, of servers and of other authorities."""

import deployments
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from deployments import NAMES, Running, client_of, running

from tff_privacy_agg import secagg
from tff_privacy_agg.deployment.keys import tls
from tff_privacy_agg.deployment.keys.authority import make_keys
from tff_privacy_agg.errors import RuntimeUnavailableError


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
  stranger_keys = make_keys(tmp_path / 'others', ['north', 'x', 'y'])
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
  others = make_keys(tmp_path / 'others', NAMES)
  credentials = tls.channel_credentials(
    str(others / 'ca.pem'), *(str(keys / f'north.{kind}') for kind in ('pem', 'key'))
  )
  client = client_of(deployment, 'north', credentials=credentials, reconnect_seconds=0.5)
  with pytest.raises(secagg.RoundTimeout):
    client.serve(None)
  client.close()

"""Without the check the attack succeeds: the tests of the other files have something to find."""

import numpy as np
import pytest
from secagg_sessions import Session, body_of, params, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import receipts, tags, wire
from tff_privacy_agg.secagg.client.custody import Custody
from tff_privacy_agg.secagg.client.session import Client
from tff_privacy_agg.secagg.client.states import State
from tff_privacy_agg.secagg.client.view import View
from tff_privacy_agg.secagg.primitives import keys, packing, prg, shamir
from tff_privacy_agg.secagg.server import unmask


def test_substituted_keys_open_an_input(monkeypatch):
  """A server that plays all of a client's neighbours, towards a client that checks no signature."""
  monkeypatch.setattr(keys, 'verify', lambda *_: None)
  session = Session(3, mode='authenticated', dropout_fraction=0.0).step()
  victim, salt = session.clients[1], session.params.salt()
  layout = session.params.layout
  fakes = {peer: Custody(peer, salt, 2) for peer in (2, 3)}
  entries = [(peer, fake.advertisement.encode() + bytes(64)) for peer, fake in fakes.items()]
  shares = victim.receive(rewrap(session.incoming[1], wire.encode_entries(entries)))
  # Each fake neighbour opens its share of the victim's self mask, and sends shares of its own.
  adverts = {1: victim._custody.advertisement, **{p: f.advertisement for p, f in fakes.items()}}
  parameters, opened, sent = victim._view.parameters, [], []
  _, _, ciphertexts, offers = wire.decode_share_upload(
    memoryview(bytes(body_of(shares)[:-64])), layout, 2, 2
  )
  for (peer, fake), ciphertext, offer in zip(fakes.items(), ciphertexts, offers, strict=True):
    others = {p: advert for p, advert in adverts.items() if p != peer}
    body = fake.distribute(others, parameters, False)
    sent.append(wire.decode_share_upload(memoryview(body), layout, 2, 3 - peer)[2][0].tobytes())
    other = np.array([True, False])
    fake.open(other, [ciphertext.tobytes()], [offer.tobytes()])
    opened.append(np.frombuffer(fake._shares[0][:34], np.uint8))
  message = wire.encode(wire.Kind.SHARES, session.params.session_id, 3, b'\x03' + b''.join(sent))
  upload = body_of(victim.receive(message))[:-64]
  seed = shamir.reconstruct((1, 2), shamir.decode(np.array(opened)))
  vector = packing.unpack(wire.decode_masked(memoryview(bytes(upload)), [(70, 20)], 2)[0][0], 20)
  minus = [keys.derive(seed, salt, 'self', 1)]
  minus += [bytes(fake._pairs[1].data) for fake in fakes.values()]
  prg.add_masks([vector], [], minus)
  np.testing.assert_array_equal(vector[:70] & (2**20 - 1), session.inputs[1]['v'])


def test_a_client_that_answers_twice_gives_both_shares(monkeypatch):
  monkeypatch.setattr(Client, '_leave', lambda *_: None)
  session = Session(8).steps(3)
  client = session.clients[1]
  answers = [
    body_of(client.receive(rewrap(session.incoming[1], bitmap))) for bitmap in (b'\x7f', b'\x7e')
  ]
  assert client.state is State.MASKED
  both = bytes(answers[0][1:35] + answers[1][1:35])
  assert both == bytes(client._custody._shares[0])


def test_a_client_without_a_threshold_answers_for_a_set_of_two(monkeypatch):
  monkeypatch.setattr(View, 'check_survivors', lambda *_: None)
  session = Session(8).steps(3)
  assert session.clients[1].receive(rewrap(session.incoming[1], b'\x01')) is not None


def test_wrong_shares_without_a_commitment_bend_the_sum(monkeypatch):
  monkeypatch.setattr(unmask, '_is_committed', lambda *_: True)
  session = Session(8).steps(3)

  def forge(client, message):
    body = body_of(message)
    body[3] ^= 1
    return rewrap(message, body) if client == 2 else message

  session.step(up=forge)
  with pytest.raises(AssertionError):
    session.assert_exact()


def test_two_models_pass_where_the_context_is_not_in_the_keys(monkeypatch):
  monkeypatch.setattr(
    secagg.SessionParams, 'salt', lambda self: keys.digest('session', self.session_id)
  )
  other = {3: params(session_id=b's' * 32, context=b'another model')}
  Session(8, session_id=b's' * 32, changed=other).finish().assert_exact(range(1, 9))


def test_a_tampered_sum_passes_where_tags_are_not_compared(monkeypatch):
  session = Session(5, verify='mac', dropout_fraction=0.2).finish()
  packed = tags.pack_leaves(session.params, session.server._collected._sum)
  forged = bytearray(packed)
  forged[0] ^= 1
  body = body_of(session.incoming[1])
  body[36:68] = receipts.sum_digest(session.params.salt(), forged)
  body[-len(packed) :] = forged
  tag = session.server._collected._sum[1] & np.uint32(2**20 - 1)
  monkeypatch.setattr(tags, 'tags', lambda *_: [tag])
  assert session.clients[1].receive(rewrap(session.incoming[1], body)) is not None


def test_unconfirmed_survivors_pass_where_nobody_counts_signatures(monkeypatch):
  monkeypatch.setattr(View, 'check_confirmations', lambda *_: None)
  session = Session(8, mode='authenticated').steps(3)
  bitmap = wire.encode_bitmap(np.array([True] * 7 + [False]))
  session.clients[1].receive(rewrap(session.incoming[1], bitmap))
  request = wire.encode(wire.Kind.UNMASK_REQUEST, session.params.session_id, 8, b'')
  body = body_of(session.clients[1].receive(request))
  assert len(body) == 1 + 7 * 34

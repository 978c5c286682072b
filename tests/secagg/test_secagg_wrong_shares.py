"""Complaints, missing and wrong shares: what the server decodes, and whom it names."""

import struct

import pytest
from secagg_sessions import MODES, Session, body_of, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.primitives import shamir


def test_a_complaint_about_a_client_that_shared_nothing_is_refused():
  session = Session(6).step().step(skip=(6,))

  def forge(client, message):
    body = body_of(message)
    return (
      rewrap(message, struct.pack('<II', 1, 1) + body[8:] + bytes([1 << 4]))
      if client == 1
      else message
    )

  session.step(up=forge, close=False)
  assert type(session.refused[1]) is secagg.InvalidMessage
  assert session.refused[1].clients == (1,)


def test_a_share_that_its_client_cannot_have_is_refused():
  session = Session(6).step().step(skip=(6,)).step()

  def forge(client, message):
    body = body_of(message)
    body[0] |= 1 << 4  # neighbour 6 of client 1 shared nothing
    return rewrap(message, body + bytes(shamir.SHARE_BYTES)) if client == 1 else message

  session.step(up=forge, close=False)
  assert type(session.refused[1]) is secagg.InvalidMessage


def test_a_share_beyond_the_field_is_refused():
  session = Session(6).steps(3)

  def forge(client, message):
    body = body_of(message)
    body[1:3], body[33] = b'\1\0', body[33] | 1  # 65537
    return rewrap(message, body) if client == 1 else message

  session.step(up=forge, close=False)
  assert type(session.refused[1]) is secagg.InvalidMessage


def test_too_few_clients_end_the_session_in_each_round():
  for rounds, error in enumerate(
    [secagg.NotEnoughClients, secagg.NotEnoughClients, secagg.NotEnoughClients]
  ):
    session = Session(4, minimum_clients=4).steps(rounds)
    with pytest.raises(error) as caught:
      session.step(skip=(1,))
    assert (caught.value.round, caught.value.clients) == (rounds, (2, 3, 4))
    assert '3 clients' in str(caught.value)
    assert '4 needed' in str(caught.value)
    assert session.server.result is None


def test_not_enough_shares_names_round_have_and_need():
  session = Session(8).steps(3)  # t = 8 - 2 - 1 = 5
  with pytest.raises(secagg.NotEnoughShares) as caught:
    session.step(skip=(1, 2, 3))
  assert str(caught.value) == 'NotEnoughShares(round=4): 4 shares for client 4, 5 needed'
  assert caught.value.clients == (4,)
  assert session.server.result is None
  with pytest.raises(secagg.SessionAborted):
    session.server.close_round()
  with pytest.raises(secagg.SessionAborted):
    session.server.receive(1, b'')
  assert not session.server._collected._sum


def test_exactly_the_threshold_is_enough():
  session = Session(8).steps(3)
  session.step(skip=(1, 2)).assert_exact(range(1, 9))


def test_an_unsafe_cohort_is_refused_in_the_first_round():
  session = Session(4, colluding_fraction=0.75)
  with pytest.raises(secagg.UnsafeParameters) as caught:
    session.step()
  assert caught.value.round == 0


def test_complaint_about_one_bad_byte_excludes_nobody():
  session = Session(8).step()

  def forge(client, message):
    body = body_of(message)
    body[32] ^= 1  # the ciphertext of client 1 for client 2
    return rewrap(message, body) if client == 1 else message

  session.step(up=forge)
  session.finish().assert_exact(range(1, 9))


@pytest.mark.parametrize('mode', MODES)
def test_too_many_complaints_name_both_sides(mode):
  session = Session(8, mode=mode).step()
  t = 5

  def break_shares(client, message):
    body = body_of(message)
    for peer in range(2, 2 + 7 - t + 1):  # k - t + 1 = 3 complainers
      body[1] ^= 1 if client == peer else 0
    return rewrap(message, body)

  session.step()
  with pytest.raises(secagg.BadShares) as caught:
    session.step(down=break_shares)
  assert caught.value.blamed == (1, 2, 3, 4)
  assert caught.value.round == 2
  assert session.server.result is None


def test_complaints_and_drop_outs_together_leave_too_few_shares():
  session = Session(8).steps(2)

  def break_shares(client, message):
    body = body_of(message)
    body[1] ^= client in (2, 3)
    return rewrap(message, body)

  # t = 5: client 1 has holders 4 .. 8, and 8 does not answer.
  with pytest.raises(secagg.NotEnoughShares) as caught:
    session.step(down=break_shares, skip=(8,))
  assert caught.value.clients == (1,)


def forge_share(n):
  """Changes the share for the first neighbour, client 1, to another one of field elements."""

  def forge(message):
    body = body_of(message)
    first = wire.bitmap_bytes(n - 1)
    for index in range(first + 2, first + 30):
      body[index] ^= 1 + (body[index - 1] + index) % 250
    # Each limb's bit 16: next to a set one, low bits other than 0 are beyond the field.
    body[first + 32 : first + shamir.SHARE_BYTES] = bytes(2)
    return rewrap(message, body)

  return forge


@pytest.mark.parametrize('liars', [[2], [2, 5], [3, 4, 6], [2, 4, 6, 8, 10]])
@pytest.mark.parametrize('dropped', [(), (1,)])
def test_wrong_shares_are_decoded_and_blamed(liars, dropped):
  # n = 13, t = 13 - 5 - 1 = 7, at most 12 shares: 2 wrong ones by decoding, 5 by trying all sets
  # of 7; up to 3 are named.
  session = Session(13, dropout_fraction=0.4).steps(2).step(skip=dropped)
  forge = forge_share(13)
  session.step(up=lambda c, m: forge(m) if c in liars else m)
  session.assert_exact([c for c in range(1, 14) if c not in dropped])
  assert session.server.result.blamed == {1: tuple(liars) if len(liars) <= 3 else ()}


@pytest.mark.parametrize('dropped', [(), (1,)])
def test_more_wrong_shares_than_can_be_told_end_the_sum_and_name_nobody(dropped):
  # n = 20, t = 12 of 19: C(19, 12) sets are too many to try; 4 wrong ones too many to decode.
  session = Session(20, dropout_fraction=0.35).steps(2).step(skip=dropped)
  forge = forge_share(20)
  with pytest.raises(secagg.BadShares) as caught:
    session.step(up=lambda c, m: forge(m) if c in range(2, 7) else m)
  assert caught.value.clients == (1,)
  assert caught.value.blame == secagg.Blame(disputes=((1, ()),))
  assert not caught.value.unopened
  assert session.server.result is None


def test_one_wrong_share_is_found_with_one_to_spare():
  # m = t + 1: no room for decoding, but the commitment tells.
  session = Session(8).steps(3)
  forge = forge_share(8)
  session.step(skip=(8,), up=lambda c, m: forge(m) if c == 2 else m)
  session.assert_exact(range(1, 9))
  assert session.server.result.blamed == {1: (2,)}


def test_a_wrong_share_without_one_to_spare_ends_the_sum():
  session = Session(8).steps(3)
  forge = forge_share(8)
  with pytest.raises(secagg.BadShares):
    session.step(skip=(7, 8), up=lambda c, m: forge(m) if c == 2 else m)


def test_wrong_commitment_is_found():
  session = Session(8).step()

  def forge(client, message):
    body = body_of(message)
    body[0] ^= 1
    return rewrap(message, body) if client == 1 else message

  session.step(up=forge).step()
  with pytest.raises(secagg.BadShares) as caught:
    session.step()
  assert caught.value.clients == (1,)

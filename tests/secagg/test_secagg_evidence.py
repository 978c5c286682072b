"""What a failed session shows of its clients, and whether it released anything."""

import pytest
from hypothesis import given, strategies as st
from secagg_sessions import MODES, Session, body_of, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import Blame


def seals_wrongly(client):
  """Right sizes, valid signature, shares that do not open."""
  cipher = client._custody._cipher
  seal = cipher.seal

  def broken(peer, associated, plaintext):
    sealed = bytearray(seal(peer, associated, plaintext))
    sealed[0] ^= 1
    return bytes(sealed)

  cipher.seal = broken


def deals_falsely(client):
  """Shares that open, and are on no polynomial: two limbs are wrong, each in its low byte."""
  cipher = client._custody._cipher
  seal = cipher.seal

  def false(peer, associated, plaintext):
    sealed = bytearray(plaintext)
    sealed[0] ^= 1 + (37 * peer**3 + 91) % 251
    sealed[17] ^= 1 + (53 * peer**4 + 17) % 251
    return seal(peer, associated, bytes(sealed))

  cipher.seal = false


@pytest.mark.parametrize('mode', MODES)
def test_all_that_seal_wrongly_are_named_at_once(mode):
  session = Session(12, mode=mode)
  for client in (2, 5):
    seals_wrongly(session.clients[client])
  session.steps(2)
  with pytest.raises(secagg.BadShares, match='and so it is with 1 further client') as caught:
    session.step()
  honest = [client for client in range(1, 13) if client not in (2, 5)]
  found = {accused: set(accusers) for accused, accusers in caught.value.blame.disputes}
  assert found == {2: {*honest, 5}, 5: {*honest, 2}}
  assert not caught.value.blame.proven
  # No client was asked for a share; of an active server that is no evidence.
  assert caught.value.unopened == (mode == 'semi_honest')


def test_false_shares_that_open_are_found_in_the_last_round_and_charged():
  session = Session(8)
  for client in (2, 5):
    deals_falsely(session.clients[client])
  with pytest.raises(secagg.BadShares) as caught:
    session.finish()
  assert caught.value.blame == Blame(disputes=((2, ()), (5, ())))
  assert not caught.value.unopened


@pytest.mark.parametrize('mode', MODES)
def test_what_no_honest_client_sends_is_proof(mode):
  session = Session(8, mode=mode).steps(1)
  session.step(up=lambda client, message: b'rubbish' if client == 3 else message)
  assert session.server.proven == {3}
  error = secagg.InputOutOfRange('too large')
  # Who leaves, and says so, proves nothing.
  session.step(up=lambda client, m: session.clients[client].abort(error) if client == 4 else m)
  session.finish(skip=(3, 4))
  assert session.server.proven == {3}


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('at', [0, 1, 2, 3, 4])
def test_a_session_is_unopened_until_the_first_request_for_shares(mode, at):
  if mode == 'semi_honest' and at == 3:
    return  # There is no such round.
  session = Session(8, mode=mode)
  while session.server.round < at:
    session.step()
  with pytest.raises(secagg.SecAggError) as caught:
    session.step(skip=range(2, 9))
  assert caught.value.round == at
  assert caught.value.unopened == (mode == 'semi_honest' and at < 3)


def test_a_false_offer_is_proof():
  session = Session(8).step()
  layout, k = session.params.layout, 7
  place = 32 + k * layout.sealed_bytes  # of the offer of client 2 to client 3

  def false(client, message):
    if client != 2:
      return message
    body = body_of(message)
    body[place] ^= 1
    return rewrap(message, body)

  session.step(up=false)
  with pytest.raises(secagg.BadShares) as caught:
    session.finish()
  assert caught.value.blame.proven == {2}


CLIENTS = range(8)


@st.composite
def disputed(draw):
  """Liars, and disputes in each of which the accused or all accusers lie."""
  liars = draw(st.sets(st.sampled_from(CLIENTS), min_size=1, max_size=4))
  disputes = []
  for accused in draw(st.lists(st.sampled_from(CLIENTS), min_size=1, unique=True)):
    others = [c for c in CLIENTS if c != accused and (accused in liars or c in liars)]
    if others:
      accusers = draw(st.sets(st.sampled_from(others), min_size=1))
      disputes.append((accused, tuple(sorted(accusers))))
  return liars, tuple(disputes)


@given(disputed())
def test_of_the_clients_in_pairs_at_least_half_lied(given_disputes):
  """So f liars cannot keep more than f honest clients out of a round."""
  liars, disputes = given_disputes
  pairs = Blame(disputes=disputes).pairs()
  out = [client for accused, accusers in pairs for client in (accused, *accusers)]
  assert len(set(out)) == len(out)
  assert 2 * len(liars & set(out)) >= len(out)
  # And each failed session costs at least one liar its place.
  assert bool(pairs) == bool(disputes)

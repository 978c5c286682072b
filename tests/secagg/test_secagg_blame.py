"""Wrong shares: the secret comes out right, and who is named did send, or deal, a wrong share."""

import numpy as np
import pytest
from secagg_sessions import Session, body_of, rewrap

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.primitives import decoding, shamir


def dealt(k, t, seed=0):
  secret = np.random.default_rng(seed).bytes(32)
  shares = shamir.decode(shamir.split([bytearray(secret)], t, k)[:, 0])
  return secret, tuple(range(1, k + 1)), shares


def recovered(points, values, t, secret):
  return decoding.recover(points, values, t, lambda found: found == secret)


@pytest.mark.parametrize(('k', 't'), [(9, 5), (31, 22), (60, 30), (120, 108), (300, 281)])
def test_as_many_wrong_shares_are_decoded_as_can_be(k, t):
  secret, points, shares = dealt(k, t)
  rng = np.random.default_rng(k)
  for wrong in range((k - t) // 2 + 1):
    liars = sorted(rng.choice(k, wrong, replace=False).tolist())
    values = shares.copy()
    values[liars] = rng.integers(0, shamir.PRIME, (wrong, shamir.LIMBS))
    found = recovered(points, values, t, secret)
    assert bytes(found.secret.data) == secret
    # Wrong shares among the first t show; beyond them nobody looks.
    if any(i < t for i in liars):
      assert (found.disputed, found.wrong) == (True, [points[i] for i in liars])
    else:
      assert (found.disputed, found.wrong) == (False, [])


def test_errors_in_one_limb_are_found():
  secret, points, shares = dealt(31, 20)
  values = shares.copy()
  values[[2, 7, 11], 13] += 1
  assert recovered(points, values % shamir.PRIME, 20, secret).wrong == [3, 8, 12]


def cancelling(points, shares, t, liars):
  """Shares of liars whose errors cancel in every set of t that leaves the first liar out."""
  values = shares.copy()
  values[liars[0]] += 1
  rest = tuple(point for i, point in enumerate(points[: t + 1]) if i != liars[0])
  weights = dict(zip(rest, shamir.weights(rest).tolist(), strict=True))
  one, other = (weights[points[i]] for i in liars[1:])
  values[liars[1]] += 1
  values[liars[2]] -= one * pow(other, -1, shamir.PRIME) % shamir.PRIME
  return values % shamir.PRIME


def test_liars_whose_errors_cancel_do_not_turn_the_blame():
  k, t, liars = 31, 20, [0, 1, 2]
  secret, points, shares = dealt(k, t)
  values = cancelling(points, shares, t, liars)
  chosen = list(range(1, t + 1))
  # The faulty rule: the t shares that give the right secret are right, all others wrong.
  assert shamir.reconstruct(tuple(points[i] for i in chosen), values[chosen]) == secret
  framed = decoding.wrong_shares(points, values, chosen)
  assert set(framed) > set(range(t + 1, k))
  found = recovered(points, values, t, secret)
  assert bytes(found.secret.data) == secret
  assert found.wrong == [1, 2, 3]


def test_where_nobody_can_be_told_nobody_is_named():
  k, t, liars = 24, 20, [0, 1, 2]
  secret, points, shares = dealt(k, t)
  found = recovered(points, cancelling(points, shares, t, liars), t, secret)
  assert bytes(found.secret.data) == secret
  assert (found.disputed, found.wrong) == (True, [])


def test_a_recovered_secret_is_not_shown():
  secret, points, shares = dealt(5, 3)
  text = repr(recovered(points, shares, 3, secret))
  assert repr(secret) not in text
  assert secret.hex() not in text


def test_a_holder_of_wrong_shares_only_costs_one_search(monkeypatch):
  session = Session(13, dropout_fraction=0.4).steps(3)
  searches = []
  original = decoding.wrong_shares
  monkeypatch.setattr(
    decoding, 'wrong_shares', lambda *args: searches.append(args) or original(*args)
  )

  def forge(client, message):
    body = body_of(message)
    first = wire.bitmap_bytes(12)
    for start in range(first, len(body), 34):
      body[start] ^= 1
    return rewrap(message, body) if client == 2 else message

  session.step(up=forge).assert_exact(range(1, 14))
  assert session.server.result.blamed == {1: (2,)}
  assert len(searches) == 1


def test_no_secret_is_searched_for_once_too_many_are_lost(monkeypatch):
  # n = 20, t = 12 of 19, at most 7 drop out: 5 liars spoil all secrets, also each other's.
  session = Session(20, dropout_fraction=0.35).steps(3)
  searches = []
  original = decoding.recover
  monkeypatch.setattr(decoding, 'recover', lambda *args: searches.append(args) or original(*args))

  def forge(client, message):
    body = body_of(message)
    for start in range(wire.bitmap_bytes(19), len(body), 34):
      body[start] ^= 1
    return rewrap(message, body) if client in range(2, 7) else message

  with pytest.raises(secagg.BadShares) as caught:
    session.step(up=forge)
  assert not caught.value.blame.disputes
  assert len(searches) == 8

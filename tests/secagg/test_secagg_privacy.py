"""What the server sees: uploads that look uniform to all but the sum."""

import numpy as np
import pytest
from secagg_sessions import Session, body_of

from tff_privacy_agg import secagg
from tff_privacy_agg.secagg import wire
from tff_privacy_agg.secagg.client.custody import Custody
from tff_privacy_agg.secagg.primitives import packing, prg

SIZE, BITS = 4096, 8
# 255 degrees of freedom: mean 255, deviation 22.6; six deviations, false alarm below 1e-7.
LIMIT = 255 + 6 * np.sqrt(2 * 255)


def chi_square(words):
  counts = np.bincount(np.asarray(words, np.uint8), minlength=256)
  expected = len(words) / 256
  return ((counts - expected) ** 2 / expected).sum()


def transcript(n=5):
  """Masked vectors of equal inputs as the server sees them, and the keys of all their masks."""
  session = Session(n, leaves=[secagg.Leaf('v', (SIZE,), BITS)], dropout_fraction=0.2)
  for client in session.clients.values():
    client.provide({'v': np.full(SIZE, 42)})
  keys, original = {}, Custody.mask_keys

  def recording(custody):
    keys[custody._id] = original(custody)
    return keys[custody._id]

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Custody, 'mask_keys', recording)
    session.steps(3)
  return {client: upload(message) for client, message in session.sent.items()}, keys


def upload(message, leaves=1, neighbours=4):
  packed, _ = wire.decode_masked(
    memoryview(bytes(body_of(message))), [(SIZE, BITS)] * leaves, neighbours
  )
  found = [packing.unpack(matrix, BITS) for matrix in packed]
  return found[0] if leaves == 1 else found


def without(vector, plus, minus):
  copy = [vector.copy()]
  prg.add_masks(copy, minus, plus)
  return copy[0]


@pytest.fixture(scope='module')
def seen():
  return transcript()


def test_uploads_look_uniform(seen):
  uploads, _ = seen
  for vector in uploads.values():
    assert chi_square(vector) < LIMIT


def test_two_uploads_look_uniform_where_all_other_inputs_are_known(seen):
  """The adversary knows all of clients 3 to 5, hence every pair mask but that of 1 and 2."""
  uploads, keys = seen
  (plus, minus) = keys[1]
  secret = [plus[0], plus[1]]  # the self mask, and the mask shared with client 2
  known = without(uploads[1], [k for k in plus if k not in secret], minus)
  assert chi_square(known) < LIMIT
  # One of the two is enough, whichever it is: t - 1 shares open neither.
  for one in secret:
    assert chi_square(without(known, [k for k in secret if k != one], [])) < LIMIT
  # Both are needed: the test has power.
  bare = without(known, secret, [])
  assert chi_square(bare) > 1000 * LIMIT
  assert set(bare.tolist()) == {42}


def test_the_two_together_give_their_sum_only(seen):
  uploads, keys = seen
  total = (uploads[1] + uploads[2]).astype(np.uint8)
  assert chi_square(total) < LIMIT
  plus = [k for c in (1, 2) for k in keys[c][0]]
  minus = [k for c in (1, 2) for k in keys[c][1]]
  assert set((without(total, plus, minus)).tolist()) == {84}
  # Without their self masks and all known pairs: the pair mask of 1 and 2 has gone, the sum stays.
  shared = keys[1][0][1]
  assert shared in keys[2][1]


def test_uploads_of_one_input_are_unrelated():
  a, b = transcript()[0][1], transcript()[0][1]
  assert chi_square(a - b) < LIMIT
  assert chi_square(a ^ b) < LIMIT


def test_leaves_have_masks_of_their_own():
  leaves = [secagg.Leaf('a', (SIZE,), BITS), secagg.Leaf('b', (SIZE,), BITS)]
  session = Session(3, leaves=leaves, dropout_fraction=0.0)
  for client in session.clients.values():
    client.provide({'a': np.zeros(SIZE, int), 'b': np.zeros(SIZE, int)})
  session.steps(3)
  a, b = upload(session.sent[1], leaves=2, neighbours=2)
  assert chi_square(a - b) < LIMIT


def test_aborts_reveal_no_sum():
  session = Session(8).steps(3)
  with pytest.raises(secagg.NotEnoughShares):
    session.step(skip=(1, 2, 3, 4))
  assert session.server.result is None
  assert session.server._collected._sum == []

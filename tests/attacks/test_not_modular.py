"""An integer sum of residues tells how many clients' values were negative."""

import numpy as np
import pytest
from attack_runs import messages, plain_layers, stack_of, sums_of

from tff_privacy_agg.aggregation.layers import SecureModularSum
from tff_privacy_agg.numerics import modular

BITS = 16


def negatives(received):
  """The attack: what is beyond the centred sum, in units of the modulus."""
  received = np.asarray(received)
  centred = modular.centre(modular.wrap(np.int64(received), BITS), BITS).numpy()
  return (received - centred) // 2**BITS


def residues(clients):
  return np.stack([SecureModularSum(bits=BITS).encode(None, {}, x)[0] for x in clients])


def test_of_the_test_the_integer_sum_counts_negatives():
  """Per coordinate: 0, 2 and 3 negative values of three clients."""
  clients = np.array([[5, -3, -1], [7, 2, -2], [1, -9, -4]])
  np.testing.assert_array_equal(negatives(residues(clients).sum(axis=0)), [0, 2, 3])


def test_of_the_test_two_cohorts_of_one_sum_are_told_apart():
  clients = np.array([[5, -3], [1, 8]]), np.array([[-4, 2], [10, 3]])
  faulty = [negatives(residues(one).sum(axis=0)) for one in clients]
  assert not np.array_equal(*faulty)
  ours = [residues(one).sum(axis=0) % 2**BITS for one in clients]
  np.testing.assert_array_equal(*ours)


def test_what_our_server_gets_tells_the_sign_of_the_sum_only():
  """With noise, the faulty sum gives each coordinate's number of negative messages exactly."""
  stack = stack_of(plain_layers(BITS, z=2.0), 500)
  sent = messages(stack, np.random.default_rng(0).normal(size=[10, 500]) / 30)
  centred = np.stack([modular.centre(one['vector'], BITS) for one in sent])
  truth = np.sum(centred < 0, axis=0)
  assert len(set(truth)) > 4
  integer_sum = np.sum([one['vector'].numpy().astype(np.int64) for one in sent], axis=0)
  np.testing.assert_array_equal(negatives(integer_sum), truth)

  received = sums_of(stack, sent)['vector'].numpy()
  assert received.min() >= 0
  assert received.max() < 2**BITS
  total = centred.sum(axis=0)
  np.testing.assert_array_equal(negatives(received), total < 0)


@pytest.mark.filterwarnings('ignore:.* bits round .* coordinates:UserWarning')
@pytest.mark.parametrize('bits', [8, 16, 30, 31, 62])
def test_every_message_is_a_residue(bits):
  stack = stack_of(plain_layers(bits, z=0.0), 50)
  for one in messages(stack, np.random.default_rng(0).normal(size=[5, 50]) * 100):
    vector, channels = one['vector'].numpy(), one['channels'].numpy()
    assert vector.min() >= 0
    assert vector.max() < 2**bits
    assert channels.min() >= 0
    assert channels.max() < 2**stack.binding.channel_bits

"""Sums: residues leave the client, centred integers come back."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from layer_cases import COHORT, HOSTILE, AnyFactory

from tff_privacy_agg.aggregation.layers import ForeignSum, PlainSum, SecureModularSum, Slot
from tff_privacy_agg.numerics import modular

SLOT = Slot(dim=3, cohort=COHORT)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 62), st.data())
def test_sum_of_residues_is_the_sum_modulo(bits, data):
  """Integers of any size that the dtype holds, three clients, exact Python arithmetic beside."""
  dtype = modular.dtype_for(bits)
  number = st.integers(int(dtype.min), int(dtype.max))
  clients = data.draw(st.lists(st.tuples(number, number), min_size=1, max_size=3))
  layer = SecureModularSum(bits=bits)
  residues = [layer.encode(SLOT, {}, tf.constant(x, dtype))[0] for x in clients]
  for one in residues:
    assert np.all((one.numpy() >= 0) & (one.numpy() < 2**bits))
  decoded = layer.decode(SLOT, {}, tf.add_n(residues), {}).numpy()
  half = 2 ** (bits - 1)
  for position, found in enumerate(decoded):
    exact = sum(x[position] for x in clients)
    assert int(found) == (exact + half) % 2**bits - half


@pytest.mark.parametrize('bits', [2, 16, 30, 31, 62])
def test_foreign_sum_wraps_as_the_secure_one(bits):
  foreign = ForeignSum(factory=AnyFactory(), modulus=2**bits)
  secure = SecureModularSum(bits=bits)
  assert foreign.width == secure.width == bits
  x = tf.constant([-3, 0, 1], modular.dtype_for(bits))
  np.testing.assert_array_equal(foreign.encode(SLOT, {}, x)[0], secure.encode(SLOT, {}, x)[0])


def test_integers_of_numpy_serve_as_arguments():
  assert ForeignSum(factory=AnyFactory(), modulus=np.int64(2**16)).width == 16
  assert SecureModularSum(bits=np.int64(16)).width == 16


@pytest.mark.parametrize('name', ['nan', 'inf', 'minus_inf', 'largest'])
def test_plain_sum_takes_a_broken_vector_as_zeros(name):
  sent, _ = PlainSum().encode(SLOT, {}, tf.constant([1.0, HOSTILE[name], 2.0]))
  np.testing.assert_array_equal(sent, np.zeros(3))


def test_plain_sum_sends_the_vector_itself():
  x = tf.constant([1.5, -2.5, 1e18])
  np.testing.assert_array_equal(PlainSum().encode(SLOT, {}, x)[0], x)

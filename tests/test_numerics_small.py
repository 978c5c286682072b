"""Small pure functions: Hadamard factors, DFT, rounding, quantiles, structures, residues."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from tff_privacy_agg.numerics import dft, hadamard, modular, quantiles, rounding, structures

SEED = tf.constant([3, 4], tf.int64)
PALEY = (12, 20, 28, 36, 44)


# Hadamard.


@pytest.mark.parametrize('order', [1, 2, 4, 8, 16, 32, 64, *PALEY])
def test_hadamard_matrices_are_orthogonal_signs(order):
  matrix = hadamard.matrix(order)
  assert matrix.shape == (order, order)
  assert set(np.unique(matrix)) <= {-1, 1}
  np.testing.assert_array_equal(matrix @ matrix.T, order * np.eye(order, dtype=int))


@pytest.mark.parametrize('dim', [*range(1, 200), 1000, 1001, 4097, 8911, 65537, 10**6, 2**20 + 1])
def test_padded_dimension_is_an_order_with_small_factors(dim):
  padded = hadamard.padded_dimension(dim)
  sizes = hadamard.factors(padded)
  assert dim <= padded <= 2 ** (dim - 1).bit_length()
  assert math.prod(sizes) == padded
  assert all(size <= 64 for size in sizes)
  for size in set(sizes):
    assert len(hadamard.matrix(size)) == size


def test_padding_stays_under_ten_percent_from_a_thousand_on():
  dims = np.unique(np.geomspace(1000, 10**7, 3000).astype(int))
  assert max(hadamard.padded_dimension(int(d)) / d for d in dims) < 1.1


@pytest.mark.parametrize('order', [1, 2, 12, 24, 80, 240, 560, 1008])
def test_transform_is_the_kronecker_product_of_its_factors(order):
  full = np.ones((1, 1))
  for size in hadamard.factors(order):
    full = np.kron(full, hadamard.matrix(size) / math.sqrt(size))
  identity = tf.eye(order, dtype=tf.float64)
  columns = [hadamard._transform(row, inverse=False).numpy() for row in identity[:20]]
  np.testing.assert_allclose(np.transpose(columns), full[:, :20], atol=1e-12)
  x = tf.constant(np.random.default_rng(order).normal(size=order))
  back = hadamard._transform(hadamard._transform(x, inverse=False), inverse=True)
  np.testing.assert_allclose(back, x, atol=1e-12)


def test_signs_are_fair_coins_of_the_seed():
  """|z| < 5 for the mean and for the correlation of neighbours: false alarm 1e-6."""
  n = 100_003
  signs = hadamard.flip(tf.ones([n], tf.float64), SEED).numpy()
  assert set(signs) == {-1.0, 1.0}
  assert abs(signs.mean()) * math.sqrt(n) < 5
  assert abs(np.mean(signs[1:] * signs[:-1])) * math.sqrt(n) < 5
  np.testing.assert_array_equal(signs, hadamard.flip(tf.ones([n]), SEED))
  other = hadamard.flip(tf.ones([n]), SEED + tf.constant([0, 1], tf.int64)).numpy()
  assert abs(np.mean(signs * other)) * math.sqrt(n) < 5


# DFT.


@pytest.mark.parametrize('dim', [1, 2, 7, 97, 1000])
def test_dft_rotation_is_a_unitary_transform_of_pairs(dim):
  x = np.random.default_rng(dim).normal(size=dim)
  padded = np.append(x, [0.0] * (dim % 2))
  half = len(padded) // 2
  angles = dft._phases(SEED, half).numpy()
  np.testing.assert_allclose(np.abs(angles), 1, rtol=1e-12)
  spectrum = np.fft.fft((padded[:half] + 1j * padded[half:]) * angles, norm='ortho')
  rotated = dft.rotate(tf.constant(x), SEED)
  np.testing.assert_allclose(rotated, [*spectrum.real, *spectrum.imag], atol=1e-11)
  np.testing.assert_allclose(dft.unrotate(rotated, SEED, dim), x, atol=1e-12)


# Rounding.


def test_truncation_never_lengthens():
  x = tf.constant([1.9, -1.9, 0.5, -0.5, 3.0, -3.0, 0.0, 2.0**40 + 0.5], tf.float64)
  np.testing.assert_array_equal(rounding._truncate(x), [1, -1, 0, 0, 3, -3, 0, 2.0**40])


def test_rounding_falls_back_to_truncation_when_no_try_fits():
  """Every rounding but the one towards zero is too long: it is always within the bound."""
  vector, bound = tf.fill([200], 0.5), 3.0
  for seed in range(20):
    step = tf.constant([seed, 0], tf.int64)
    np.testing.assert_array_equal(
      rounding.conditional_round(vector, bound, step, tf.int32), np.zeros(200)
    )


def test_rounding_tries_again_before_it_truncates():
  """Half the roundings of these 64 halves exceed the bound; none of 200 results is zero.

  A law conditional on at most 32 ones: their mean number is 29.5 (a single try truncated
  instead would show many zeros).
  """
  vector, bound = tf.fill([64], 0.5), math.sqrt(32)
  sums = [
    int(
      tf.reduce_sum(
        rounding.conditional_round(vector, bound, tf.constant([s, 9], tf.int64), tf.int32)
      )
    )
    for s in range(200)
  ]
  assert max(sums) <= 32
  assert min(sums) > 10
  assert 28.5 < np.mean(sums) < 30.5


@pytest.mark.parametrize('poison', [np.nan, np.inf, -np.inf, 1e38])
def test_rounding_of_what_is_too_long_is_zeros(poison):
  vector = tf.constant([1.0, poison, 2.0])
  result = rounding.conditional_round(vector, 100.0, SEED, tf.int32)
  np.testing.assert_array_equal(result, np.zeros(3))


def test_bound_is_exact_at_its_edge():
  """3^2 + 4^2 = 25: allowed at 5, not a hair below."""
  vector = tf.constant([3.0, 4.0], tf.float64)
  exact = rounding.conditional_round(vector, 5.0, SEED, tf.int64)
  np.testing.assert_array_equal(exact, [3, 4])
  below = rounding.conditional_round(vector, math.nextafter(5.0, 0), SEED, tf.int64)
  np.testing.assert_array_equal(below, [0, 0])
  large = tf.constant([2.0**25, 2.0**25 - 1, 1.0], tf.float64)
  norm2 = 2**50 + (2**25 - 1) ** 2 + 1
  kept = rounding.conditional_round(large, math.sqrt(norm2) * (1 + 1e-15), SEED, tf.int64)
  np.testing.assert_array_equal(kept, large)
  lost = rounding.conditional_round(large, math.sqrt(norm2 - 1), SEED, tf.int64)
  np.testing.assert_array_equal(lost, np.zeros(3))


# Quantiles.


@pytest.mark.parametrize(
  ('fraction', 'factor'), [(0.5, 1.0), (1.0, math.exp(-0.1)), (0, math.exp(0.1))]
)
def test_an_estimate_moves_by_a_factor(fraction, factor):
  found = quantiles.geometric_update(tf.constant(3.0), tf.constant(fraction), 0.5, 0.2)
  assert found.dtype == tf.float32
  np.testing.assert_allclose(found, 3.0 * factor, rtol=1e-6)


@pytest.mark.parametrize(('estimate', 'fraction'), [(1e-12, 1.0), (1e12, 0.0)])
def test_geometric_update_stays_where_norms_can_be_computed(estimate, fraction):
  found = quantiles.geometric_update(tf.constant(estimate), tf.constant(fraction), 0.5, 2.0)
  np.testing.assert_allclose(found, estimate, rtol=1e-6)


# Structures.


def test_tensors_come_back_from_one_vector():
  tensors = [
    tf.constant([[1.0, 2.0], [3.0, 4.0]]),
    tf.constant(5.0, tf.float64),
    tf.zeros([0, 3]),
    tf.constant([6.0], tf.bfloat16),
  ]
  vector = structures.concatenate(tensors, tf.float64)
  np.testing.assert_array_equal(vector, [1, 2, 3, 4, 5, 6])
  assert vector.dtype == tf.float64
  shapes, dtypes = [t.shape for t in tensors], [t.dtype for t in tensors]
  for before, after in zip(tensors, structures.split(vector, shapes, dtypes), strict=True):
    assert (before.dtype, before.shape) == (after.dtype, after.shape)
    np.testing.assert_array_equal(before, after)


def test_pad_appends_zeros():
  x = tf.constant([1.0, 2.0])
  np.testing.assert_array_equal(structures.pad(x, 4), [1, 2, 0, 0])
  assert structures.pad(x, 2) is x


@pytest.mark.parametrize('poison', [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_becomes_zeros(poison):
  x = tf.constant([1.0, -2.0])
  np.testing.assert_array_equal(structures.finite_or_zero(x, 0.5), [0.5, -1.0])
  spoilt = tf.constant([1.0, poison])
  np.testing.assert_array_equal(structures.finite_or_zero(spoilt, np.nan), [0.0, 0.0])
  assert not np.isfinite(structures.l2_norm(spoilt))


# Residues.


@pytest.mark.parametrize(('bits', 'dtype'), [(2, tf.int32), (30, tf.int32), (31, tf.int64)])
def test_residues_have_the_smallest_dtype_that_holds_them(bits, dtype):
  assert modular.dtype_for(bits) == dtype


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 62), st.data())
def test_wrap_and_centre_are_python_integers_modulo(bits, data):
  dtype = modular.dtype_for(bits)
  x = data.draw(st.lists(st.integers(int(dtype.min), int(dtype.max)), min_size=1, max_size=5))
  residues = modular.wrap(tf.constant(x, dtype), bits)
  assert residues.numpy().tolist() == [value % 2**bits for value in x]
  half = 2 ** (bits - 1)
  expected = [(value + half) % 2**bits - half for value in x]
  assert modular.centre(residues, bits).numpy().tolist() == expected

"""Trees of counts: least squares, its variance, and quantiles read off the ranks."""

import numpy as np
import pytest
import tensorflow as tf

from tff_privacy_agg.analytics import trees

each_depth = pytest.mark.parametrize('levels', [1, 2, 3, 5])


def design_of(levels):
  """Which leaves each node counts, `[nodes, leaves]`."""
  return np.concatenate(
    [np.kron(np.eye(2**level), np.ones(2 ** (levels - level))) for level in range(1, levels + 1)]
  )


@each_depth
def test_consistent_leaves_are_the_least_squares_estimate(levels):
  """With the sum fixed: solved in the leaves' differences from an even share."""
  leaves, total = 2**levels, 7.0
  counts = np.random.default_rng(1).normal(size=trees.nodes(levels))
  even = np.full(leaves, total / leaves)
  free = np.linalg.svd(np.ones([1, leaves]))[2][1:].T
  design = design_of(levels)
  solved, *_ = np.linalg.lstsq(design @ free, counts - design @ even, rcond=None)
  found = trees.consistent_leaves(tf.constant(counts), tf.constant(total, tf.float64), levels)
  np.testing.assert_allclose(found, even + free @ solved, atol=1e-12)
  np.testing.assert_allclose(np.sum(found), total)


@each_depth
def test_rank_variances_are_those_of_the_estimate(levels):
  zero = tf.constant(0.0, tf.float64)
  rows = [
    np.cumsum(trees.consistent_leaves(tf.constant(one), zero, levels))
    for one in np.eye(trees.nodes(levels))
  ]
  expected = np.sum(np.square(rows), axis=0)
  np.testing.assert_allclose(trees.rank_variances(levels), expected, atol=1e-12)


def test_monotone_never_falls_and_errs_no_more_than_its_worst_value():
  rng = np.random.default_rng(2)
  truth = np.sort(rng.normal(size=100))
  np.testing.assert_array_equal(trees.monotone(tf.constant(truth)), truth)
  noise = rng.normal(size=100)
  found = np.asarray(trees.monotone(tf.constant(truth + noise)))
  assert np.all(np.diff(found) >= 0)
  assert np.abs(found - truth).max() <= np.abs(noise).max()


def test_quantiles_lie_where_the_ranks_reach_them():
  ranks = tf.constant([0.0, 10.0, 10.0, 20.0], tf.float64)
  found = trees.quantile_places(ranks, tf.constant([5.0, 10.0, 15.0, 20.0], tf.float64))
  np.testing.assert_allclose(found, [0.375, 0.5, 0.875, 1.0])


def test_a_path_counts_once_on_each_level():
  found = np.asarray(trees.path(tf.constant(5), 3))
  assert np.flatnonzero(found).tolist() == [1, 2 + 2, 6 + 5]
  assert found.sum() == 3

"""Binary trees of counts: one client's path, and the least-squares estimate of the leaves."""

import numpy as np
import tensorflow as tf


def nodes(levels: int) -> int:
  """Nodes below the root of a complete binary tree: levels 1 to `levels`, in that order."""
  return 2 ** (levels + 1) - 2


def path(leaf: tf.Tensor, levels: int) -> tf.Tensor:
  """Ones at the nodes on the way to a leaf, float64 `[nodes(levels)]`.

  Args:
    leaf: int32 scalar in [0, 2^levels).
    levels: Levels below the root.
  """
  parts = []
  for level in range(1, levels + 1):
    node = leaf // 2 ** (levels - level)
    parts.append(tf.one_hot(node, 2**level, dtype=tf.float64))
  return tf.concat(parts, axis=0)


def consistent_leaves(counts: tf.Tensor, total: tf.Tensor, levels: int) -> tf.Tensor:
  """Least-squares estimate of the leaves from noised counts of all nodes and the exact root.

  Upwards, a node's count is averaged with the sum of its children's estimates, weighted by
  their precision; downwards, what a parent has more than its children is shared equally.

  Args:
    counts: float64 `[nodes(levels)]`, with equal noise each.
    total: float64, what the leaves add up to, known without noise.
    levels: Levels below the root.

  Returns:
    float64 `[2^levels]`.

  Reference: arXiv:0904.0942, section 4.1 (Theorem 3).
  """
  sizes = [2**level for level in range(1, levels + 1)]
  by_level = tf.split(counts, sizes)
  upward = [by_level[-1]]
  for height, own in enumerate(reversed(by_level[:-1]), start=2):
    children = tf.reduce_sum(tf.reshape(upward[0], [-1, 2]), axis=1)
    own_weight = _own_weight(height)
    upward.insert(0, own_weight * own + (1 - own_weight) * children)
  found = tf.reshape(total, [1])
  for below in upward:
    pairs = tf.reshape(below, [-1, 2])
    missing = found - tf.reduce_sum(pairs, axis=1)
    found = tf.reshape(pairs + missing[:, tf.newaxis] / 2, [-1])
  return found


def rank_variances(levels: int) -> np.ndarray:
  """Variance of the cumulated leaves in units of one count's, float64 `[2^levels]`.

  A node splits its estimate T into T/2 + D and T/2 - D, D being half the difference of the
  children's upward estimates. What different nodes split is uncorrelated, so the variance
  adds up over the nodes that the right end of a leaf is inside of. The last is 0: the root
  is exact.
  """
  ends = np.arange(1, 2**levels) / 2**levels
  # Of the upward estimates, by height from 1: of its own count and of two children's.
  upward = [1.0]
  for height in range(2, levels + 1):
    upward.append(_own_weight(height))
  total = np.zeros_like(ends)
  for level in range(1, levels + 1):
    child, inside = np.divmod(ends * 2**level, 1)
    share = np.where(child % 2 == 0, inside, 1 - inside)
    total += share**2 * upward[levels - level] / 2
  return np.append(total, 0.0)


def monotone(values: tf.Tensor) -> tf.Tensor:
  """The middle between the largest so far and the least from here on, float64 `[n]`.

  It never falls, leaves what never falls as it is, and moves no value further from a rising
  truth than the worst of the values is.
  """
  rising = _largest_so_far(values)
  falling = -tf.reverse(_largest_so_far(tf.reverse(-values, [0])), [0])
  return (rising + falling) / 2


def quantile_places(ranks: tf.Tensor, wanted: tf.Tensor) -> tf.Tensor:
  """Positions at which the cumulated counts of the leaves reach some ranks, in [0, 1].

  Args:
    ranks: float64 `[leaves]`, at the right ends of the leaves, never falling.
    wanted: float64 `[quantiles]`, at most the last of `ranks`.
  """
  leaves = ranks.shape[0]
  edges = tf.concat([tf.zeros([1], tf.float64), ranks], axis=0)
  leaf = tf.clip_by_value(tf.searchsorted(edges, wanted, side='left') - 1, 0, leaves - 1)
  below, above = tf.gather(edges, leaf), tf.gather(edges, leaf + 1)
  inside = tf.math.divide_no_nan(wanted - below, above - below)
  return (tf.cast(leaf, tf.float64) + tf.clip_by_value(inside, 0, 1)) / leaves


def _own_weight(height: int) -> float:
  """Weight of a node's own count against its children's; also its estimate's variance."""
  return 2 ** (height - 1) / (2**height - 1)


def _largest_so_far(values: tf.Tensor) -> tf.Tensor:
  size, shift = values.shape[0], 1
  while shift < size:
    values = tf.maximum(values, tf.concat([values[:shift], values[:-shift]], axis=0))
    shift *= 2
  return values

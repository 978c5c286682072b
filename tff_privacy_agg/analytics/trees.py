"""Binary trees of counts: one client's path, and the least-squares estimate of the leaves."""

from collections.abc import Sequence

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


def consistent_leaves(counts: tf.Tensor, levels: int) -> tf.Tensor:
  """Least-squares estimate of the leaves from noised counts of all nodes.

  Upwards, a node's count is averaged with the sum of its children's estimates, weighted by
  their precision; downwards, what a parent has more than its children is shared equally.

  Args:
    counts: float64 `[nodes(levels)]`, with equal noise each.
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
    # A node of height h counts with weight 2^(h-1) of 2^h - 1, its children with the rest.
    own_weight = 2 ** (height - 1) / (2**height - 1)
    upward.insert(0, own_weight * own + (1 - own_weight) * children)
  found = upward[0]
  for below in upward[1:]:
    pairs = tf.reshape(below, [-1, 2])
    missing = found - tf.reduce_sum(pairs, axis=1)
    found = tf.reshape(pairs + missing[:, tf.newaxis] / 2, [-1])
  return found


def quantile_places(counts: tf.Tensor, probabilities: Sequence[float]) -> tf.Tensor:
  """Where the cumulated counts reach some fractions of their total, in [0, 1].

  Args:
    counts: float64 `[leaves]`, none negative.
    probabilities: In (0, 1).

  Returns:
    float64 `[quantiles]`; 1/2 where the total is zero.
  """
  leaves = counts.shape[0]
  edges = tf.concat([tf.zeros([1], tf.float64), tf.cumsum(counts)], axis=0)
  wanted = tf.constant(probabilities, tf.float64) * edges[-1]
  leaf = tf.clip_by_value(tf.searchsorted(edges, wanted, side='left') - 1, 0, leaves - 1)
  inside = tf.math.divide_no_nan(wanted - tf.gather(edges, leaf), tf.gather(counts, leaf))
  places = (tf.cast(leaf, tf.float64) + tf.clip_by_value(inside, 0, 1)) / leaves
  return tf.where(edges[-1] > 0, places, tf.fill(tf.shape(places), tf.constant(0.5, tf.float64)))

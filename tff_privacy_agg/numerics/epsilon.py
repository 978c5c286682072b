"""Epsilon of the account inside the computation: the formulas of `accounting` in TensorFlow ops."""

import math

import numpy as np
import tensorflow as tf

from tff_privacy_agg import accounting
from tff_privacy_agg.numerics.tracing import traced_once

# Fractions of an interval that its grid lies below its upper end, and how often a grid is laid.
_GRID, _REFINEMENTS = np.linspace(1.0, 0.0, 257), 6
# Below this the complementary error function comes near the least float64, and the fifth convergent
# of Mills' ratio has 13 digits.
_FAR = -35.0
_BISECTIONS = 60


@traced_once(
  tf.TensorSpec([3], tf.int64), tf.TensorSpec([], tf.float64), tf.TensorSpec([], tf.float64)
)
def gaussian_epsilon(cost: tf.Tensor, distance: tf.Tensor, delta: tf.Tensor) -> tf.Tensor:
  """Epsilon of a total of the Gaussian account, as `accounting.composed_epsilon`.

  Args:
    cost: int64 `[3]`: mu^2, C1 and C2 in units of 1/UNIT.
    distance: float64 scalar, total variation distance of all noise from its distribution.
    delta: float64 scalar, strictly between 0 and 1.

  Returns:
    float64 scalar in nats; infinite where none is proved.
  """
  mu_squared, c1, c2 = tf.unstack(tf.cast(cost, tf.float64) / accounting.UNIT)
  # Never 0, where the formulas divide by it or take its logarithm; that much costs nothing.
  mu = tf.sqrt(tf.maximum(mu_squared, 1e-30)) * (1 + 2**-51)
  distance = tf.maximum(distance, 1e-300)
  half, slack = 0.5 * mu, c1 + c2
  sides = tf.reshape(tf.stack([half, -half]), [2, 1])
  # In units of delta.
  delta *= accounting.SAFE
  moved, factor = distance / delta, tf.exp(c1) / delta

  def fits(epsilon: tf.Tensor) -> tf.Tensor:
    x = epsilon - slack
    first, second = tf.unstack(_log_ndtr(sides - x / mu))
    shrink = tf.math.expm1(tf.minimum(x + second - first, 0.0))
    return moved * (1 + tf.exp(epsilon)) - factor * tf.exp(first) * shrink <= 1

  # Delta is least there, and falls up to it.
  turn = slack - mu * (tf.math.ndtri(tf.minimum(distance * tf.exp(c2), 0.5)) + half)
  infinite = tf.constant(math.inf, tf.float64)

  def refine(
    i: tf.Tensor, found: tf.Tensor, high: tf.Tensor, width: tf.Tensor
  ) -> tuple[tf.Tensor, ...]:
    grid = tf.maximum(high - width * _GRID, 0.0)
    found = tf.minimum(found, tf.reduce_min(tf.where(fits(grid), grid, infinite)))
    return i + 1, found, found, width / (len(_GRID) - 1)

  end = tf.clip_by_value(turn, 0.0, 1e6)
  _, found, _, _ = tf.while_loop(
    lambda i, *_: i < _REFINEMENTS, refine, (0, infinite, end, end), parallel_iterations=1
  )
  return tf.where(tf.reduce_all(cost < accounting.INFINITE), found, infinite)


def renyi_epsilon(
  rdp: tf.Tensor, orders: np.ndarray, distance: tf.Tensor, delta: float
) -> tf.Tensor:
  """Epsilon of Renyi divergences, as `accounting.epsilon_at_orders`.

  Args:
    rdp: float64 `[m]`.
    orders: float64, shape [m], above 1.
    distance: float64 scalar, total variation distance of all noise from its distribution.
    delta: Strictly between 0 and 1.

  Returns:
    float64 scalar in nats; infinite where none is proved.
  """
  infinite = tf.constant(math.inf, tf.float64)
  offsets = accounting.conversion_offsets(orders, delta * accounting.NEARLY)
  least = tf.maximum(tf.reduce_min(rdp + tf.constant(offsets)), 0.0)

  def by_search() -> tf.Tensor:
    rate = orders - 1
    levels = rate * (rdp + np.log1p(-1 / orders)) - np.log(orders)
    log_distance = tf.math.log(distance)

    def fits(e: tf.Tensor) -> tf.Tensor:
      moved = tf.exp(tf.minimum(log_distance + tf.math.softplus(e), 1.0))
      return tf.exp(tf.minimum(levels - rate * e, 1.0)) + moved <= delta

    turn = tf.maximum((levels + np.log(rate) - log_distance) / orders, 0.0)
    turn = tf.where(tf.math.is_finite(turn), turn, 0.0)
    possible = fits(turn) & tf.math.is_finite(rdp)

    def halve(
      i: tf.Tensor, low: tf.Tensor, high: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
      middle = 0.5 * (low + high)
      within = fits(middle)
      return i + 1, tf.where(within, low, middle), tf.where(within, middle, high)

    _, _, high = tf.while_loop(
      lambda i, low, high: i < _BISECTIONS, halve, (0, tf.zeros_like(turn), turn)
    )
    return tf.reduce_min(tf.where(possible, high, infinite))

  moved = distance * (1 + tf.exp(tf.minimum(least, 700.0)))
  negligible = moved <= accounting.NEGLIGIBLE * delta
  return tf.cond(negligible | tf.math.is_inf(least), lambda: least, by_search)


def _log_ndtr(x: tf.Tensor) -> tf.Tensor:
  """Log of the standard normal distribution function, float64, to an absolute or relative 1e-12."""
  near = tf.math.log(0.5 * tf.math.erfc(-math.sqrt(0.5) * tf.maximum(x, _FAR)))
  y = tf.minimum(x, _FAR)
  square = y * y
  ratio = (square * (square + 9) + 8) / (y * (square * (square + 10) + 15))
  far = tf.math.log(-math.sqrt(0.5 / math.pi) * ratio) - 0.5 * square
  return tf.where(x < _FAR, far, near)

"""Epsilon of the account inside the computation: the formulas of `accounting` in TensorFlow ops."""

import math

import numpy as np
import tensorflow as tf

from tff_privacy_agg import accounting

# Points of a grid, and how often it is laid over the interval that holds the root.
_GRID, _REFINEMENTS = np.linspace(0.0, 1.0, 257), 6
# Below this the complementary error function loses digits, and six terms of the series have 12.
_FAR = -25.0
_NOTHING = -1e6
_BISECTIONS = 60


def gaussian_epsilon(cost: tf.Tensor, distance: tf.Tensor, delta: float) -> tf.Tensor:
  """Epsilon of a total of the Gaussian account, as `accounting.composed_epsilon`.

  Args:
    cost: int64 `[3]`: mu^2, C1 and C2 in units of 1/UNIT.
    distance: float64 scalar, total variation distance of all noise from its distribution.
    delta: Strictly between 0 and 1.

  Returns:
    float64 scalar in nats; infinite where none is proved.
  """
  numbers = tf.cast(cost, tf.float64) / accounting.UNIT
  # Never 0, where the formulas divide by it; that much costs nothing.
  mu = tf.sqrt(tf.maximum(numbers[0], 1e-30)) * (1 + 2**-51)
  c1, c2 = numbers[1], numbers[2]
  target = math.log(delta * accounting.SAFE)

  def fits(epsilon: tf.Tensor) -> tf.Tensor:
    return _log_delta(mu, c1, c2, distance, epsilon) <= target

  far = c1 + c2 + mu * (mu / 2 + tf.sqrt(2 * tf.maximum(c1 - target, 0.0))) + 1.0
  level = tf.minimum(tf.maximum(distance, 1e-300) * tf.exp(c2), 0.5)
  turn = c1 + c2 - mu * (tf.math.ndtri(level) + mu / 2)
  low = tf.constant(0.0, tf.float64)
  high = tf.maximum(tf.where(distance > 0, tf.minimum(turn, 1e6), far), 0.0)
  proved = fits(high[tf.newaxis])[0] & tf.reduce_all(cost < accounting.INFINITE)

  def refine(
    i: tf.Tensor, low: tf.Tensor, high: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    grid = low + (high - low) * tf.constant(_GRID)
    first = tf.argmax(tf.concat([fits(grid[:-1]), [True]], 0))
    return i + 1, grid[tf.maximum(first - 1, 0)], grid[first]

  _, _, high = tf.while_loop(lambda i, *_: i < _REFINEMENTS, refine, (0, low, high))
  return tf.where(proved, high, tf.constant(math.inf, tf.float64))


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


def _log_delta(
  mu: tf.Tensor, c1: tf.Tensor, c2: tf.Tensor, distance: tf.Tensor, epsilon: tf.Tensor
) -> tf.Tensor:
  x = epsilon - c1 - c2
  first = log_ndtr(mu / 2 - x / mu)
  second = x + log_ndtr(-mu / 2 - x / mu)
  shrink = -tf.math.expm1(tf.minimum(second - first, 0.0))
  noise = tf.where(shrink > 0, c1 + first + tf.math.log(shrink), _NOTHING)
  moved = tf.where(
    distance > 0, tf.math.log(tf.maximum(distance, 1e-300)) + tf.math.softplus(epsilon), _NOTHING
  )
  return tf.reduce_logsumexp(tf.stack([noise, moved]), axis=0)


def log_ndtr(x: tf.Tensor) -> tf.Tensor:
  """Log of the standard normal distribution function, float64, to an absolute or relative 1e-12."""
  root = math.sqrt(0.5)
  near = tf.math.log(0.5 * tf.math.erfc(-root * tf.maximum(x, _FAR)))
  y = tf.minimum(x, _FAR)
  series = tf.constant(0.0, tf.float64)
  for odd in (11, 9, 7, 5, 3, 1):  # 1 - 1/y^2 (1 - 3/y^2 (1 - 5/y^2 ...
    series = odd / y**2 * (1 - series)
  far = -0.5 * y**2 - tf.math.log(-y) - 0.5 * math.log(2 * math.pi) + tf.math.log1p(-series)
  return tf.where(x < _FAR, far, near)

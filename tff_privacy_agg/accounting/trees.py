"""Sensitivity of correlated Gaussian noise over rounds (central; the server sees the clear sum).

One client's contribution to all the noisy nodes together is one Gaussian
release of squared sensitivity `s` (in units of the clip norm squared): curve
`gaussian(z / sqrt(s))`, exact mu = sqrt(s)/z. Adjacency zero_out.

`min_separation` has one meaning here: a client that takes part in rounds x < y
does so with `y - x >= min_separation`, so 1 allows every round.
"""

import functools
import math
import warnings
from collections.abc import Sequence

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.mechanisms import central
from tff_privacy_agg.errors import ConfigurationError


@_validate.plain_numbers
def tree_restart_sensitivity(
  steps_per_tree: Sequence[int], participations_per_tree: int = 1
) -> int:
  """Returns the squared sensitivity of trees that restart; arXiv:2103.00039.

  With one participation a tree, `sum over trees of floor(log2(steps)) + 1`.

  Args:
    steps_per_tree: Number of rounds of each tree, each at least 1.
    participations_per_tree: Most rounds of one tree in which a client takes
      part, at any distance, at least 1.

  Examples:
    >>> tpa.accounting.tree_restart_sensitivity([16, 16, 16])
    15
  """
  if not steps_per_tree:
    raise ConfigurationError('`steps_per_tree` must name at least one tree, got none.')
  return sum(tree_sensitivity(steps, participations_per_tree, 1) for steps in steps_per_tree)


@_validate.plain_numbers
def tree_sensitivity(total_steps: int, max_participations: int, min_separation: int) -> int:
  """Returns the squared sensitivity of one tree without restart; arXiv:2103.00039.

  The largest sum over complete nodes of (participations under the node)^2, over all
  participation patterns. Exact, by dynamic programming over the nodes.

  Args:
    total_steps: Number of rounds (leaves), at least 1.
    max_participations: Most rounds in which one client takes part, at least 1.
    min_separation: Smallest distance y - x of two participations of one client
      in rounds x < y, at least 1.

  Examples:
    >>> tpa.accounting.tree_sensitivity(16, max_participations=2, min_separation=8)
    12
  """
  _validate.at_least(1, total_steps=total_steps, max_participations=max_participations)
  _validate.at_least(0, min_separation=min_separation)
  if min_separation == 0:
    warnings.warn(
      '`min_separation` is now the smallest distance y - x of two participations, so 0 is taken as 1; '
      'the old meaning, y - x - 1, goes in the next minor version: pass one more.',
      DeprecationWarning,
      stacklevel=2,
    )
  gap = max(min_separation, 1)

  @functools.cache
  def best(size: int, count: int, first: int, last: int) -> float:
    # Most that `count` participations at positions first..last of a block of `size` leaves add.
    if count == 0:
      return 0.0
    first, last = max(first, 0), min(last, size - 1)
    if first + (count - 1) * gap > last:
      return -math.inf
    complete = size & (size - 1) == 0
    if complete and count == 1:
      return float(size.bit_length())
    half = 1 << ((size - 1).bit_length() - 1)  # left part: the largest power of two below size
    value = max(best(half, count, first, last), best(size - half, count, first - half, last - half))
    for left in range(1, count):
      # A left part that ends before half - gap leaves the right part free: start there.
      start = max(first + (left - 1) * gap, min(half - gap, last))
      for end in range(start, half):
        right = best(size - half, count - left, end + gap - half, last - half)
        if right == -math.inf:
          break
        value = max(value, best(half, left, first, end) + right)
    return value + (count**2 if complete else 0)

  feasible = min(max_participations, (total_steps - 1) // gap + 1)
  return int(best(total_steps, feasible, 0, total_steps - 1))


@_validate.plain_numbers
def banded_noise_multiplier(
  noise_multiplier: float,
  *,
  bands: int,
  min_separation: int,
  max_participations: int,
  column_norm: float = 1.0,
) -> float:
  """Returns the noise multiplier of the one Gaussian that banded noise amounts to.

  Columns of a `bands`-banded strategy matrix at distance `bands` or more are
  orthogonal, so squared sensitivities add: `z / (column_norm * sqrt(p))`;
  arXiv:2306.08153.

  Args:
    noise_multiplier: `z` of the uncorrelated noise, positive.
    bands: Number of bands, at least 1.
    min_separation: Smallest distance y - x of two participations of one client
      in rounds x < y, at least `bands`.
    max_participations: `p`, most rounds in which one client takes part.
    column_norm: Largest L2 norm of a column of the strategy matrix, positive.

  Raises:
    ConfigurationError: If participations may be nearer than `bands`.

  Examples:
    >>> tpa.accounting.banded_noise_multiplier(
    ...   8.0, bands=4, min_separation=10, max_participations=4
    ... )
    4.0
  """
  _validate.positive(noise_multiplier=noise_multiplier, column_norm=column_norm)
  _validate.at_least(1, bands=bands, max_participations=max_participations)
  _validate.at_least(1, min_separation=min_separation)
  if min_separation < bands:
    raise ConfigurationError(
      f'Columns of {bands} bands overlap where participations are {min_separation} rounds apart. '
      f'Enforce a separation of at least {bands}, or use fewer bands.'
    )
  return noise_multiplier / (column_norm * math.sqrt(max_participations))


@_validate.plain_numbers
def correlated_gaussian(noise_multiplier: float, squared_sensitivity: float) -> RdpCurve:
  """Returns the curve of all rounds of a tree or banded mechanism together.

  Args:
    noise_multiplier: Standard deviation of one node's noise over the clip norm, positive.
    squared_sensitivity: In units of the clip norm squared, positive.

  Examples:
    >>> curve = tpa.accounting.correlated_gaussian(
    ...   4.0, tpa.accounting.tree_sensitivity(16, 1, 1)
    ... )
    >>> round(tpa.accounting.epsilon(curve, 1e-5)[0], 3)
    2.451
  """
  _validate.positive(noise_multiplier=noise_multiplier, squared_sensitivity=squared_sensitivity)
  return central.gaussian(noise_multiplier / math.sqrt(squared_sensitivity))

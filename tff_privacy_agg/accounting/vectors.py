"""What clients add to the sum of a round: integers within a bound, and the noise on them."""

import dataclasses
import functools
import math
from fractions import Fraction
from typing import Any

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED
from tff_privacy_agg.accounting import reduction
from tff_privacy_agg.accounting.correlated.column import BandedColumn
from tff_privacy_agg.accounting.curves import RdpCurve, infinite, sensitivity_factor
from tff_privacy_agg.accounting.mechanisms import central, distributed

# Squared norms that come from floating-point numbers.
_FLOOR_SLACK = 1 + 1e-12
DISCRETE_GAUSSIAN = ('discrete_gaussian', CENTRAL, CORRELATED)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoisyVector:
  """Integers that every client adds to the sum of a round, and the noise on them.

  Attributes:
    name: What they are, such as 'update' or the name of a channel.
    dimension: Coordinates, padding included.
    l2_squared: Largest squared L2 norm of one client's integers: an integer, as they are.
    l1: Largest L1 norm.
    local_variance: Variance parameter of one client's share, or of the server's noise, in
      squared steps; 0 without noise.
    t_squared: `t^2` of the reduction to a Gaussian, fixed before the first round; None if this
      noise is accounted by Renyi divergence alone.
    draw_distance: Total variation distance of one draw from its distribution.
    steps: First column of the matrix by which the noise of rounds is correlated, in units of 2^-24;
      empty where the noise of rounds is independent.
  """

  name: str
  dimension: int
  l2_squared: float
  l1: float
  local_variance: float
  t_squared: float | None = None
  draw_distance: float = 0.0
  steps: tuple[int, ...] = ()

  def __post_init__(self) -> None:
    object.__setattr__(self, 'steps', tuple(self.steps))
    _validate.at_least(1, dimension=self.dimension)
    _validate.non_negative(
      l2_squared=self.l2_squared,
      l1=self.l1,
      local_variance=self.local_variance,
      draw_distance=self.draw_distance,
    )
    if self.t_squared is not None:
      _validate.positive(t_squared=self.t_squared)

  @functools.cached_property
  def column(self) -> BandedColumn | None:
    """The correlation over rounds; None where there is none."""
    return BandedColumn(self.steps) if self.steps else None

  @property
  def rounds(self) -> int:
    """Rounds that one participation moves."""
    return max(len(self.steps), 1)

  def difference(self, adjacency: str) -> tuple[Fraction, int]:
    """Largest squared norm of the difference of neighbours, and its most nonzero coordinates.

    Of one participation, in all rounds that it moves.
    """
    factor = sensitivity_factor(adjacency, distributed=False)  # the round checks its adjacency
    squared = Fraction(self.l2_squared) * factor**2
    coordinates = min(self.dimension, math.floor(squared))
    if self.column is None or not coordinates:
      return squared, coordinates
    moved = self.column.squared_sensitivity(math.floor(squared), self.dimension)
    return Fraction(moved), self.rounds * coordinates

  def curve(self, mechanism: str, honest: int, adjacency: str) -> RdpCurve:
    """Renyi curve of this vector alone, with `honest` unknown shares of a mechanism's noise."""
    l2 = math.sqrt(self.l2_squared)
    if l2 == 0:
      return RdpCurve(np.zeros_like, False, f'{self.name}: nothing', mechanism, adjacency)
    if mechanism == 'skellam':
      return distributed.skellam(
        l2, self.l1, local_variance=self.local_variance, honest=honest, adjacency=adjacency
      )
    if honest == 0 or self.local_variance == 0:
      return infinite(self.name, mechanism, adjacency, integer_only=False)
    if mechanism in (CENTRAL, CORRELATED):
      moved = float(self.difference('zero_out')[0])
      one = central.central_discrete_gaussian(moved, self.local_variance, adjacency=adjacency)
      return dataclasses.replace(one, mechanism=mechanism)
    proved = distributed.discrete_gaussian(
      l2, self.l1, self.local_variance, honest, self.dimension, adjacency=adjacency
    )
    if self.t_squared is None:
      return proved
    squared, coordinates = self.difference(adjacency)

    def function(a: np.ndarray) -> np.ndarray:
      tight = reduction.renyi(a, float(squared), coordinates, self.local_variance, honest)
      return np.minimum(proved.function(a), tight)

    return dataclasses.replace(proved, function=function)

  def as_dict(self) -> dict[str, Any]:
    """JSON values, from which the constructor makes the same vector."""
    values = dataclasses.asdict(self)
    steps = values.pop('steps')
    return {**values, 'steps': list(steps)} if steps else values


@_validate.plain_numbers
def noisy_vector(
  *,
  name: str,
  mechanism: str,
  dimension: int,
  l2_bound: float,
  l1_bound: float,
  local_variance: float,
  fewest: int,
  most: int,
  draw_distance: float = 0.0,
  column: BandedColumn | None = None,
) -> NoisyVector:
  """A vector with its `t^2`, chosen from facts that are public before the first round.

  Args:
    name: What it is.
    mechanism: One of those of a `RoundPrice` with vectors.
    dimension: Coordinates, padding included.
    l2_bound: Largest L2 norm of one client's integers; its square is that of integers, so it
      is rounded down to one.
    l1_bound: Largest L1 norm.
    local_variance: Variance parameter of a share, or of the server's noise.
    fewest: Fewest honest survivors that the round is designed for; 1 for the server's noise.
    most: Largest cohort; 1 for the server's noise.
    draw_distance: Total variation distance of one draw from its distribution.
    column: How the noise of rounds is correlated; None if it is not.
  """
  vector = NoisyVector(
    name=name,
    dimension=dimension,
    l2_squared=squared_norm(l2_bound),
    l1=l1_bound,
    local_variance=local_variance,
    draw_distance=draw_distance,
    steps=() if column is None else column.steps,
  )
  if mechanism not in DISCRETE_GAUSSIAN or local_variance == 0:
    return vector
  squared, coordinates = vector.difference('zero_out')
  t_squared = reduction.choose_t_squared(
    l2_squared=float(squared),
    coordinates=coordinates,
    local_variance=local_variance,
    fewest=fewest,
    most=most,
  )
  return dataclasses.replace(vector, t_squared=t_squared)


def squared_norm(l2_bound: float) -> int:
  """The largest squared L2 norm of integers, from a bound on the norm that was rounded."""
  return math.floor(l2_bound**2 * _FLOOR_SLACK)

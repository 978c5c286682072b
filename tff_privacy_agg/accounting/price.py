"""The price of a round: what it releases, and what that costs, in one immutable object.

The binding of a stack makes it, the graph tabulates it, and the ledger stores and reads it, so
that all of them state the same epsilon for the same rounds.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CORRELATED, DISTRIBUTED, GAUSSIAN, INTEGER_NOISE
from tff_privacy_agg.accounting import reduction
from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz, most_participations
from tff_privacy_agg.accounting.curves import RdpCurve, compose, sensitivity_factor
from tff_privacy_agg.accounting.mechanisms import central, distributed
from tff_privacy_agg.accounting.vectors import DISCRETE_GAUSSIAN, NoisyVector
from tff_privacy_agg.errors import ConfigurationError

# mu^2, c1 and c2 are kept as integers in these units: rounded up once for a kind of round, so that
# n rounds cost exactly n times one, in any order.
UNIT = 2**48
# Stands for infinity; sums of two still fit 64 bits.
INFINITE = 2**62
# The smallest share whose sum is taken for a Gaussian, and the most slack over mu^2 of a round.
_NARROWEST, _MOST_SLACK = 4.0, 0.125
# A few floating-point operations make a number less by less.
_ROUNDING_UP = 1 + 2**-48
# What only noise that is correlated over rounds states.
_PATTERN = ('separation', 'participations')


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class RoundPrice:
  """The releases of one round and their price, other stacks of the cohort included.

  Where noise is correlated over rounds, it is the price of one participation: of all that one
  client moves by taking part in one round, in that round and in those that follow.

  Attributes:
    mechanism: 'discrete_gaussian' or 'skellam' (of the clients), 'central_discrete_gaussian' or
      'correlated_discrete_gaussian' (of the server), 'gaussian' (of a server that draws floats) or
      'none'.
    adjacency: The neighbouring relation.
    holds_against_server: Whether the server learns nothing but a sum whose noise it
      does not know.
    minimum: Fewest honest survivors that the round is designed for.
    maximum: Largest cohort.
    vectors: What clients add to the sum; empty for 'gaussian' and 'none'.
    central_multiplier: Noise multiplier of 'gaussian' noise, all together; else 0.
    separation: Where noise is correlated over rounds: any two rounds x < y of one client have
      `y - x >= separation`. Else None.
    participations: There, most rounds in which one client takes part; None for as many as the
      separation leaves.
  """

  mechanism: str
  adjacency: str = 'zero_out'
  holds_against_server: bool = False
  minimum: int
  maximum: int
  vectors: tuple[NoisyVector, ...] = ()
  central_multiplier: float = 0.0
  separation: int | None = None
  participations: int | None = None

  def __post_init__(self) -> None:
    _validate.one_of(('none', *INTEGER_NOISE, GAUSSIAN), mechanism=self.mechanism)
    sensitivity_factor(self.adjacency, distributed=self.distributed)
    _validate.at_least(1, minimum=self.minimum)
    _validate.at_least(self.minimum, maximum=self.maximum)
    _validate.non_negative(central_multiplier=self.central_multiplier)
    self._check_strategies()
    if self.mechanism in INTEGER_NOISE and not self.vectors:
      raise ConfigurationError(
        f'A round with {self.mechanism} noise releases vectors; `vectors` is empty. Pass the '
        '`price` of a binding.'
      )

  @property
  def distributed(self) -> bool:
    """Whether the clients add the noise."""
    return self.mechanism in DISTRIBUTED

  @property
  def private(self) -> bool:
    """Whether anybody adds noise."""
    return self.mechanism != 'none'

  def most_participations(self, rounds: int) -> int:
    """How many times one client pays this price in so many rounds."""
    if self.separation is None:
      return rounds
    return most_participations(rounds, self.separation, self.participations)

  def shares(self, honest: int) -> int:
    """Unknown shares of noise in a sum with `honest` honest survivors; the server's is one."""
    return honest if self.distributed else 1

  @functools.cached_property
  def has_mu(self) -> bool:
    """Whether every part of the round is, up to small factors, a Gaussian mechanism.

    A fact of the design: the noise of every vector is the server's, or the sum of wide discrete
    Gaussian shares, whose factors over all coordinates cost little next to the noise.
    """
    if self.mechanism == GAUSSIAN:
      return self.central_multiplier > 0
    if self.mechanism not in DISCRETE_GAUSSIAN:
      return False
    if any(v.t_squared is None or v.local_variance < _NARROWEST for v in self.vectors):
      return False
    mu_squared, c1, c2 = self.worst_gaussian(self.minimum)
    return mu_squared < INFINITE and c1 + c2 <= _MOST_SLACK * mu_squared

  def noise_multiplier(self, honest: int) -> float:
    """Noise multiplier of the whole round with `honest` unknown shares; 0 without noise."""
    factor = sensitivity_factor(self.adjacency, distributed=self.distributed)
    if self.mechanism not in INTEGER_NOISE:
      return self.central_multiplier / factor
    shares = self.shares(honest)
    if shares < 1 or not all(v.local_variance for v in self.vectors):
      return 0.0
    moved = [float(v.difference('zero_out')[0]) for v in self.vectors]
    spent = math.fsum(
      squared / (shares * v.local_variance) for squared, v in zip(moved, self.vectors, strict=True)
    )
    return 1 / math.sqrt(spent) / factor if spent else math.inf

  def distance(self, clients: int) -> float:
    """Total variation distance of the noise in a sum of so many clients from its distribution."""
    return self.shares(clients) * self._draw_distance

  def gaussian(self, honest: int) -> tuple[int, int, int]:
    """(mu^2, c1, c2) of one round with `honest` unknown shares, in units of 1/UNIT, rounded up."""
    return self._gaussian(self.shares(honest), self.shares(honest))

  def worst_gaussian(self, fewest: int, most: int | None = None) -> tuple[int, int, int]:
    """The most that `gaussian` is with `fewest` to `most` (by default `maximum`) unknown shares."""
    return self._gaussian(self.shares(fewest), self.shares(max(fewest, most or self.maximum)))

  def curve(self, honest: int, *, adjacency: str | None = None) -> RdpCurve:
    """Renyi curve of one round with `honest` unknown shares.

    Args:
      honest: Shares of noise that are not known.
      adjacency: By default that of the round.
    """
    adjacency = adjacency or self.adjacency
    if self.mechanism not in INTEGER_NOISE:
      return central.gaussian(self.central_multiplier, adjacency=adjacency)
    shares = self.shares(honest)
    return compose([v.curve(self.mechanism, shares, adjacency) for v in self.vectors])

  @property
  def grows(self) -> bool:
    """Whether more shares can cost more: the slack of narrow discrete Gaussians grows with them."""
    return self.mechanism == 'discrete_gaussian' and any(
      v.local_variance > 0 and distributed.tau(v.local_variance, self.maximum) > 0
      for v in self.vectors
    )

  def beside(self, others: Sequence['RoundPrice']) -> 'RoundPrice':
    """This round together with releases of the same cohort and kind of noise."""
    if not others:
      return self
    spent = [1 / one.central_multiplier**2 for one in (self, *others) if one.central_multiplier]
    own = (self.separation, self.participations)
    if any(one.separation and (one.separation, one.participations) != own for one in others):
      raise ConfigurationError(
        'Releases of one cohort whose noise is correlated over rounds need one separation and one '
        'number of participations. Build them with the same strategy.'
      )
    return dataclasses.replace(
      self,
      holds_against_server=all(one.holds_against_server for one in (self, *others)),
      vectors=(*self.vectors, *(v for one in others for v in one.vectors)),
      central_multiplier=1 / math.sqrt(math.fsum(spent)) if spent else 0.0,
    )

  def as_dict(self) -> dict[str, Any]:
    """JSON values, from which `from_dict` makes the same price."""
    values = {**dataclasses.asdict(self), 'vectors': [v.as_dict() for v in self.vectors]}
    return {key: values[key] for key in values if key not in _PATTERN or values[key] is not None}

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> 'RoundPrice':
    """The price that `as_dict` described."""
    vectors = tuple(NoisyVector(**vector) for vector in values['vectors'])
    return cls(**{**values, 'vectors': vectors})

  @functools.cached_property
  def _draw_distance(self) -> float:
    return _ROUNDING_UP * math.fsum(v.rounds * v.dimension * v.draw_distance for v in self.vectors)

  def _check_strategies(self) -> None:
    """Refuses correlated noise without a bound on how often a client takes part."""
    if (self.mechanism == CORRELATED) != (self.separation is not None):
      raise ConfigurationError(
        f'`separation` is stated with noise that is correlated over rounds, and only there; got '
        f'{self.separation!r} with {self.mechanism} noise. Pass the `price` of a binding.'
      )
    for v in self.vectors:
      if v.column is not None:
        BandedToeplitz(v.column, self.separation or 0, self.participations)

  def _gaussian(self, fewest: int, most: int) -> tuple[int, int, int]:
    if self.mechanism == GAUSSIAN:
      return self._central_gaussian()
    if self.mechanism not in DISCRETE_GAUSSIAN or fewest < 1:
      return INFINITE, INFINITE, INFINITE
    mu_squared, slacks = Fraction(0), (0.0, 0.0)
    for v in self.vectors:
      squared, coordinates = v.difference(self.adjacency)
      if not coordinates:
        continue  # neighbours do not differ
      left = fewest * Fraction(v.local_variance) - Fraction(v.t_squared or 0)
      if v.t_squared is None or left <= 0:
        return INFINITE, INFINITE, INFINITE
      mu_squared += math.floor(squared) / left
      each = reduction.coordinate_slack(v.local_variance, v.t_squared, fewest=fewest, most=most)
      slacks = (slacks[0] + coordinates * each[0], slacks[1] + coordinates * each[1])
    return _fixed(mu_squared), _fixed(slacks[0]), _fixed(slacks[1])

  def _central_gaussian(self) -> tuple[int, int, int]:
    if not self.central_multiplier:
      return INFINITE, INFINITE, INFINITE
    factor = sensitivity_factor(self.adjacency, distributed=False)
    return _fixed(Fraction(factor) ** 2 / Fraction(self.central_multiplier) ** 2), 0, 0


def _fixed(value: Fraction | float) -> int:
  """A number in units of 1/UNIT, rounded up; `INFINITE` beyond."""
  if isinstance(value, float) and not math.isfinite(value):
    return INFINITE
  return min(math.ceil(Fraction(value) * UNIT), INFINITE)

"""Renyi-DP curves of one round, as immutable objects that add up.

A curve maps an order `a` to the Renyi divergence bound RDP(a) between the distributions
of what is released on two neighbouring cohorts. Curves of several channels or
rounds are added; only the total is turned into epsilon (`accountant`).

Adjacency (one client is one user):
  zero_out: the client's integer vector is replaced by zeros; it still adds its
    noise share and still counts in the cohort. Sensitivity `l2`, `l1`.
  replace_one: the vector is replaced by another one. Sensitivity `2*l2`, `2*l1`.
  add_or_remove_one: only for noise that does not depend on the cohort; refused
    for distributed noise, where the client's share would come or go with it.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import CompositionError, ConfigurationError

ADJACENCIES = ('zero_out', 'replace_one', 'add_or_remove_one')


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True)
class RdpCurve:
  """An upper bound on the Renyi divergence at every order of its validity.

  Attributes:
    function: Maps a float64 array of valid orders to an array of the same shape.
    integer_only: Whether `function` is proved for integers `a >= 2` only (else
      for every real `a > 1`).
    provenance: Which theorem, with which numbers.
    mechanism: 'gaussian', 'discrete_gaussian', 'skellam', 'central_discrete_gaussian', 'sampled'
      or 'mixed'.
    adjacency: The neighbouring relation that the bound is about.
    maximum_order: Largest order at which `function` may be evaluated.
  """

  function: Callable[[np.ndarray], np.ndarray]
  integer_only: bool
  provenance: str
  mechanism: str
  adjacency: str = 'zero_out'
  maximum_order: float = math.inf

  @property
  def validity(self) -> str:
    """The orders for which the bound is proved: 'real a>1' or 'integer a>=2'."""
    return 'integer a>=2' if self.integer_only else 'real a>1'

  def rdp(self, orders: ArrayLike) -> np.ndarray:
    """Returns RDP(a) in nats, float64, of the shape of `orders`.

    Between integers, a curve proved for integers only is interpolated linearly
    in (a-1)*RDP(a), which is convex in `a`, so the chord is an upper bound.

    Args:
      orders: Renyi orders, each finite and above 1 (at least 2 where the curve
        is proved for integers only).

    Raises:
      ConfigurationError: If an order lies outside the curve's validity.
    """
    a = np.asarray(orders, dtype=np.float64)
    least = 2.0 if self.integer_only else np.nextafter(1.0, 2.0)
    if not np.all(np.isfinite(a) & (a >= least) & (a <= self.maximum_order)):
      raise ConfigurationError(
        f'`orders` must be finite, valid for {self.validity} and at most '
        f'{self.maximum_order:g}, got {orders!r} for the curve {self.provenance}. '
        'Ask for orders within that range.'
      )
    if not self.integer_only:
      return np.asarray(self.function(a), dtype=np.float64)
    low = np.floor(a)
    weight = a - low
    values = np.asarray(self.function(low), dtype=np.float64)
    if not np.any(weight):
      return values
    high = np.asarray(self.function(np.ceil(a)), dtype=np.float64)
    with np.errstate(invalid='ignore'):  # 0 * inf at integers, discarded below
      chord = ((1 - weight) * (low - 1) * values + weight * low * high) / (a - 1)
    return np.where(weight > 0, chord, values)

  def __add__(self, other: RdpCurve) -> RdpCurve:
    if not isinstance(other, RdpCurve):
      return NotImplemented
    return compose([self, other])

  def scaled(self, rounds: int) -> RdpCurve:
    """Returns the curve of `rounds` (an integer, at least 0) adaptive repetitions."""
    _validate.at_least(0, rounds=rounds)
    return dataclasses.replace(
      self,
      function=lambda a: rounds * self.rdp(a) if rounds else np.zeros_like(a),
      provenance=f'{rounds} x [{self.provenance}]',
    )


def compose(curves: Sequence[RdpCurve]) -> RdpCurve:
  """Returns the curve of all `curves` together: their sum, by adaptive composition.

  The same as adding them one by one, and fit for thousands of rounds.

  Args:
    curves: At least one, all under one adjacency.

  Raises:
    ConfigurationError: If there is no curve.
    CompositionError: If the adjacencies differ.

  Examples:
    >>> year = tpa.accounting.compose([tpa.accounting.gaussian(10.0)] * 365)
    >>> round(tpa.accounting.epsilon(year, 1e-6)[0], 2)
    11.07
  """
  if not curves:
    raise ConfigurationError('`curves` must hold at least one curve, got none.')
  adjacencies = sorted({curve.adjacency for curve in curves})
  if len(adjacencies) > 1:
    raise CompositionError(
      f'Curves of one adjacency can be added; got {" and ".join(adjacencies)}. Build all of them '
      'under the same adjacency.'
    )
  parts = tuple(curves)
  mechanisms = {curve.mechanism for curve in parts}
  counts = collections.Counter(curve.provenance for curve in parts)
  return RdpCurve(
    function=lambda a: np.sum([part.rdp(a) for part in parts], axis=0),
    integer_only=any(curve.integer_only for curve in parts),
    provenance=' + '.join(f'{n} x [{text}]' if n > 1 else text for text, n in counts.items()),
    mechanism=parts[0].mechanism if len(mechanisms) == 1 else 'mixed',
    adjacency=adjacencies[0],
    maximum_order=min(curve.maximum_order for curve in parts),
  )


@_validate.plain_numbers
def participation_cap(curve: RdpCurve, *, rounds: int, cap: int) -> RdpCurve:
  """Total of a client that takes part in at most `cap` of `rounds` rounds.

  A round without the client has one distribution on both neighbours and costs it
  nothing. Needs no secret, so it holds against the server too, but the cap must
  be enforced.

  Args:
    curve: One round's curve.
    rounds: Number of rounds, at least 0.
    cap: Most rounds in which one client takes part, at least 0.

  Examples:
    >>> capped = tpa.accounting.participation_cap(
    ...   tpa.accounting.gaussian(4.0), rounds=100, cap=10
    ... )
    >>> round(tpa.accounting.epsilon(capped, 1e-5)[0], 3)
    3.617
  """
  _validate.at_least(0, rounds=rounds, cap=cap)
  return curve.scaled(min(rounds, cap))


def sensitivity_factor(adjacency: str, *, distributed: bool = True) -> int:
  """Returns by how much `adjacency` multiplies one client's norm bounds: 1 or 2.

  Args:
    adjacency: 'zero_out', 'replace_one' or 'add_or_remove_one'.
    distributed: Whether the clients add the noise.

  Raises:
    ConfigurationError: If `adjacency` is unknown, or is 'add_or_remove_one'
      for distributed noise.
  """
  _validate.one_of(ADJACENCIES, adjacency=adjacency)
  if distributed and adjacency == 'add_or_remove_one':
    raise ConfigurationError(
      "`adjacency='add_or_remove_one'` does not fit noise that the clients add. Removing a client "
      'also removes its noise share, and that alone tells the two cohorts apart in high dimension. '
      "Use 'zero_out' (the default) or 'replace_one'."
    )
  return 2 if adjacency == 'replace_one' else 1


def infinite(text: str, mechanism: str, adjacency: str, *, integer_only: bool) -> RdpCurve:
  """Returns the curve of a release without noise: infinite at every order, never 0."""
  return RdpCurve(
    lambda a: np.full_like(a, np.inf), integer_only, f'no noise: {text}', mechanism, adjacency
  )

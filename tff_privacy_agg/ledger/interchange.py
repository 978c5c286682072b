"""A ledger for other accountants: events of dp_accounting, and what they leave out."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._names import GAUSSIAN
from tff_privacy_agg.accounting.accounts import GaussianAccount, as_numbers
from tff_privacy_agg.accounting.budget import VIEWS
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger.costs.kinds import Kind
from tff_privacy_agg.ledger.replay import LedgerState


@dataclasses.dataclass(frozen=True, kw_only=True)
class DpEvents:
  """The rounds of a ledger as dp_accounting describes them.

  Epsilon at `delta` is that of `event` at `(delta - (1 + e^epsilon) distance) e^-c1`, plus
  `c1 + c2`: see docs/proofs/discrete-gaussian.md.

  Attributes:
    event: A `dp_accounting.DpEvent`: Gaussian mechanisms, composed.
    c1: Log of the factor on the first law, over all rounds.
    c2: Log of the factor on the second law, over all rounds.
    distance: Total variation distance of all noise from its distribution.
  """

  event: Any
  c1: float
  c2: float
  distance: float


def dp_events(state: LedgerState, view: str) -> DpEvents:
  """The events of all rounds; open ones at their worst. A cap on participation is not in them.

  Args:
    state: The sum of the ledger's lines.
    view: 'server' or 'release'.

  Raises:
    ConfigurationError: If the view is not accounted by mu: of Skellam noise, of narrow shares,
      without noise, or where sampling is claimed.
  """
  _validate.one_of(VIEWS, view=view)
  if not state.views[view].private or not isinstance(state.accounts[view], GaussianAccount):
    law = state.facts.stack['mechanism']
    raise ConfigurationError(
      f'The rounds of the {view} view ({law} noise) are not Gaussian mechanisms, so dp_accounting '
      'has no event for them. Use `epsilon` of this ledger.'
    )
  kinds = list(state.kinds.values())
  rounds: list[tuple[list[float], int]] = []
  if state.chain is not None:  # one event for each participation of a client: all cost the same
    rounds.append((_multipliers(kinds[0].facts.price, 1), state.exposures))
  else:
    for kind in kinds:
      settled = sorted(kind.views[view].counts.items())
      rounds += [(_multipliers(kind.facts.price, honest), count) for honest, count in settled]
      rounds.append((_at_worst(state, kind), kind.open))
    for known in state.unknown:  # of a kind known then, of which the dearest counts
      candidates = [_at_worst(state, kind) for kind in kinds[:known]]
      rounds.append((max(candidates, key=_mu_squared), 1))
  _, c1, c2 = as_numbers(state.cost(view))
  return DpEvents(event=_events(rounds), c1=c1, c2=c2, distance=state.distance(view))


def _events(rounds: Sequence[tuple[list[float], int]]) -> Any:
  """Rounds by their noise multipliers and how many are alike, composed."""
  import dp_accounting  # optional

  events = []
  for multipliers, count in rounds:
    if count:
      gaussians = [dp_accounting.GaussianDpEvent(z) for z in multipliers]
      one = dp_accounting.ComposedDpEvent(gaussians)
      events.append(dp_accounting.SelfComposedDpEvent(one, count))
  return dp_accounting.ComposedDpEvent(events)


def _at_worst(state: LedgerState, kind: Kind) -> list[float]:
  """Noise multipliers of a round of which nothing is known but what it was charged with."""
  return _multipliers(kind.facts.price, state.honest_at_worst(kind))


def _mu_squared(multipliers: list[float]) -> float:
  return math.fsum(z**-2 for z in multipliers)


def _multipliers(price: RoundPrice, honest: int) -> list[float]:
  """Noise multipliers of the Gaussian mechanisms that one round is a post-processing of."""
  if price.mechanism == GAUSSIAN:
    return [price.central_multiplier]
  return [
    math.sqrt((price.shares(honest) * v.local_variance - (v.t_squared or 0.0)) / float(squared))
    for v in price.vectors
    for squared in [v.difference(price.adjacency)[0]]
    if squared
  ]

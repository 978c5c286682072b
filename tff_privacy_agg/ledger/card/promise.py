"""The privacy card's first half: what is promised, and by which formula."""

import math

import numpy as np

from tff_privacy_agg.accounting.accountant import gaussian_epsilon
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card.field import (
  ACCOUNTING,
  DEFINITION,
  HEADER,
  SETTING,
  Field,
  field,
  rounded_up,
  rows_of,
  spread,
  spread_text,
)

_CONVERSION = 'RDP to epsilon: arXiv:2004.00010, Proposition 12'
_REFERENCES = {
  'discrete_gaussian': 'arXiv:2102.06387, Theorem 1 (sum of discrete Gaussians)',
  'skellam': 'arXiv:2110.04995 (Skellam)',
  'gaussian': 'arXiv:1702.07476, Corollary 3 (Gaussian)',
  'none': 'no noise: infinite',
}
_LINEAR = 1e-6


def promised(record: LedgerAccount) -> list[Field]:
  """The fields from the task to the fitted Gaussian, in order."""
  facts, state, costs = record.facts, record.state, record.state.costs
  stack, cap = facts.stack, facts.participation_cap
  law = stack['mechanism']
  multipliers = [one.noise_multiplier for one in state.settled]
  found = spread(multipliers)
  releases = {view: record.spent(view) for view in ('server', 'release')}
  rows = rows_of(record)
  accountant = f'{_REFERENCES[law]}; {_CONVERSION}; {rows}'
  view_text = 'server and release, stated apart and never added'
  if not costs.holds_against_server:
    view_text += '; nothing is promised in the server view'
  fields = [
    field('task', 'Task', facts.task or 'not stated', HEADER, SETTING, 'Privacy hazards'),
    field('unit', 'Unit of privacy', f'one {facts.unit}', HEADER, DEFINITION, 'Unit of privacy'),
    field(
      'contribution_bound',
      'Contribution bound',
      'one vector and one number a channel in each round'
      + (f', in at most {cap} rounds, enforced' if cap else ', in any number of rounds'),
      HEADER if cap is None else f'{HEADER}; most so far: {state.most}',
      DEFINITION,
      'Unit of privacy',
    ),
    field('adjacency', 'Adjacency', *_adjacency(record), DEFINITION, 'Unit of privacy'),
    field(
      'view',
      'Views',
      view_text,
      f'{HEADER}; whoever adds the noise knows it',
      SETTING,
      'Trust model',
    ),
    field(
      'mechanism',
      'Mechanism',
      law,
      HEADER,
      SETTING,
      'Algorithm correctness',
      law
      if facts.top_up is None
      else f'{law}; the server tops its noise up to {facts.top_up} shares',
    ),
    field(
      'noise_multiplier',
      'Effective noise multiplier',
      found,
      f'sqrt(honest v)/B, channels included; {rows}',
      ACCOUNTING,
      'Epsilon',
      spread_text(found),
    ),
    field(
      'delta',
      'Delta and population',
      {'delta': facts.delta, 'population': facts.population},
      HEADER,
      DEFINITION,
      'Epsilon',
      f'delta {facts.delta:g}, {facts.population} clients'
      + ('' if facts.delta * facts.population <= 0.1 else '; above a tenth of 1/population'),
    ),
  ]
  for view, spent in releases.items():
    claimed = view == 'release' and facts.sampling.claims and not state.claim_broken
    gained = 'for the sampling that is claimed below' if claimed else 'no amplification is claimed'
    no_view = '' if math.isfinite(spent.epsilon) else ' (nothing is promised)'
    fields.append(
      field(
        f'epsilon_{view}',
        f'Epsilon, {view} view',
        spent.epsilon,
        f'{accountant}; order {spent.order:.4g}' if math.isfinite(spent.epsilon) else accountant,
        ACCOUNTING,
        'Epsilon',
        f'epsilon {rounded_up(spent.epsilon, 6)} at delta {spent.delta:g}, unit one {facts.unit}, adjacency '
        f'{spent.adjacency}{no_view}; {gained}',
      )
    )
  return [*fields, *_estimates(record, rows)]


def _adjacency(record: LedgerAccount) -> tuple[str, str]:
  """The relation of each view, and its origin."""
  of_views = [record.state.views[view].costs.adjacency for view in ('server', 'release')]
  if of_views[0] == of_views[1]:
    return of_views[0], HEADER
  return (
    f'{of_views[0]} in the server view, {of_views[1]} in the release view',
    f'{HEADER}; the bound for cohorts of fixed size is about {of_views[1]}',
  )


def _estimates(record: LedgerAccount, rows: str) -> list[Field]:
  state, facts = record.state, record.facts
  slopes = state.rdp('release') / state.views['release'].costs.orders
  known = bool(np.all(np.isfinite(slopes)))
  mu = math.sqrt(2 * float(slopes.min())) if known else math.inf
  linear = known and float(slopes.max() - slopes.min()) <= _LINEAR * max(
    float(slopes.max()), 1e-300
  )
  rho = float(slopes.max()) if linear else None
  estimate = gaussian_epsilon(mu, facts.delta)
  at = {str(epsilon): _delta(record, epsilon) for epsilon in (1, 3, 10)}
  return [
    field(
      'estimate',
      'Estimate (Gaussian), not a guarantee',
      estimate,
      f'exact Gaussian, arXiv:1805.06530, Theorem 8; {rows}',
      ACCOUNTING,
      'Epsilon',
      f'epsilon {rounded_up(estimate, 6)} at delta {facts.delta:g}, unit one {facts.unit}, adjacency '
      f'{state.views["release"].costs.adjacency}, release view, if the noise were Gaussian',
    ),
    field(
      'rho_zcdp',
      'rho of zCDP',
      rho,
      f'largest RDP(a)/a, arXiv:1605.02065; {rows}',
      ACCOUNTING,
      'Epsilon',
      'the curve is not linear: none' if rho is None else f'{rho:.6g} (release view)',
    ),
    field(
      'gdp_mu',
      'mu of the Gaussian that fits best; delta at fixed epsilons',
      {'mu': mu, 'delta_at_epsilon': at},
      f'sqrt(2 min RDP(a)/a); {_CONVERSION}; {rows}',
      ACCOUNTING,
      'Epsilon',
      f'mu {mu:.6g}; ' + ', '.join(f'delta {value:.3g} at {key}' for key, value in at.items()),
    ),
  ]


def _delta(record: LedgerAccount, epsilon: float) -> float:
  a, rdp = record.state.views['release'].costs.orders, record.state.rdp('release')
  if not np.all(np.isfinite(rdp)):
    return 1.0
  logs = (a - 1) * (rdp + np.log1p(-1 / a) - epsilon) - np.log(a)
  moved = record.state.distance('release') * (1 + math.exp(epsilon))
  return min(1.0, math.exp(min(float(logs.min()), 0.0)) + moved)

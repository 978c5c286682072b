"""The privacy card's first part: what is promised, and by which formula."""

import math

from tff_privacy_agg._names import CENTRAL, CORRELATED
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.accounts import GaussianAccount, as_numbers
from tff_privacy_agg.accounting.printing import rounded_up
from tff_privacy_agg.ledger.account import LedgerAccount
from tff_privacy_agg.ledger.card import risk
from tff_privacy_agg.ledger.card.field import (
  ACCOUNTING,
  DEFINITION,
  HEADER,
  SETTING,
  Field,
  field,
  rows_of,
  spread,
  spread_text,
)
from tff_privacy_agg.ledger.claims import participation_promise

_CONVERSION = 'RDP to epsilon: arXiv:2004.00010, Proposition 12'
_REFERENCES = {
  'discrete_gaussian': 'arXiv:2102.06387, Theorem 1 (sum of discrete Gaussians)',
  'skellam': 'arXiv:2110.04995 (Skellam)',
  CENTRAL: 'arXiv:2004.00010, Proposition 5 (discrete Gaussian)',
  CORRELATED: 'noise correlated over rounds: docs/proofs/correlated.md',
  'gaussian': 'arXiv:1702.07476, Corollary 3 (Gaussian)',
  'none': 'no noise: infinite',
}
_REDUCTION = 'sum of discrete Gaussians as one Gaussian: docs/proofs/discrete-gaussian.md'
_REDUCTION_OF_ONE = 'discrete Gaussian as one Gaussian: docs/proofs/discrete-gaussian.md'
_GAUSSIAN = 'Gaussian: arXiv:1905.02383, Corollary 3.3; epsilon: arXiv:1805.06530, Theorem 8'
_LINEAR = 1e-6


def promised(record: LedgerAccount) -> list[Field]:
  """The fields from the task to the fitted Gaussian, in order."""
  facts, state = record.facts, record.state
  stack, cap = facts.stack, facts.cap
  law = stack['mechanism']
  multipliers = [one.noise_multiplier for one in state.settled]
  found = spread(multipliers)
  releases = {view: record.spent(view) for view in ('server', 'release')}
  rows = rows_of(record)
  view_text = 'server and release, stated apart and never added'
  if not facts.price.holds_against_server:
    view_text += '; nothing is promised in the server view'
  fields = [
    field('task', 'Task', facts.task or 'not stated', HEADER, SETTING, 'Privacy hazards'),
    field('unit', 'Unit of privacy', f'one {facts.unit}', HEADER, DEFINITION, 'Unit of privacy'),
    field(
      'contribution_bound',
      'Contribution bound',
      'one vector and one number a channel in each round'
      + (f', in at most {counted(cap, "round")}, enforced' if cap else ', in any number of rounds'),
      HEADER if cap is None else f'{HEADER}; most so far: {state.most}',
      DEFINITION,
      'Unit of privacy',
    ),
    *_separation(record),
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
      else f'{law}; the server tops its noise up to {counted(facts.top_up, "share")}',
    ),
    field(
      'noise_multiplier',
      'Effective noise multiplier',
      found,
      f'{"sqrt(honest v)" if facts.price.distributed else "sqrt(v)"}/B, channels included; {rows}',
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
      f'delta {rounded_up(facts.delta, 6)}, {counted(facts.population, "client")}'
      + ('' if facts.delta <= 0.1 / facts.population else '; above a tenth of 1/population'),
    ),
  ]
  for view, spent in releases.items():
    claimed = view == 'release' and facts.sampling.claims and not state.claim_broken
    gained = 'for the sampling that is claimed below' if claimed else 'no amplification is claimed'
    no_view = '' if math.isfinite(spent.epsilon) else ' (nothing is promised)'
    accountant = f'{_theorems(record, view)}; {rows}'
    fixed = record.fixed_rounds_epsilon() if view == 'release' else None
    if fixed is not None:
      accountant += '; fixed rounds: docs/proofs/sampling.md'
      gained += (
        f'; {rounded_up(fixed, 6)} if the number of rounds was fixed before the first of them'
      )
    by_order = '' if math.isnan(spent.order) else f'; order {spent.order:.4g}'
    fields.append(
      field(
        f'epsilon_{view}',
        f'Epsilon, {view} view',
        spent.epsilon,
        accountant + by_order,
        ACCOUNTING,
        'Epsilon',
        f'epsilon {rounded_up(spent.epsilon, 6)} at delta {rounded_up(spent.delta, 6)}, unit one {facts.unit}, adjacency '
        f'{spent.adjacency}{no_view}; {gained}',
      )
    )
  return [*fields, *_risks(record, rows), *_curves(record, rows)]


def _separation(record: LedgerAccount) -> list[Field]:
  """What noise that is correlated over rounds takes of the cohorts, and whether it was so."""
  facts, chain = record.facts, record.state.chain
  if chain is None:
    return []
  found = {
    'separation': facts.separation,
    'participations': facts.cap,
    'bands': max(vector.rounds for vector in facts.price.vectors),
    'most_so_far': record.state.most,
    'restarts': chain.restarts,
  }
  return [
    field(
      'separation',
      'Participations and their separation',
      found,
      f'{HEADER}, "most_participations" of the lines with the event "charge", and lines with the event '
      '"restarted"; docs/proofs/correlated.md',
      DEFINITION,
      'Unit of privacy',
      f'claimed: {participation_promise(facts)}; checked before each round against the register of '
      f'participants, and by `verify` where it is kept; epsilon counts {record.state.exposures}, '
      'the most rounds that any client took part in; the noise was restarted '
      f'{counted(chain.restarts, "time")}',
    )
  ]


def _theorems(record: LedgerAccount, view: str) -> str:
  law = record.facts.stack['mechanism']
  if law == 'none':
    return _REFERENCES[law]
  if not isinstance(record.state.accounts[view], GaussianAccount):
    return f'{_REFERENCES[law]}; {_CONVERSION}'
  reductions = {
    'discrete_gaussian': f'{_REDUCTION}; ',
    CENTRAL: f'{_REDUCTION_OF_ONE}; ',
    CORRELATED: f'{_REFERENCES[CORRELATED]}; {_REDUCTION_OF_ONE}; ',
  }
  return reductions.get(law, '') + _GAUSSIAN


def _risks(record: LedgerAccount, rows: str) -> list[Field]:
  """Success of an attacker, by view."""
  found = []
  for view in ('server', 'release'):
    bounds = risk.attack_bounds(record, view)
    found.append(
      field(
        f'risk_{view}',
        f'Risk, {view} view',
        {str(rate): power for rate, power in bounds.items()},
        f'{_theorems(record, view)}; {rows}',
        ACCOUNTING,
        'Epsilon',
        risk.sentence(bounds),
      )
    )
  return found


def _adjacency(record: LedgerAccount) -> tuple[str, str]:
  """The relation of each view, and its origin."""
  of_views = [record.state.views[view].costs.adjacency for view in ('server', 'release')]
  if of_views[0] == of_views[1]:
    return of_views[0], HEADER
  return (
    f'{of_views[0]} in the server view, {of_views[1]} in the release view',
    f'{HEADER}; the bound for cohorts of fixed size is about {of_views[1]}',
  )


def _curves(record: LedgerAccount, rows: str) -> list[Field]:
  """The release view's account at other deltas: mu, or the zCDP of a linear curve."""
  state = record.state
  account, total = state.accounts['release'], state.cost('release')
  mu, slack, rho = math.inf, 0.0, None
  if isinstance(account, GaussianAccount):
    mu, c1, c2 = as_numbers(total)
    slack, mu_text = c1 + c2, f'mu {rounded_up(mu, 6)}, C1 + C2 {rounded_up(c1 + c2, 3)}'
  else:
    slopes = total / account.orders
    most, least = float(slopes.max()), float(slopes.min())
    rho = most if most - least <= _LINEAR * max(most, 1e-300) else None
    mu_text = 'mu is not accounted'
  at = {str(epsilon): _delta(record, epsilon) for epsilon in (1, 3, 10)}
  return [
    field(
      'rho_zcdp',
      'rho of zCDP',
      rho,
      f'largest RDP(a)/a, arXiv:1605.02065; {rows}',
      ACCOUNTING,
      'Epsilon',
      'none: the curve is not linear, or mu is accounted'
      if rho is None
      else f'{rho:.6g} (release view)',
    ),
    field(
      'gdp_mu',
      'mu of all rounds; delta at fixed epsilons',
      {'mu': mu, 'slack': slack, 'delta_at_epsilon': at},
      f'{_theorems(record, "release")}; {rows}',
      ACCOUNTING,
      'Epsilon',
      f'{mu_text}; '
      + ', '.join(f'delta {rounded_up(value, 3)} at {key}' for key, value in at.items()),
    ),
  ]


def _delta(record: LedgerAccount, epsilon: float) -> float:
  state = record.state
  if not state.views['release'].private:
    return 1.0
  account = state.accounts['release']
  return account.delta(state.cost('release'), epsilon, state.distance('release'))

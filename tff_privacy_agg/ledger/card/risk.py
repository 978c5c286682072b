"""Meaning of an epsilon: how often an attacker can be right, in words."""

import math

from tff_privacy_agg.accounting.accounts import GaussianAccount, as_numbers
from tff_privacy_agg.accounting.composition import attack_power
from tff_privacy_agg.ledger.account import LedgerAccount

FALSE_POSITIVE_RATES = (0.001, 0.01, 0.05)
# An attacker who may be this often right at 1 % false accusations is hardly bounded.
VACUOUS = 0.9


def attack_bounds(
  record: LedgerAccount, view: str, delta: float | None = None
) -> dict[float, float]:
  """The largest true-positive rate of any attacker in a view, by false-positive rate.

  The attacker knows everything but whether one client's data were used. Where mu is accounted the
  bound is that of the Gaussian; else that of (epsilon, delta).

  Args:
    record: The ledger.
    view: 'server' or 'release'.
    delta: At which epsilon is taken where mu is not accounted; by default that of the facts.
  """
  state = record.state
  if not state.views[view].private:
    return dict.fromkeys(FALSE_POSITIVE_RATES, 1.0)
  if isinstance(state.accounts[view], GaussianAccount):
    mu, c1, c2 = as_numbers(state.cost(view))
    distance = state.distance(view)
    return {
      rate: attack_power(rate, mu, c1=c1, c2=c2, distance=distance) for rate in FALSE_POSITIVE_RATES
    }
  spent = record.spent(view, delta)
  return {rate: _by_epsilon(rate, spent.epsilon, spent.delta) for rate in FALSE_POSITIVE_RATES}


def sentence(bounds: dict[float, float]) -> str:
  """The bounds in words; says so where they exclude almost nothing."""
  rates = _listed([percent(rate) for rate in bounds])
  powers = _listed([percent(power) for power in bounds.values()])
  text = (
    f'An attacker who wrongly accuses {rates} of those whose data were not used recognises at most '
    f'{powers} of those whose data were'
  )
  if bounds[0.01] >= VACUOUS:
    text += '; this bound excludes almost nothing'
  return text


def _by_epsilon(rate: float, epsilon: float, delta: float) -> float:
  """The bound of (epsilon, delta) (arXiv:1311.0776, Theorem 2.1)."""
  if math.isinf(epsilon):
    return 1.0
  low = math.exp(min(epsilon, 700.0)) * rate + delta
  return min(1.0, low, 1 - math.exp(-epsilon) * (1 - delta - rate))


def percent(value: float) -> str:
  """A percentage, rounded up in its third digit."""
  scaled = 100 * value
  if scaled >= 99.95:
    return '100%'
  digits = 10 ** (2 - math.floor(math.log10(scaled))) if scaled > 0 else 1
  return f'{math.ceil(scaled * digits - 1e-9) / digits:.3g}%'


def _listed(texts: list[str]) -> str:
  return ', '.join(texts[:-1]) + f' and {texts[-1]}'

"""Whether the cohorts of a training are what independent draws give: wagers against the claim.

docs/proofs/sampling-evidence.md derives what is computed here. It is evidence, not a bound on
privacy: floats are good enough for it.
"""

import math
from collections import Counter
from collections.abc import Sequence

from tff_privacy_agg.errors import LedgerError
from tff_privacy_agg.ledger.sampling_claims import Sampling

FALSE_ALARM = 1e-6
"""Probability that a training drawn as claimed is ever refused, however long it is."""

_FOUND = {
  'people': 'they hold more clients, or fewer, than the rate gives',
  'again': 'the same clients come again too often',
  'spread': 'clients who took part are passed over too often',
  'couples': 'the same clients come together too often',
  'followers': 'clients who came together last time do so again too often',
}
# Most of the wealth that a wager on couples stakes on one round.
_STAKE = 0.5


class _Couples:
  """Clients in classes; two of one class are a couple.

  Args:
    merges: Whether all clients of a cohort are one class after it (they were together in the last
      round of each), or only those that were one before (together in every round of each).
  """

  def __init__(self, merges: bool):
    self._merges = merges
    self._class_of: dict[str, int] = {}
    self._sizes: Counter[int] = Counter()
    self._classes = 0
    self.couples = 0

  def together(self, hashed: Sequence[str]) -> int:
    """Couples of which both are in a cohort."""
    return sum(_pairs(size) for size in self._drawn(hashed).values())

  def add(self, hashed: Sequence[str]) -> None:
    """Puts the clients of a cohort into their new classes."""
    for old, size in self._drawn(hashed).items():
      self.couples += _pairs(self._sizes[old] - size) - _pairs(self._sizes[old])
      self._sizes[old] -= size
      if not self._sizes[old]:
        del self._sizes[old]
    renamed: dict[int | None, int] = {}
    for one in hashed:
      old_class = None if self._merges else self._class_of.get(one)
      if old_class not in renamed:
        self._classes += 1
        renamed[old_class] = self._classes
      self._class_of[one] = renamed[old_class]
      self._sizes[renamed[old_class]] += 1
    self.couples += sum(_pairs(self._sizes[new]) for new in renamed.values())

  def _drawn(self, hashed: Sequence[str]) -> Counter[int]:
    class_of = self._class_of
    return Counter(class_of[one] for one in hashed if one in class_of)


class SamplingEvidence:
  """Wagers against a claim, on the cohorts in their order.

  Each wager begins with 1, and what it stakes on a cohort depends on earlier cohorts alone. If cohorts
  are drawn as claimed its wealth is expected not to grow, so that it ever reaches `w` with
  probability at most `1 / w` (Ville). A training is refused once one of them has multiplied by
  their number over `FALSE_ALARM`.

  Args:
    claim: What is claimed; not of the kind 'none'.
  """

  def __init__(self, claim: Sampling):
    self._claim = claim
    self._population = int(claim.population or 0)
    rate = claim.rate
    self._expected = float(claim.cohort or 0) if rate is None else rate * self._population
    self._wealth = {name: 0.0 for name in _FOUND if rate is not None or name != 'people'}  # logs
    self._highest = dict(self._wealth)
    self._couples = {'couples': _Couples(merges=False), 'followers': _Couples(merges=True)}
    self._rounds = 0
    self._people = 0
    self._seen = 0  # clients that have taken part
    self._by_rounds = [self._population]  # clients by the number of rounds they took part in
    self._level = 0  # mean number of rounds of a client, rounded down
    self._above = 0  # clients with more rounds than that

  def check(self, hashed: Sequence[str] = (), before: Sequence[int] = ()) -> None:
    """Raises if the cohorts so far, and this one, are not drawn as is claimed.

    Args:
      hashed: A further cohort; empty for none.
      before: Rounds that each of its clients took part in.

    Raises:
      LedgerError: If they are not.
    """
    seen = self._seen + sum(count == 0 for count in before)
    if seen > self._population:
      raise self._not_met(f'{seen} clients have taken part')
    wealth = dict(self._highest)
    if hashed:
      wealth = {one: max(wealth[one], now) for one, now in self._after(hashed, before).items()}
    name = max(wealth, key=wealth.__getitem__)
    if wealth[name] >= math.log(len(wealth) / FALSE_ALARM):
      raise self._not_met(f'{_FOUND[name]}: by chance with probability below {_odds(wealth[name])}')

  def add(self, hashed: Sequence[str], before: Sequence[int]) -> None:
    """Counts a cohort; arguments as those of `check`."""
    self._seen += sum(count == 0 for count in before)
    if self._seen > self._population:
      return  # `check` refuses from now on
    self._wealth = self._after(hashed, before)
    self._highest = {name: max(self._highest[name], now) for name, now in self._wealth.items()}
    for couples in self._couples.values():
      couples.add(hashed)
    self._by_rounds.extend([0] * (max(before, default=0) + 2 - len(self._by_rounds)))
    for count in before:
      self._by_rounds[count] -= 1
      self._by_rounds[count + 1] += 1
      self._above += count == self._level
    self._rounds += 1
    self._people += len(hashed)
    while self._people // self._population > self._level:
      self._level += 1
      self._above -= self._by_rounds[self._level]

  def _after(self, hashed: Sequence[str], before: Sequence[int]) -> dict[str, float]:
    """The wealth of each wager after a further cohort, as logarithms."""
    size, population = len(hashed), self._population
    wealth = dict(self._wealth)
    wealth['again'] += sum(math.log(count + 1) for count in before if count)
    wealth['again'] -= size * math.log1p(self._people / population)
    passed_over = sum(count > self._level for count in before)
    share = self._above / population
    wealth['spread'] -= passed_over * math.log(2) + size * math.log1p(-share / 2)
    for name, couples in self._couples.items():
      wealth[name] += self._of_couples(couples, hashed)
    if 'people' in wealth:
      wealth['people'] = self._of_people(self._people + size, population * (self._rounds + 1))
    return wealth

  def _of_couples(self, couples: _Couples, hashed: Sequence[str]) -> float:
    size, population = len(hashed), self._population
    rate = self._claim.rate
    both = size * (size - 1) / max(population * (population - 1), 1) if rate is None else rate**2
    expected = couples.couples * both
    if not expected:
      return 0.0
    # So many couples would come if all clients who were seen came with one of these.
    usual = self._seen * self._expected / (2 * population)
    return math.log1p(min(_STAKE, usual) * (couples.together(hashed) / expected - 1))

  def _of_people(self, people: int, chances: int) -> float:
    """All rates, weighted by a beta law around the claimed one, against that one."""
    rate = float(self._claim.rate or 0)
    others = (1 - rate) / rate
    mixed = _log_beta(people + 1, chances - people + others) - _log_beta(1, others)
    return mixed - people * math.log(rate) - (chances - people) * math.log1p(-rate)

  def _not_met(self, found: str) -> LedgerError:
    return LedgerError(
      f'The ledger claims that cohorts are drawn anew and independently: {self._claim.sentence}. '
      f'The cohorts so far are not ({found}). Fix the sampler, or begin a ledger without the claim.'
    )


def _pairs(size: int) -> int:
  return size * (size - 1) // 2


def _odds(wealth: float) -> str:
  """A bound on the probability of such a wealth, rounded up."""
  exponent = math.floor(wealth / math.log(10))
  return f'1e-{exponent}'


def _log_beta(a: float, b: float) -> float:
  return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

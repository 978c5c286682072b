"""Whether the cohorts of a training are what independent draws give: wagers against the claim.

docs/proofs/sampling-evidence.md derives what is computed here. It is evidence, not a bound on
privacy: floats are good enough for it.
"""

import math

import numpy as np

from tff_privacy_agg._wording import counted
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
_NOBODY = np.zeros(0, np.int64)


class _Couples:
  """Clients in classes; two of one class are a couple.

  Args:
    merges: Whether all clients of a cohort are one class after it (they were together in the last
      round of each), or only those that were one before (together in every round of each).
  """

  def __init__(self, merges: bool):
    self._merges = merges
    self._class_of = np.zeros(0, np.int64)  # by number of the client; -1 for none
    self._sizes = np.zeros(0, np.int64)
    self._classes = 0
    self.couples = 0

  def together(self, clients: np.ndarray) -> int:
    """Couples of which both are in a cohort."""
    return _pairs(self._drawn(clients)[1])

  def add(self, clients: np.ndarray) -> None:
    """Puts the clients of a cohort into their new classes."""
    self._make_room(clients)
    old, drawn = self._drawn(clients)
    sizes = self._sizes[old]
    self.couples += _pairs(sizes - drawn) - _pairs(sizes)
    self._sizes[old] -= drawn
    renamed = np.zeros(len(clients), int)
    if not self._merges:
      renamed = np.unique(self._class_of[clients], return_inverse=True)[1]
    new = self._classes + renamed
    self._class_of[clients] = new
    counts = np.bincount(renamed)
    self._sizes[self._classes : self._classes + len(counts)] = counts
    self._classes += len(counts)
    self.couples += _pairs(counts)

  def _drawn(self, clients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes of which a cohort holds members, and how many of each."""
    classes = self._class_of[clients[(clients >= 0) & (clients < len(self._class_of))]]
    classes = np.sort(classes[classes >= 0])  # `np.unique` takes three times as long for a hundred
    starts = np.flatnonzero(np.append(True, classes[1:] != classes[:-1]))[: len(classes)]
    return classes[starts], np.append(starts[1:], len(classes)) - starts

  def _make_room(self, clients: np.ndarray) -> None:
    """For a cohort; classes that have become empty are given up now and then."""
    lacking = int(clients.max(initial=-1)) + 1 - len(self._class_of)
    if lacking > 0:
      more = np.full(lacking + len(self._class_of), -1, np.int64)
      self._class_of = np.append(self._class_of, more)
    if self._classes + len(clients) > len(self._sizes):
      seen = self._class_of >= 0
      kept, self._class_of[seen] = np.unique(self._class_of[seen], return_inverse=True)
      room = np.zeros(2 * (len(self._class_of) + len(clients)), np.int64)
      room[: len(kept)] = self._sizes[kept]
      self._sizes, self._classes = room, len(kept)


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
    self._by_rounds = np.array(
      [self._population]
    )  # clients by the number of rounds they took part in
    self._level = 0  # mean number of rounds of a client, rounded down
    self._above = 0  # clients with more rounds than that

  def check(self, clients: np.ndarray = _NOBODY, before: np.ndarray = _NOBODY) -> None:
    """Raises if the cohorts so far, and this one, are not drawn as is claimed.

    Args:
      clients: Numbers of the clients of a further cohort, from 0 in the order of their first
        participation, -1 before it; empty for none.
      before: Rounds that each of its clients took part in.

    Raises:
      LedgerError: If they are not.
    """
    seen = self._seen + int((before == 0).sum())
    if seen > self._population:
      raise self._not_met(f'{counted(seen, "client")} took part')
    wealth = dict(self._highest)
    if len(clients):
      wealth = {one: max(wealth[one], now) for one, now in self._after(clients, before).items()}
    name = max(wealth, key=wealth.__getitem__)
    if wealth[name] >= math.log(len(wealth) / FALSE_ALARM):
      raise self._not_met(f'{_FOUND[name]}: by chance with probability below {_odds(wealth[name])}')

  def add(self, clients: np.ndarray, before: np.ndarray) -> None:
    """Counts a cohort; arguments as those of `check`, every client with its number."""
    self._seen += int((before == 0).sum())
    if self._seen > self._population:
      return  # `check` refuses from now on
    self._wealth = self._after(clients, before)
    self._highest = {name: max(self._highest[name], now) for name, now in self._wealth.items()}
    for couples in self._couples.values():
      couples.add(clients)
    moved = np.bincount(before)
    lacking = len(moved) + 1 - len(self._by_rounds)
    self._by_rounds = np.append(self._by_rounds, np.zeros(max(lacking, 0), np.int64))
    self._by_rounds[: len(moved)] -= moved
    self._by_rounds[1 : len(moved) + 1] += moved
    self._above += int((before == self._level).sum())
    self._rounds += 1
    self._people += len(clients)
    while self._people // self._population > self._level:
      self._level += 1
      self._above -= int(self._by_rounds[self._level])

  def _after(self, clients: np.ndarray, before: np.ndarray) -> dict[str, float]:
    """The wealth of each wager after a further cohort, as logarithms."""
    size, population = len(clients), self._population
    wealth = dict(self._wealth)
    wealth['again'] += float(np.log1p(before).sum())
    wealth['again'] -= size * math.log1p(self._people / population)
    passed_over = int((before > self._level).sum())
    share = self._above / population
    wealth['spread'] -= passed_over * math.log(2) + size * math.log1p(-share / 2)
    for name, couples in self._couples.items():
      wealth[name] += self._of_couples(couples, clients)
    if 'people' in wealth:
      wealth['people'] = self._of_people(self._people + size, population * (self._rounds + 1))
    return wealth

  def _of_couples(self, couples: _Couples, clients: np.ndarray) -> float:
    size, population = len(clients), self._population
    rate = self._claim.rate
    both = size * (size - 1) / max(population * (population - 1), 1) if rate is None else rate**2
    expected = couples.couples * both
    if not expected:
      return 0.0
    # So many couples would come if all clients who were seen came with one of these.
    usual = self._seen * self._expected / (2 * population)
    return math.log1p(min(_STAKE, usual) * (couples.together(clients) / expected - 1))

  def _of_people(self, people: int, chances: int) -> float:
    """All rates, weighted by a beta distribution around the claimed one, against that one."""
    rate = float(self._claim.rate or 0)
    others = (1 - rate) / rate
    mixed = _log_beta(people + 1, chances - people + others) - _log_beta(1, others)
    return mixed - people * math.log(rate) - (chances - people) * math.log1p(-rate)

  def _not_met(self, found: str) -> LedgerError:
    return LedgerError(
      f'The ledger claims that cohorts are drawn anew and independently: {self._claim.sentence}. '
      f'The cohorts so far are not ({found}). Fix the sampler, or begin a ledger without the claim.'
    )


def _pairs(sizes: np.ndarray) -> int:
  """Couples in classes of these sizes."""
  return int((sizes * (sizes - 1) // 2).sum())


def _odds(wealth: float) -> str:
  """A bound on the probability of such a wealth, rounded up."""
  exponent = math.floor(wealth / math.log(10))
  return f'1e-{exponent}'


def _log_beta(a: float, b: float) -> float:
  return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

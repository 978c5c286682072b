"""Cohorts for noise that is correlated over rounds: the rounds of one client lie apart."""

import collections
import dataclasses
import os
from collections.abc import Sequence

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.rounds.cohorts import check_ids
from tff_privacy_agg.ledger import Sampling
from tff_privacy_agg.ledger.participation.counts import EligibleClients


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class SeparatedCohorts:
  """A cohort of fixed size a round; no client comes back before `separation` rounds are over.

  For noise that is correlated over rounds: of any two rounds x < y of a client,
  `y - x >= separation`. Of the clients that may take part, those who have taken part in the fewest
  rounds are drawn, at random among equals, so that nobody takes part in more rounds than
  `participation_cap` says. No amplification by sampling can be claimed.

  A ledger that claims the separation knows who took part in which round, before a restart too.
  Without one, a sampler with a seed draws its earlier rounds again, and one without remembers what
  it drew itself. A round that is asked for again is drawn again, and those after it are forgotten.

  Args:
    client_ids: All clients; no two alike.
    size: Clients a round.
    separation: Smallest distance of two rounds of one client; 1 lets clients take part in every round.
    seed: Seed of the draws, not negative; None for secret ones.

  Raises:
    ConfigurationError: If there are fewer than `size * separation` clients, or two ids are alike.

  Examples:
    >>> cohorts = tpa.SeparatedCohorts(client_ids=['a', 'b', 'c'], size=1, separation=3)
    >>> cohorts.participation_cap(rounds=7)
    3
  """

  client_ids: Sequence[str]
  size: int
  separation: int
  seed: int | None = None
  _drawn: list[list[str]] = dataclasses.field(
    default_factory=list, init=False, repr=False, compare=False
  )
  _taken: collections.Counter[str] = dataclasses.field(
    default_factory=collections.Counter, init=False, repr=False, compare=False
  )

  def __post_init__(self) -> None:
    _validate.at_least(1, size=self.size, separation=self.separation)
    if self.seed is not None:
      _validate.at_least(0, seed=self.seed)
    check_ids(self.client_ids)
    clients, needed = len(self.client_ids), self.size * self.separation
    if needed > clients:
      raise ConfigurationError(
        f'Rounds of {counted(self.size, "client")}, who return after '
        f'{counted(self.separation, "round")} at the earliest, need {counted(needed, "client")}; '
        f'there are {clients}. Lower `size` or `separation`.'
      )

  def participation_cap(self, rounds: int) -> int:
    """Most rounds, of so many, in which one client takes part if all are always available.

    Args:
      rounds: Rounds of the training, at least 1.
    """
    _validate.at_least(1, rounds=rounds)
    return -(-rounds * self.size // len(self.client_ids))

  def cohort(self, round_number: int, eligible: Sequence[str] | None = None) -> list[str]:
    """Ids of the clients of a round.

    Args:
      round_number: The round, from 1.
      eligible: Clients that may take part, or None for all. Those of a ledger that claims the
        separation, or a larger one, are taken as they are.

    Raises:
      ConfigurationError: If fewer than `size` clients may take part, or who took part in earlier
        rounds is not known.
    """
    _validate.at_least(1, round_number=round_number)
    if isinstance(eligible, EligibleClients) and eligible.separation >= self.separation:
      return self._draw(round_number, eligible, eligible.taken)
    if round_number > len(self._drawn) + 1 and self.seed is None:
      raise ConfigurationError(
        f'Who took part in the rounds before round {round_number} is not known: the draws are '
        f'secret, and this sampler has drawn {counted(len(self._drawn), "round")}. Resume with the '
        'ledger of the training, or draw from a seed.'
      )
    for forgotten in self._drawn[round_number - 1 :]:
      self._taken.subtract(forgotten)
    del self._drawn[round_number - 1 :]
    while len(self._drawn) < round_number - 1:
      self._remember(self._separated(len(self._drawn) + 1, self.client_ids))
    return self._remember(
      self._separated(round_number, self.client_ids if eligible is None else eligible)
    )

  @property
  def sampling(self) -> Sampling:
    """Claims nothing: draws depend on one another."""
    how = 'in secret' if self.seed is None else 'from a seed that is not secret'
    return Sampling(
      text=f'fixed size, rounds of one client at least {self.separation} apart, drawn {how}'
    )

  def _separated(self, round_number: int, ids: Sequence[str]) -> list[str]:
    """Draws among those who were in none of the last `separation - 1` rounds."""
    first = max(len(self._drawn) - self.separation + 1, 0)
    recent = {client for cohort in self._drawn[first:] for client in cohort}
    rested = [client for client in ids if client not in recent]
    return self._draw(round_number, rested, [self._taken[client] for client in rested])

  def _draw(self, round_number: int, ids: Sequence[str], taken: Sequence[int]) -> list[str]:
    """The clients who have taken part least, at random among equals."""
    if len(ids) < self.size:
      raise ConfigurationError(
        f'Round {round_number} needs {counted(self.size, "client")}; the separation of '
        f'{counted(self.separation, "round")} and the participation cap leave {len(ids)}. Use '
        'smaller cohorts, or fewer rounds.'
      )
    if self.seed is None:
      keys = np.frombuffer(os.urandom(8 * len(ids)), np.uint64)
    else:
      keys = np.random.default_rng([self.seed, round_number]).integers(
        2**63, size=len(ids), dtype=np.uint64
      )
    chosen = np.lexsort((keys, np.asarray(taken)))[: self.size]
    return [ids[index] for index in sorted(chosen)]

  def _remember(self, cohort: list[str]) -> list[str]:
    self._drawn.append(cohort)
    self._taken.update(cohort)
    return cohort

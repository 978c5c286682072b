"""Which clients take part in which round."""

import collections
import dataclasses
import os
import random
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger import Sampling
from tff_privacy_agg.ledger.participation.counts import EligibleClients

# Rounds without a client cannot run; one in this many may be refused for it.
_RARELY = 1e-6


class Cohorts(Protocol):
  """A sampler of cohorts."""

  @property
  def client_ids(self) -> Sequence[str]:
    """All clients; no two alike."""

  @property
  def sampling(self) -> Sampling:
    """The sampler's distribution, as a ledger records it."""

  def cohort(self, round_number: int, eligible: Sequence[str] | None = None) -> list[str]:
    """Ids of the clients of a round, none twice.

    Args:
      round_number: The round, from 1.
      eligible: Clients that may take part, as the participation cap and the separation of a
        ledger leave them; None for all.
    """


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformCohorts:
  """A cohort of fixed size a round, drawn uniformly without replacement.

  A pure function of the seed, the round and the eligible clients, so that a resumed training
  draws the cohorts that an unbroken one would have drawn. No client is twice in a cohort.
  A seed is not secret: no amplification by sampling can be claimed from it. Without one the
  draws come from the operating system's entropy and are kept nowhere; a resumed training
  then draws anew.

  Args:
    client_ids: All clients; no two alike.
    size: Clients a round.
    seed: Seed of the draws, not negative; None for secret ones.

  Raises:
    ConfigurationError: If `size` exceeds the number of clients, or two ids are alike.
  """

  client_ids: Sequence[str]
  size: int
  seed: int | None = 0

  def __post_init__(self) -> None:
    _validate.at_least(1, size=self.size)
    if self.seed is not None:
      _validate.at_least(0, seed=self.seed)
    _check_ids(self.client_ids)
    if self.size > len(self.client_ids):
      raise ConfigurationError(
        f'`size` must be at most the {counted(len(self.client_ids), "client")} there are, got '
        f'{self.size}.'
      )

  def cohort(self, round_number: int, eligible: Sequence[str] | None = None) -> list[str]:
    """Ids of the clients of a round.

    Raises:
      ConfigurationError: If fewer than `size` clients are eligible.
    """
    ids = self.client_ids if eligible is None else eligible
    if len(ids) < self.size:
      raise ConfigurationError(
        f'Round {round_number} needs {counted(self.size, "client")}; the participation cap leaves '
        f'{len(ids)}. Raise the cap, or train for fewer rounds or with smaller cohorts.'
      )
    if self.seed is None:
      secret = random.SystemRandom().sample(range(len(ids)), self.size)
      return [ids[index] for index in sorted(secret)]
    rng = np.random.default_rng([self.seed, round_number])
    chosen = rng.choice(len(ids), size=self.size, replace=False)
    return [ids[index] for index in sorted(chosen)]

  @property
  def sampling(self) -> Sampling:
    """Fixed size without replacement, if the draws are secret."""
    if self.seed is not None:
      return Sampling(text='uniform, fixed size, drawn from a seed that is not secret')
    return Sampling(kind='without_replacement', population=len(self.client_ids), cohort=self.size)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class PoissonCohorts:
  """Every client takes part in every round by a coin of its own: Poisson sampling.

  The coins come from the operating system's entropy and are kept nowhere, as a claim of
  amplification by sampling needs it: a resumed training draws anew.

  Args:
    client_ids: All clients; no two alike.
    probability: Of one client taking part in one round, in (0, 1).

  Raises:
    ConfigurationError: If an argument is outside its range, or cohorts without a client
      would not be rare.
  """

  client_ids: Sequence[str]
  probability: float

  def __post_init__(self) -> None:
    _validate.fraction(probability=self.probability)
    _check_ids(self.client_ids)
    if (1 - self.probability) ** len(self.client_ids) > _RARELY:
      raise ConfigurationError(
        f'A round needs a client; with probability {self.probability:g} of '
        f'{counted(len(self.client_ids), "client")}, one in '
        f'{1 / (1 - self.probability) ** len(self.client_ids):.3g} rounds has none. Raise '
        '`probability`.'
      )

  def cohort(self, round_number: int, eligible: Sequence[str] | None = None) -> list[str]:
    """Ids of the clients of a round; another cohort at every call."""
    ids = self.client_ids if eligible is None else eligible
    del round_number
    coins = np.frombuffer(os.urandom(8 * len(ids)), np.uint64)
    heads = coins < np.uint64(self.probability * 2.0**64)
    return [ids[index] for index in np.flatnonzero(heads)]

  @property
  def sampling(self) -> Sampling:
    """Poisson sampling."""
    return Sampling(kind='poisson', population=len(self.client_ids), rate=self.probability)


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
    _check_ids(self.client_ids)
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


def _check_ids(client_ids: Sequence[str]) -> None:
  _validate.several(client_ids=client_ids)
  if len(set(client_ids)) != len(client_ids):
    raise ConfigurationError(
      '`client_ids` must differ from one another, got some twice. '
      'A client that is twice in a cohort doubles what it can reveal; remove the duplicates.'
    )

"""Which clients take part in which round."""

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
    check_ids(self.client_ids)
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
    check_ids(self.client_ids)
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


def check_ids(client_ids: Sequence[str]) -> None:
  """Raises unless all clients are in a list, none of them twice."""
  _validate.several(client_ids=client_ids)
  if len(set(client_ids)) != len(client_ids):
    raise ConfigurationError(
      '`client_ids` must differ from one another, got some twice. '
      'A client that is twice in a cohort doubles what it can reveal; remove the duplicates.'
    )

"""Which clients of a simulated session drop out, and when."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.secagg.rounds import Round


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomDrops:
  """Every client drops out of a session with probability `rate`, in a uniform protocol round.

  Args:
    rate: Between 0 and 1, both excluded.
    seed: Seed of the choice; the same in every run.
  """

  rate: float
  seed: int = 0

  def __post_init__(self) -> None:
    _validate.fraction(rate=self.rate)
    _validate.at_least(0, seed=self.seed)

  def plan(self, session: int, clients: int) -> dict[int, int]:
    """{client: protocol round from which it is silent} in the given session."""
    random = np.random.default_rng([self.seed, session])
    dropped = np.flatnonzero(random.random(clients) < self.rate)
    return {int(client): int(random.integers(len(Round))) for client in dropped}


Drops = Mapping[int, int] | RandomDrops | None


def plan_of(drops: Drops, session: int, clients: int) -> dict[int, int]:
  """The plan of one session.

  Raises:
    ConfigurationError: If it names a client or a round that there is not.
  """
  if drops is None:
    return {}
  if isinstance(drops, RandomDrops):
    return drops.plan(session, clients)
  for client, at in drops.items():
    _validate.at_least(0, drops=client)
    _validate.at_least(0, drops=at)
    if client >= clients or at >= len(Round):
      raise ConfigurationError(
        f'`drops` says that client {client} drops out in round {at}; there are {clients} clients, '
        f'counted from 0, and rounds 0 to {len(Round) - 1}. Correct the plan.'
      )
  return dict(drops)

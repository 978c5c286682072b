"""Which clients take part in which round."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class UniformCohorts:
  """A cohort of fixed size a round, drawn uniformly without replacement.

  A pure function of the seed and the round, so that a resumed training draws the
  cohorts that an unbroken one would have drawn. No client is twice in a cohort.
  The seed is not secret: no amplification by sampling can be claimed from it.

  Args:
    client_ids: All clients; no two alike.
    size: Clients a round.
    seed: Seed of the draws; not negative.

  Raises:
    ConfigurationError: If `size` exceeds the number of clients, or two ids are alike.
  """

  client_ids: Sequence[str]
  size: int
  seed: int = 0

  def __post_init__(self):
    _validate.at_least(1, size=self.size)
    _validate.at_least(0, seed=self.seed)
    if len(set(self.client_ids)) != len(self.client_ids):
      raise ConfigurationError(
        '`client_ids` must differ from one another, got some twice. '
        'A client that is twice in a cohort doubles what it can reveal; remove the duplicates.'
      )
    if self.size > len(self.client_ids):
      raise ConfigurationError(
        f'`size` must be at most the {len(self.client_ids)} clients there are, got {self.size}.'
      )

  def cohort(self, round_number: int) -> list[str]:
    """Ids of the clients of a round."""
    rng = np.random.default_rng([self.seed, round_number])
    chosen = rng.choice(len(self.client_ids), size=self.size, replace=False)
    return [self.client_ids[index] for index in sorted(chosen)]

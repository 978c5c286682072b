"""A plan of noise that is correlated over rounds, and its reasons."""

import dataclasses
from typing import Any

from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz
from tff_privacy_agg.accounting.planning.least_budget import stated

# What is called no gain: less than this many times less error.
_NO_GAIN = 1.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrelatedPlan:
  """What a training with correlated noise needs to end at a target epsilon.

  Attributes:
    noise_multiplier: To give to `CorrelatedNoise`: of one participation in all rounds it moves.
    strategy: To give to it: coefficients, separation and participations.
    rounds: Rounds of the training.
    participations: Most rounds of one client, which epsilon is for.
    epsilon: Epsilon at the end in the release view, at most the target. The server sees the sums:
      its own view has none.
    delta: Delta of it.
    mu_squared: Total of `mu^2`, for the budget.
    error: Root mean square over all rounds of the noise on a coordinate of the accumulated sums, in
      clip norms.
    independent_error: The same of independent noise at the same epsilon.
    gain: How many times less error that is; 1 is no gain.
    clients_needed: Fewest clients that keep the separation; None if the cohort was not given.
    state_bytes: Secret noise that a state keeps; None if the parameters were not given.
    reasons: What decided each number, in sentences.
  """

  noise_multiplier: float
  strategy: BandedToeplitz
  rounds: int
  participations: int
  epsilon: float
  delta: float
  mu_squared: float
  error: float
  independent_error: float
  gain: float
  clients_needed: int | None
  state_bytes: int | None
  reasons: tuple[str, ...]

  @property
  def budget(self) -> Budget:
    """The budget that admits exactly the planned participations of one client."""
    epsilon = stated(self.epsilon)
    return Budget(epsilon=epsilon, delta=self.delta, view='release', mu_squared=self.mu_squared)

  def as_dict(self) -> dict[str, Any]:
    """The plan as JSON values; the strategy by its numbers."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    del values['strategy']
    return {
      **values,
      'separation': self.strategy.separation,
      'bands': self.strategy.bands,
      'coefficients': self.strategy.column.coefficients,
      'reasons': list(self.reasons),
    }


def reasons_for(
  strategy: BandedToeplitz,
  rounds: int,
  participations: int,
  z: float,
  epsilon: float,
  gain: float,
  needed: int | None,
  state: int | None,
) -> list[str]:
  """What decided the numbers of a plan, in sentences."""
  separation, bands = strategy.separation, strategy.bands
  if gain < _NO_GAIN:
    first = (
      f'No gain worth the trust in the server: the error of the accumulated model is {gain:.3g} '
      f'times less than that of independent noise, as clients return after {separation} of '
      f'{counted(rounds, "round")}. Use noise that clients add (`DiscreteGaussianNoise`), which '
      "holds in the server's view too."
    )
  else:
    first = (
      f'The error of the accumulated model is {gain:.3g} times less than that of independent noise at '
      f'the same epsilon. It would be the same if clients took part in every round.'
    )
  found = [
    first,
    f'Noise multiplier {z:.4g}: the smallest with epsilon at most {epsilon:.4g} for a client who '
    f'takes part in {counted(participations, "round")} or fewer, at least '
    f'{counted(separation, "round")} apart.',
    'Epsilon holds for who sees the released models. The server sees the sum of every round and the '
    'noise: its own view has no finite epsilon.',
    f'{counted(bands, "band")}: a state keeps the noise of the last {counted(bands - 1, "round")}, '
    'which is secret' + ('.' if state is None else f': {state / 2**20:.3g} MiB.'),
  ]
  if needed is not None:
    found.append(
      f'The separation needs {counted(needed, "client")} who can take part (`SeparatedCohorts`). A '
      'client who returns too soon is refused before the round is charged.'
    )
  return found

"""A plan: noise, bits and error of a training that ends at a target epsilon."""

import dataclasses
from typing import Any

from tff_privacy_agg.accounting.budget import Budget
from tff_privacy_agg.accounting.planning.least_budget import stated
from tff_privacy_agg.accounting.price import RoundPrice

SAMPLING_REASONS = {
  'none': 'No amplification is claimed: the number holds against the server.',
  'poisson': 'Amplification by secret Poisson sampling is assumed: the number holds for readers of '
  'the models, not against the server, if the server tops up the noise to the same total in every '
  'round and nobody learns the number of survivors. The stacks of this package publish that '
  'number, so their ledgers do not make this claim. It is the epsilon of exactly the planned rounds; '
  'where results may end the training, `budget_epsilon` is proved.',
  'without_replacement': 'Amplification by secret cohorts of fixed size is assumed: the number '
  'holds for readers of the models, not against the server, if every cohort is drawn anew, in '
  "secret, and nobody drops out. Its unit is one client's data replaced by other data, at twice "
  "the sensitivity. A ledger claims it by `Sampling(kind='without_replacement')`.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
  """Noise, bits and error of a training that ends at a target epsilon.

  Attributes:
    noise_multiplier: Effective noise multiplier to give the noise layer.
    bits: Bits a coordinate to give the secure sum.
    modulus: 2^bits.
    scaled_norm: `K`: the quantization scale is `K / clip norm`.
    minimum_honest: Fewest honest survivors: `Cohort.minimum`.
    epsilon: Epsilon at the end, at most the target. Under Poisson sampling it is that of exactly
      the planned rounds, whatever they release.
    budget_epsilon: Epsilon of the budget, which holds also where results decide when to stop; it
      differs from `epsilon` under Poisson sampling alone.
    view: 'server', or 'release' where sampling is claimed.
    adjacency: The neighbouring relation of epsilon; 'replace_one' for cohorts of fixed size.
    delta: The target delta.
    price: What one planned round releases, and its price.
    mu_squared: Total of `mu^2` over the planned rounds, for the budget; None where Renyi
      divergence is accounted.
    error_over_central: Error of the sum over that of central Gaussian noise of the same multiplier.
    bytes_per_client: Upload of one client in one round: `bits` a coordinate.
    reasons: What decided each number, in sentences.
  """

  noise_multiplier: float
  bits: int
  modulus: int
  scaled_norm: float
  minimum_honest: int
  epsilon: float
  budget_epsilon: float
  view: str
  adjacency: str
  delta: float
  price: RoundPrice
  mu_squared: float | None
  error_over_central: float
  bytes_per_client: int
  reasons: tuple[str, ...]

  @property
  def budget(self) -> Budget:
    """The budget that admits exactly the planned rounds, also where the last is charged first.

    Of an epsilon that is rounded up in its seventh digit, with the total of `mu^2` as a number.
    """
    epsilon = stated(self.budget_epsilon)
    return Budget(epsilon=epsilon, delta=self.delta, view=self.view, mu_squared=self.mu_squared)

  def as_dict(self) -> dict[str, Any]:
    """The plan as JSON values."""
    values = dataclasses.asdict(self)
    del values['price']  # the binding of the stack states its own
    return {**values, 'reasons': list(self.reasons)}

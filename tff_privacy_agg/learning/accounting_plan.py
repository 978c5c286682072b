"""Claims of a training about its clients and cohorts, for its account."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._deprecation import renamed
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.ledger import LedgerFacts, Sampling
from tff_privacy_agg.ledger.claims import check_claims


@renamed(secagg_threshold='minimum_clients')
@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Accounting:
  """Population, delta, budget and claims that the epsilon of a training is stated for.

  Attributes:
    population: Clients in all.
    delta: Below 1/population; None takes a tenth of that, for ten clients or more.
    budget: The most to spend; the process halts itself before it is passed. Its delta
      may differ from `delta`, at which the metrics state epsilon.
    minimum_clients: As in `LedgerFacts`: fewest survivors whose sum the runtime
      opens. In a simulation without drop-outs, the size of a cohort. None promises
      nothing, and a round that was never settled is then charged as if a single honest
      client's noise had covered it.
    participation_cap: Most rounds in which one client takes part; None for no cap.
    sampling: How the cohorts are drawn: words claim nothing; a `Sampling`, such as
      `cohorts.sampling` of a sampler that draws in secret, lowers epsilon in the release
      view where that is proved, and each round must then be drawn so.
    task: What is trained, for the report.
    tuning_runs: Other trainings on the same clients that chose the parameters.

  Raises:
    ConfigurationError: If an argument is outside its range.
  """

  population: int
  # None until __post_init__ has put the default in its place.
  delta: float = None  # type: ignore[assignment]
  budget: Budget | None = None
  minimum_clients: int | None = None
  participation_cap: int | None = None
  sampling: Sampling | str = ''
  task: str = ''
  tuning_runs: int | None = None

  def __post_init__(self) -> None:
    _validate.at_least(1, population=self.population)
    if self.delta is None:
      object.__setattr__(self, 'delta', _validate.default_delta(self.population))
    check_claims(self)
    if self.budget is not None:
      _validate.instance(Budget, budget=self.budget)
      _validate.delta_of(self.population, self.budget.delta, what='budget.delta')

  def facts(
    self, stack: Mapping[str, Any], *, randomness: str, unaccounted: Sequence[str] = ()
  ) -> LedgerFacts:
    """Facts for the ledger of a training.

    Args:
      stack: What `factory.bind(type).facts()` gives.
      randomness: Of the noise.
      unaccounted: What leaves the clients outside the account.

    Raises:
      ConfigurationError: If a claim cannot hold.
    """
    return LedgerFacts(
      stack=stack,
      delta=self.delta,
      population=self.population,
      randomness=randomness,
      minimum_clients=self.minimum_clients,
      participation_cap=self.participation_cap,
      sampling=Sampling.of(self.sampling),
      task=self.task,
      tuning_runs=self.tuning_runs,
      unaccounted=tuple(unaccounted),
    )

"""A query with noise, a cohort and an account: one round of secure aggregation."""

import dataclasses
import functools
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_federated as tff

from tff_privacy_agg import _validate, accounting
from tff_privacy_agg._deprecation import renamed
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation import binding
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import ComposedFactory
from tff_privacy_agg.analytics.base import Query
from tff_privacy_agg.analytics.charged import charged, facts_in
from tff_privacy_agg.analytics.client_values import client_values
from tff_privacy_agg.analytics.error_law import ErrorLaw
from tff_privacy_agg.analytics.statistic_round import round_of, stack_for, vector_type
from tff_privacy_agg.ledger import LedgerFacts, PrivacyLedger


@dataclasses.dataclass(frozen=True, kw_only=True)
class Statistic:
  """A private statistic; from `private_statistic`."""

  query: Query
  cohort: Cohort
  noise_multiplier: float
  mechanism: str = 'discrete_gaussian'
  bits: int | None = None
  randomness: str = 'chacha20'

  def __post_init__(self) -> None:
    _validate.instance(Query, query=self.query)
    _validate.instance(Cohort, cohort=self.cohort)
    _validate.noise_multiplier(self.noise_multiplier)
    _validate.one_of(DISTRIBUTED, mechanism=self.mechanism)

  @functools.cached_property
  def binding(self) -> binding.Binding:
    """The constants of the release: its integer design, its curve."""
    return self._factory.bind(vector_type(self.query))

  def epsilon(self, delta: float, answers: int = 1) -> float:
    """Epsilon of one client, at `cohort.minimum` honest survivors, zero-out adjacency.

    Args:
      delta: In (0, 1).
      answers: How often the statistic is computed with the same client.
    """
    _validate.at_least(1, answers=answers)
    price, fewest = self.binding.price, self.cohort.minimum
    account = accounting.account_of(price)
    total, distance = answers * account.row(price, fewest), answers * price.distance(fewest)
    return account.epsilon(total, delta, distance)[0]

  @renamed(secagg_threshold='minimum_clients')
  def facts(
    self,
    *,
    population: int,
    delta: float,
    minimum_clients: int | None = None,
    task: str = '',
    unit: str = 'client',
  ) -> LedgerFacts:
    """Facts of a ledger that this statistic begins: see `LedgerFacts`."""
    return LedgerFacts(
      stack=self.binding.facts(),
      delta=delta,
      population=population,
      randomness=self.randomness,
      minimum_clients=minimum_clients,
      task=task or repr(self.query),
      unit=unit,
    )

  def answer(
    self,
    values: Sequence[Any],
    *,
    ledger: PrivacyLedger | None = None,
    facts: LedgerFacts | None = None,
  ) -> Mapping[str, Any]:
    """One round in the TFF context that is installed: `next` from a state of its own.

    Args:
      values: One value for each client, such as a list or an array: of `query.value_type`, or of
        narrower numbers.
      ledger: Of all questions about the same clients, whatever their noise: this one is charged
        before a client is asked, and settled before the answer is returned.
      facts: What this question rests on in the ledger, from `facts`; by default what the
        ledger rests on, threshold included, with the stack and the query of this statistic.

    Returns:
      The query's answer, cut to what is possible; `uncut`: what was cut, as the noise left it,
      whose errors have mean zero and add up; `stddev`: the standard deviation of its noise; and
      `survivors`, `honest` and `accepted`: whether there were enough of them. If not, the
      answer is that of sums which are all zero.

    Raises:
      BudgetExceededError: If the ledger's budget does not admit the question; nothing is charged
        and nobody asked.
      ConfigurationError: If `values` do not fit the query, `facts` are those of another question,
        or the secure sums do not keep what the ledger counts on; nothing is charged.
      LedgerError: If the question cannot stand in the ledger.
    """
    if ledger is None:
      return self._ask(client_values(values, self.query.value_type))
    own = facts_in(ledger, facts, self.binding.facts(), self.randomness, repr(self.query))
    values = client_values(values, self.query.value_type)
    return charged(ledger, own, len(values), lambda: self._ask(values))

  def precision(
    self, confidence: float = 0.95, *, survivors: int | None = None
  ) -> Mapping[str, float]:
    """Largest error of the answer by name, known before anybody is asked.

    It is about the sum of what clients sent, after they were cut to the bounds. For
    `Quantiles`: `rank`, the most by which any rank is off, in clients, all at once; `fraction`,
    the same over the clients; and `leaf`, the width that a quantile is found to at best.

    Args:
      confidence: Probability, in (0, 1), that it is no further off.
      survivors: Number of clients that answer; `cohort.expected` if None.
    """
    number = self.cohort.expected if survivors is None else survivors
    return self.query.precision(self._law(number), confidence)

  def intervals(
    self, found: Mapping[str, Any], confidence: float = 0.95
  ) -> Mapping[str, np.ndarray]:
    """Confidence intervals of an answer, `[..., 2]`, by name; docs/analytics.md has the formulas.

    They are made of the answer and the distribution of its noise alone: they cost no epsilon. They
    cover what the clients' values give after they were cut to the bounds, each interval for
    itself; of a round that was not accepted, they are all that is possible.

    Args:
      found: What `answer` gave.
      confidence: Probability, in (0, 1), with which each covers.
    """
    _validate.fraction(confidence=confidence)
    survivors = int(found['survivors'])
    if not found['accepted']:
      return {
        name: np.broadcast_to(np.array(ends), (*np.shape(found[name]), 2))
        for name, ends in self.query.limits(survivors).items()
      }
    noised = {**found, **found.get('uncut', {})}
    return self.query.intervals(noised, self._law(survivors), confidence)

  @functools.cached_property
  def initialize(self) -> compat.Computation:
    """TFF computation of the first state: an empty privacy account."""
    return self._process.initialize

  @functools.cached_property
  def next(self) -> compat.Computation:
    """TFF computation of a round, (state at server, values at clients) -> (state, answer).

    It runs in every context that can run secure sums: `runtime.simulation_context()`,
    `runtime.SecAggContext`, or between processes with `tff-privacy-agg serve`.
    """
    return round_of(self._process, self.query, self._law(1).stddev)

  def _ask(self, values: Sequence[Any]) -> Mapping[str, Any]:
    """The answer to values of the query's type."""
    return self.next(self.initialize(), values)[1]

  def _law(self, clients: int) -> ErrorLaw:
    # Noise is a layer of every statistic's stack, so there is a design, and it has a distribution.
    design = typing.cast(accounting.IntegerDesign, self.binding.design)
    return ErrorLaw(
      mechanism=self.mechanism,
      local_variance=design.local_variance,
      clients=clients,
      step=self.query.unit / design.scaled_norm,
    )

  @functools.cached_property
  def _process(self) -> tff.templates.AggregationProcess:
    return self._factory.create(vector_type(self.query))

  @functools.cached_property
  def _factory(self) -> ComposedFactory:
    return stack_for(
      self.query,
      self.cohort,
      noise_multiplier=self.noise_multiplier,
      mechanism=self.mechanism,
      bits=self.bits,
      randomness=self.randomness,
    )


@_validate.plain_numbers
def private_statistic(
  query: Query,
  cohort: Cohort,
  *,
  noise_multiplier: float,
  mechanism: str = 'discrete_gaussian',
  bits: int | None = None,
  randomness: str = 'chacha20',
) -> Statistic:
  """A statistic of the clients' values with distributed differential privacy.

  One round: every client sends one vector of residues with its share of the noise in it,
  and the server sees their sum. `statistic.answer(values)` runs it in a TFF context that can
  run secure sums, such as `runtime.simulation_context()` or `runtime.SecAggContext`, and
  `statistic.intervals(found)` says how sure the answer is.

  Args:
    query: `Count`, `Sum`, `Mean`, `Histogram` or `Quantiles`.
    cohort: How many clients answer.
    noise_multiplier: Effective, at `cohort.minimum` honest survivors: standard deviation
      of the noise over the most that one client can move the vector. Positive.
    mechanism: 'discrete_gaussian' or 'skellam'.
    bits: Bits a number that leave a client, 2 to 62; None for the fewest that make the answer
      no less precise.
    randomness: As in `compose`.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Examples:
    >>> statistic = tpa.analytics.private_statistic(
    ...   tpa.analytics.Count(), tpa.Cohort(expected=1000), noise_multiplier=5.0
    ... )
    >>> round(statistic.precision(confidence=0.95)['count'], 1)
    9.8
  """
  return Statistic(
    query=query,
    cohort=cohort,
    noise_multiplier=noise_multiplier,
    mechanism=mechanism,
    bits=bits,
    randomness=randomness,
  )

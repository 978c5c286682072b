"""Facts that every number of a ledger rests on: the first line of the file."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._deprecation import renamed
from tff_privacy_agg._names import RANDOMNESS
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.accounts import Account, RenyiAccount, account_of
from tff_privacy_agg.accounting.designs.shares import honest_survivors
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.errors import ConfigurationError, LedgerError
from tff_privacy_agg.ledger import line_format as ledger_lines
from tff_privacy_agg.ledger.claims import check_claims, printable
from tff_privacy_agg.ledger.costs.rounds import PlainCosts, price_of
from tff_privacy_agg.ledger.recomputed import check_stack
from tff_privacy_agg.ledger.sampling_claims import Sampling, check_proved
from tff_privacy_agg.ledger.stack_facts import differing_facts, kept_facts

# Facts that were called otherwise before schema 3.
_FORMER_NAMES = {'secagg_threshold': 'minimum_clients'}


@renamed(**_FORMER_NAMES)
@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class LedgerFacts:
  """The facts of a training that its ledger rests on.

  Attributes:
    stack: What `factory.bind(type).facts()` gives; more keys are left out. `top_up`, if
      it is there, is the number of shares to which the server tops up the noise of each
      sum before it is decoded, for the release view.
    delta: Delta of the stated epsilons; below 1/population, a tenth of it to be safe.
    population: Clients in all.
    randomness: 'chacha20', or 'philox' for simulations.
    minimum_clients: Fewest survivors whose sum the runtime lets the server see: the
      threshold of the secure aggregation, or the size of the cohort in a simulation
      without drop-outs. None promises nothing: see `PrivacyLedger.charge`.
    participation_cap: Most rounds in which one client takes part; None for no cap. Noise that is
      correlated over rounds may state another one: the smaller counts.
    sampling: How the cohorts are drawn: a `Sampling` claims what its kind says, for the
      release view alone; words claim nothing.
    unit: Who is protected.
    task: What is trained, for the report.
    tuning_runs: Other trainings on the same clients that chose the parameters; None if
      it was not said.
    unaccounted: What leaves the clients and is not in the sum of this ledger, such as
      'training metrics'.

  Raises:
    ConfigurationError: If an argument is outside its range, or `stack` lacks a fact.
  """

  stack: Mapping[str, Any]
  delta: float
  population: int
  randomness: str = 'chacha20'
  minimum_clients: int | None = None
  participation_cap: int | None = None
  sampling: Sampling = Sampling()  # noqa: RUF009, it is frozen
  unit: str = 'client'
  task: str = ''
  tuning_runs: int | None = None
  unaccounted: tuple[str, ...] = ()

  def __post_init__(self) -> None:
    check_claims(self)
    _validate.one_of(tuple(RANDOMNESS), randomness=self.randomness)
    object.__setattr__(self, 'sampling', Sampling.of(self.sampling))
    printable(unit=self.unit)
    for what in self.unaccounted:
      printable(unaccounted=what)
    stack = kept_facts(self.stack)
    object.__setattr__(self, 'stack', stack)
    object.__setattr__(self, 'unaccounted', tuple(self.unaccounted))
    if self.minimum_clients and self.minimum_clients > self.maximum:
      raise ConfigurationError(
        f'`minimum_clients` must be at most the largest cohort, {self.maximum}, got '
        f'{self.minimum_clients}. Lower it.'
      )
    price = self.price  # refuses a design that has none
    self._check_top_up(price)
    check_proved(
      self.sampling,
      price,
      stack,
      population=self.population,
      participation_cap=self.participation_cap,
    )

  def check(self, *, earlier: bool = False) -> None:
    """Raises unless the stack's facts can be, and agree with one another.

    Args:
      earlier: As for `from_dict`.

    Raises:
      ConfigurationError: If they do not.
    """
    check_stack(self.stack, self.price, earlier=earlier)

  @property
  def maximum(self) -> int:
    """Largest cohort that a round admits."""
    return int(self.stack['cohort']['maximum'])

  @property
  def colluding_fraction(self) -> float:
    """Fraction of the survivors whose noise the server is assumed to know."""
    return float(self.stack['cohort']['colluding_fraction'])

  @property
  def worst_survivors(self) -> int:
    """Fewest survivors of a round of which nothing more is known."""
    return self.minimum_clients or 1

  @property
  def separation(self) -> int | None:
    """Where noise is correlated over rounds: any two rounds of one client are so far apart."""
    return self.price.separation

  @property
  def cap(self) -> int | None:
    """Most rounds in which one client takes part, whoever states it; None for no cap."""
    caps = [cap for cap in (self.participation_cap, self.price.participations) if cap is not None]
    return min(caps, default=None)

  @property
  def needs_cohorts(self) -> bool:
    """Whether every round must name its clients: their participations are counted."""
    return self.cap is not None or self.separation is not None

  @property
  def top_up(self) -> int | None:
    """Shares up to which the server tops up the noise, for the release view; or None."""
    return self.stack.get('top_up')

  def check_delta(self, delta: float, what: str) -> None:
    """Raises unless `delta`, called `what`, is below one over the population, if that is several.

    Raises:
      ConfigurationError: If it is not.
    """
    if delta * self.population >= 1 < self.population:
      raise ConfigurationError(
        f'{what} must be below 1/population = {1 / self.population:g}, got {delta!r}. A delta that '
        "large permits publishing one client's data. Lower it."
      )

  @property
  def entropy_bits(self) -> int:
    """Bits of entropy in one client's key."""
    return RANDOMNESS[self.randomness]

  def honest(self, survivors: int) -> int:
    """Honest clients among the survivors of a round."""
    return honest_survivors(survivors, self.colluding_fraction)

  @functools.cached_property
  def price(self) -> RoundPrice:
    """The releases of one round, and their price.

    Raises:
      ConfigurationError: If the stack has none.
    """
    return price_of(self.stack)

  def account(self, view: str) -> Account:
    """The account that rounds of these facts take in a view, if no other rounds are with them."""
    if view == 'release' and self.sampling.claims:
      return RenyiAccount(self.sampling.orders(self.price))
    return account_of(self.price)

  def costs(self, account: Account | None = None) -> PlainCosts:
    """Cost of one round in an account, by default that of the server view."""
    account = account or self.account('server')
    return PlainCosts(self.price, account, worst_honest=self.honest(self.worst_survivors))

  def as_dict(self) -> dict[str, Any]:
    """The facts as JSON values."""
    values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
    return {
      **values,
      'stack': {**self.stack, 'price': self.price.as_dict()},
      'sampling': self.sampling.as_dict(),
      'unaccounted': list(self.unaccounted),
    }

  def differences(self, other: 'LedgerFacts') -> list[str]:
    """Names of the facts in which a training differs from one that `other` is counted for.

    Samplers closer to their distributions than those of `other` are no difference: a ledger that
    an earlier version began goes on to count the larger distance.
    """
    mine, theirs = (json.loads(ledger_lines.canonical(f.as_dict())) for f in (self, other))
    for facts in (mine, theirs):
      del facts['sampling']['text']  # words for the report
    names = [key for key in mine if key != 'stack' and mine[key] != theirs[key]]
    differing = differing_facts(mine['stack'], theirs['stack'])
    return names + [f'stack.{key}' for key in differing]

  def _check_top_up(self, price: RoundPrice) -> None:
    if self.top_up is None:
      return
    _validate.at_least(1, top_up=self.top_up)
    if not price.distributed or self.top_up < self.maximum:
      raise ConfigurationError(
        '`top_up` tops up the noise that clients add, to at least the '
        f'{counted(self.maximum, "share")} of the largest cohort; got {self.top_up} with '
        f'{self.stack["mechanism"]} noise. Raise it, or leave it out.'
      )

  @classmethod
  def from_dict(cls, values: Mapping[str, Any], *, earlier: bool = False) -> 'LedgerFacts':
    """The facts of a header.

    Args:
      values: What `as_dict` gave.
      earlier: Whether a version wrote them that priced rounds by Renyi divergence alone.

    Raises:
      LedgerError: If they are not facts.
    """
    try:
      values = current_names(values)
      if earlier:
        price = price_of(values['stack'], earlier=True)
        values = {**values, 'stack': {**values['stack'], 'price': price.as_dict()}}
      missing = {field.name for field in dataclasses.fields(cls)} - {*values}
      if missing:
        raise ConfigurationError(f'They lack {", ".join(sorted(missing))}.')
      facts = cls(**values)
      facts.check(earlier=earlier)
      return facts
    except (TypeError, KeyError, ValueError, AttributeError, ArithmeticError) as error:
      raise LedgerError(
        f'The header of a ledger holds the facts of a training; this one cannot be used: {error} '
        'Restore the file.'
      ) from error


def current_names(values: Mapping[str, Any]) -> dict[str, Any]:
  """Facts of a file by the names that they have now; those before schema 3 had others."""
  return {_FORMER_NAMES.get(name, name): value for name, value in values.items()}

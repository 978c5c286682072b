"""Claims of a ledger about its cohorts, and whether they are proved."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import special

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.accounting.sampling.fixed_size import without_replacement
from tff_privacy_agg.accounting.sampling.moments import SAMPLED_ORDERS
from tff_privacy_agg.accounting.sampling.poisson import poisson_orders, poisson_round
from tff_privacy_agg.errors import ConfigurationError, LedgerError

KINDS = ('none', 'poisson', 'without_replacement')
# What people do and no theorem used here covers.
_UNPROVED = ('shuffled', 'check_in', 'random_check_ins', 'round_robin')
_COUNT = 'number of survivors'


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """Distribution of the cohorts of a training.

  As a fact of a ledger it is a claim: what is written there of a kind other than 'none'
  lowers epsilon in the release view, so each round must show it. As the record of a
  round (`PrivacyLedger.charge(drawn=...)`) it is what a sampler did; a record that is
  not the claim is refused. The server sees who takes part: its view never gains.

  Both kinds that may be claimed draw in secret, anew and independently in each round: a
  sampler with a seed that others know must say 'none'.

  Attributes:
    kind: 'none', 'poisson' (each client by a coin of its own) or 'without_replacement'
      (a set of fixed size, all sets alike).
    population: Clients that are drawn from; None for 'none'.
    rate: Poisson: probability of one client in one round, in (0, 1).
    cohort: Without replacement: clients a round.
    text: The same in words, for the report.

  Raises:
    ConfigurationError: If the kind has no proof, or its numbers do not fit it.
  """

  kind: str = 'none'
  population: int | None = None
  rate: float | None = None
  cohort: int | None = None
  text: str = dataclasses.field(default='', compare=False)

  def __post_init__(self) -> None:
    _validate.instance(str, text=self.text)
    if isinstance(self.kind, str) and self.kind in _UNPROVED:
      raise ConfigurationError(
        f"No amplification bound is proved for cohorts of the kind {self.kind!r}. Claim 'none', "
        'and a participation cap if each client takes part in a bounded number of rounds.'
      )
    _validate.one_of(KINDS, kind=self.kind)
    wanted = {'none': (), 'poisson': ('population', 'rate')}
    names = wanted.get(self.kind, ('population', 'cohort'))
    for name in ('population', 'rate', 'cohort'):
      if (getattr(self, name) is not None) != (name in names):
        raise ConfigurationError(
          f'Cohorts of the kind {self.kind!r} are stated by {", ".join(names) or "no number"}; '
          f'got {name}={getattr(self, name)!r}. Give these numbers and no others.'
        )
    if self.population is not None:
      _validate.at_least(1, population=self.population)
    if self.rate is not None:
      _validate.fraction(rate=self.rate)
    if self.cohort is not None:
      _validate.at_least(1, cohort=self.cohort)
      _validate.at_least(self.cohort, population=self.population)

  @classmethod
  def of(cls, value: Any) -> 'Sampling':
    """A claim as facts hold it: itself, its JSON, or the words of a ledger of schema 1."""
    if isinstance(value, Sampling):
      return value
    if isinstance(value, str):
      return cls(text=value)
    if isinstance(value, Mapping):
      return cls(**value)
    raise ConfigurationError(
      f'`sampling` must be a Sampling or words, got {value!r}. Pass what the sampler of the '
      'cohorts states.'
    )

  @property
  def claims(self) -> bool:
    """Whether this lowers epsilon in the release view."""
    return self.kind != 'none'

  @property
  def sentence(self) -> str:
    """Describes the draw in words."""
    words = f' ({self.text})' if self.text else ''
    if self.kind == 'poisson':
      return f'each of {counted(self.population, "client")} with probability {self.rate:g}{words}'
    if self.kind == 'without_replacement':
      return f'{self.cohort} of {counted(self.population, "client")}, without replacement{words}'
    return self.text or 'not stated'

  def as_dict(self) -> dict[str, Any]:
    """JSON values."""
    return dataclasses.asdict(self)

  def adjacency(self, price: RoundPrice) -> str:
    """The neighbouring relation of the release view."""
    return 'replace_one' if self.kind == 'without_replacement' else price.adjacency

  def curve(self, price: RoundPrice, honest: int) -> RdpCurve:
    """One round in the release view, with `honest` shares of noise that nobody knows."""
    if self.kind == 'without_replacement':
      base = price.curve(honest, adjacency='replace_one')
      drawn_from, drawn = int(self.population or 0), int(self.cohort or 0)
      return without_replacement(base, population=drawn_from, cohort=drawn)
    if self.kind == 'none':
      return price.curve(honest)
    return poisson_round(price, honest, float(self.rate or 0))

  def orders(self, price: RoundPrice) -> np.ndarray:
    """The Renyi orders of an account of such rounds."""
    return poisson_orders(price) if self.kind == 'poisson' else SAMPLED_ORDERS

  def distance(self, maximum: int) -> float:
    """Total variation distance of one round from the distribution that the bound is about.

    Poisson cohorts of no client, or of more than a round admits, cannot run.

    Args:
      maximum: Largest cohort that a round admits.
    """
    if self.kind != 'poisson':
      return 0.0
    empty = math.exp(float(self.population or 0) * math.log1p(-float(self.rate or 0)))
    if maximum >= (self.population or 0):
      return empty
    return empty + float(special.bdtrc(maximum, self.population, self.rate))

  def check_round(self, drawn: 'Sampling | None', size: int, round_number: int) -> None:
    """Raises unless a round was drawn as this claim says.

    Args:
      drawn: What the sampler did in the round; None if it did not say.
      size: Clients in the cohort.
      round_number: The round, for the message.

    Raises:
      LedgerError: If it was not.
    """
    if drawn != self:
      said = 'does not say' if drawn is None else f'says: {drawn.sentence}'
      raise LedgerError(
        f'The ledger claims that cohorts are drawn so: {self.sentence}. The sampler of round '
        f'{round_number} {said}. Draw as claimed and pass `drawn=`, or begin a ledger without '
        'the claim.'
      )
    if self.cohort is not None and size != self.cohort:
      raise LedgerError(
        f'The ledger claims cohorts of {counted(self.cohort, "client")}; that of round '
        f'{round_number} has {size}. Draw as claimed, or begin a ledger without the claim.'
      )


def check_proved(
  claim: Sampling,
  price: RoundPrice,
  stack: Mapping[str, Any],
  *,
  population: int,
  participation_cap: int | None,
) -> None:
  """Raises unless the bound of a claim is proved for a stack.

  Args:
    claim: The claim.
    price: Price of the stack's rounds.
    stack: Facts of the stack.
    population: Clients in all.
    participation_cap: Most rounds of one client, or None.

  Raises:
    ConfigurationError: If it is not.
  """
  if not claim.claims:
    return
  asked = f'The sampling claim is {claim.sentence}'
  if int(claim.population or 0) > population:
    raise ConfigurationError(f'{asked}; there are {population} clients. State them all.')
  if not price.private:
    raise ConfigurationError(f'{asked}; the stack has no noise that it could amplify. Add noise.')
  if participation_cap is not None:
    raise ConfigurationError(
      f'{asked}; under a cap of {counted(participation_cap, "participation")} draws depend on one '
      'another. Claim one of the two: the cap holds against the server too, with sampling of the '
      "kind 'none'."
    )
  if price.separation is not None:
    raise ConfigurationError(
      f'{asked}; no bound is proved for noise that is correlated over rounds. Draw separate cohorts, '
      "with sampling of the kind 'none'."
    )
  maximum = int(stack['cohort']['maximum'])
  if claim.cohort is not None:
    if claim.cohort > maximum:
      raise ConfigurationError(
        f'{asked}; a round admits at most {counted(maximum, "client")}. Raise `Cohort.maximum`.'
      )
    return
  if price.adjacency == 'replace_one':
    raise ConfigurationError(
      f"{asked}; Poisson sampling is not proved under 'replace_one'. Claim cohorts of fixed size."
    )
  if price.distributed and stack.get('top_up') is None:
    raise ConfigurationError(
      f'{asked}; the noise that clients add grows with the cohort, and Poisson sampling is proved '
      'for a fixed total. Let the server top it up (`top_up`), or draw cohorts of fixed size.'
    )
  if hides_count(stack):
    return
  raise ConfigurationError(
    f'{asked}; the stack makes the {_COUNT} public, and the proof needs it unknown: it tells '
    'whether one more client was drawn. Divide by a fixed number and keep the count from who sees '
    "the release, or draw cohorts of fixed size and claim 'without_replacement'."
  )


def hides_count(stack: Mapping[str, Any]) -> bool:
  """Whether those who see the release do not learn the number of survivors."""
  return all(_COUNT not in part['public'] for part in (stack, *stack.get('beside', ())))

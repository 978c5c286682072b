"""The rounds of one price in one account: what each costs, by its unknown shares of noise."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED, DISTRIBUTED, GAUSSIAN, INTEGER_NOISE
from tff_privacy_agg.accounting.accounts import Account, RenyiAccount
from tff_privacy_agg.accounting.correlated.strategy import BandedToeplitz
from tff_privacy_agg.accounting.curves import RdpCurve
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign
from tff_privacy_agg.accounting.designs.shares import channel_share_variance
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.accounting.vectors import NoisyVector, noisy_vector
from tff_privacy_agg.errors import ConfigurationError


class Costs(Protocol):
  """Cost of one round in a view.

  Attributes:
    account: The account of the view: what its rows mean.
    worst: Cost of a round of which only the facts are known.
    hopeless: The same, where the threshold is not kept either.
    best: Cost of a round with the most unknown shares.
    most_distance: Total variation distance of the noise of a full round from its distribution.
  """

  account: Account
  worst: np.ndarray
  hopeless: np.ndarray
  best: np.ndarray
  most_distance: float

  @property
  def adjacency(self) -> str:
    """The neighbouring relation."""

  def row(self, honest: int) -> np.ndarray:
    """Cost of one round with so many unknown shares."""

  def distance(self, honest: int) -> float:
    """Total variation distance of its noise from the distribution that the cost is about."""


class PlainCosts:
  """Cost of rounds where nothing is claimed of their cohorts.

  Args:
    price: What one round releases.
    account: The account.
    worst_honest: Honest ones among the fewest survivors that the runtime lets be seen.

  Attributes:
    price: As given.
    account: As given.
  """

  def __init__(self, price: RoundPrice, account: Account, *, worst_honest: int):
    self.price, self.account = price, account
    self._rows: dict[int, np.ndarray] = {}
    self.worst = self.at_least(worst_honest)
    self.hopeless = self.at_least(1)
    self.best = self.row(price.maximum)
    self.most_distance = price.distance(price.maximum)

  @property
  def adjacency(self) -> str:
    """The neighbouring relation."""
    return self.price.adjacency

  def row(self, honest: int) -> np.ndarray:
    """Cost of one round with so many unknown shares."""
    key = honest if self.price.distributed else 1
    if key not in self._rows:
      self._rows[key] = self.account.row(self.price, key)
    return self._rows[key]

  def curve(self, honest: int, *, adjacency: str | None = None) -> RdpCurve:
    """Renyi curve of one round, whatever the account; see `RoundPrice.curve`."""
    return self.price.curve(honest, adjacency=adjacency)

  def noise_multiplier(self, honest: int) -> float:
    """Noise multiplier of one round; see `RoundPrice.noise_multiplier`."""
    return self.price.noise_multiplier(honest)

  def at_least(self, honest: int) -> np.ndarray:
    """The most that a round with `honest` or more unknown shares costs, part by part."""
    return self.account.worst(self.price, honest if self.price.distributed else 1)

  def distance(self, honest: int) -> float:
    """Total variation distance of its noise from its distribution."""
    if isinstance(self.account, RenyiAccount) and self.account.by_reserve:
      return self.most_distance  # what every round of an earlier ledger counts
    return self.price.distance(honest)


def price_of(stack: Mapping[str, Any], *, earlier: bool = False) -> RoundPrice:
  """The price of the rounds of a stack, from its facts.

  Args:
    stack: Facts of a bound stack: their `price`, or the designs that it follows from.
    earlier: Whether to price as ledgers of schema 1 and 2 did, by Renyi divergence and
      norms that are not rounded down.

  Raises:
    ConfigurationError: If the facts have no price and no integer design, or contradict it.
  """
  of_round = float(stack['sampler_distance_per_round'])  # with what is next to it
  _validate.non_negative(sampler_distance_per_round=of_round)
  if 'price' not in stack:
    return _of_designs(stack, earlier, of_round)
  price = RoundPrice.from_dict(stack['price'])
  if (
    stack['mechanism'] != price.mechanism
    or stack['adjacency'] != price.adjacency
    or stack['holds_against_server'] != price.holds_against_server
    or stack['cohort']['maximum'] != price.maximum
    or not math.isclose(of_round, price.distance(price.maximum), rel_tol=1e-9)
  ):
    raise ConfigurationError(
      'The facts of a stack contradict the price of its rounds (mechanism, adjacency, views, '
      'largest cohort or distance of the samplers). Pass `factory.bind(type).facts()` as it is.'
    )
  return price


def follows_from_designs(stack: Mapping[str, Any], stated: RoundPrice) -> RoundPrice:
  """The price that follows from a stack's designs and channels, whatever its facts state.

  Args:
    stack: Facts of a bound stack.
    stated: What they state. The distance of its samplers is taken from it: it is a fact of
      the program that drew the noise, and follows from nothing in the ledger.
  """
  given = _of_designs(stack, False, 0.0)
  if len(given.vectors) != len(stated.vectors):
    return given
  vectors = (
    dataclasses.replace(own, draw_distance=vector.draw_distance)
    for own, vector in zip(given.vectors, stated.vectors, strict=True)
  )
  return dataclasses.replace(given, vectors=tuple(vectors))


def strategy_of(stack: Mapping[str, Any]) -> BandedToeplitz | None:
  """How the noise of a stack's rounds is correlated; None where it is not.

  Raises:
    ConfigurationError: If a stack without such noise states a strategy, or one with it none.
  """
  if (stack['mechanism'] == CORRELATED) != ('strategy' in stack):
    raise ConfigurationError(
      f'The facts of a stack state a `strategy` with noise that is correlated over rounds, and only '
      f'there; these are of {stack["mechanism"]} noise. Pass `factory.bind(type).facts()` as it is.'
    )
  return BandedToeplitz.from_dict(stack['strategy']) if 'strategy' in stack else None


def _of_designs(stack: Mapping[str, Any], earlier: bool, distance: float) -> RoundPrice:
  own = _own_price(stack, earlier, distance)
  if not own.vectors:
    return own  # the multiplier of Gaussian noise covers what is next to it
  return own.beside([_of_designs(other, earlier, 0.0) for other in stack.get('beside', ())])


def _own_price(stack: Mapping[str, Any], earlier: bool, distance: float) -> RoundPrice:
  law, cohort = stack['mechanism'], stack['cohort']
  strategy = strategy_of(stack)
  vectors: list[NoisyVector] = []
  if law in INTEGER_NOISE:
    if stack['integer_design'] is None:
      raise ConfigurationError(
        f'A stack with {law} noise has an integer design; this one has none. Pass '
        '`factory.bind(type).facts()`.'
      )
    design = IntegerDesign(**stack['integer_design'])
    shares = (int(cohort['minimum']), int(cohort['maximum'])) if law in DISTRIBUTED else (1, 1)
    of_draws = distance / shares[1] / (strategy.bands if strategy else 1)
    sizes = [('update', design.dimension, design.l2_bound, design.l1_bound, design.local_variance)]
    for channel in stack['channels']:
      bound = int(channel['resolution'])
      name = f'{channel["layer"]}.{channel["name"]}'
      variance = float(channel['local_variance'])
      if law in (CENTRAL, CORRELATED):
        variance = channel_share_variance(bound, float(channel['central_stddev']), 1)
      sizes.append((name, 1, bound, bound, variance))
    for name, dimension, l2, l1, variance in sizes:
      vector = noisy_vector(
        name=name,
        mechanism=law,
        dimension=dimension,
        l2_bound=l2,
        l1_bound=l1,
        local_variance=variance,
        fewest=shares[0],
        most=shares[1],
        draw_distance=of_draws / dimension if name == 'update' else 0.0,
        column=strategy.column if strategy and name == 'update' else None,
      )
      if earlier:
        vector = dataclasses.replace(vector, l2_squared=l2**2, t_squared=None)
      vectors.append(vector)
  return RoundPrice(
    mechanism=law,
    adjacency=stack['adjacency'],
    holds_against_server=law in DISTRIBUTED and bool(stack['holds_against_server']),
    minimum=int(cohort['minimum']),
    maximum=int(cohort['maximum']),
    vectors=tuple(vectors),
    central_multiplier=float(stack['noise_multiplier']) if law == GAUSSIAN else 0.0,
    separation=strategy.separation if strategy else None,
    participations=strategy.participations if strategy else None,
  )

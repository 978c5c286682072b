"""Facts of a stack that follow from others of them: computed anew, and compared.

What a ledger states twice must agree, whoever wrote it: an integer design with its norm bounds and
its share of noise, the channels and the price of a round with the design, the noise multiplier
with the price.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg._names import CENTRAL, CORRELATED, DISTRIBUTED, GAUSSIAN, INTEGER_NOISE
from tff_privacy_agg.accounting.designs.central import central_design
from tff_privacy_agg.accounting.designs.integer_design import IntegerDesign, derived_constants
from tff_privacy_agg.accounting.designs.shares import check_share
from tff_privacy_agg.accounting.price import RoundPrice
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.ledger.costs.rounds import follows_from_designs, price_of, strategy_of
from tff_privacy_agg.ledger.notes import check_text

# Recomputing adds the same numbers in the same order; other processors may round otherwise.
SAME = 1e-9
# Processors that round otherwise may find a neighbour of the best `t^2`, which is as good.
_STEP_OF_T_SQUARED = 1 / 64
# What more shares cost is looked up by their number, up to this many.
_LARGEST_COHORT = 10**7
# Whose noise the server draws, that of floats included.
_OF_SERVER = (CENTRAL, CORRELATED, GAUSSIAN)
_COHORT = ('expected', 'maximum', 'minimum', 'colluding_fraction')
_CHANNEL = ('layer', 'name', 'resolution', 'local_variance', 'central_stddev')


def same(computed: Any, stated: Any) -> bool:
  """Whether a stated number, word or list of them is the computed one, roundings aside."""
  if type(computed) is type(stated) and computed == stated:
    return True
  if isinstance(computed, list | tuple):
    alike = isinstance(stated, list | tuple) and len(computed) == len(stated)
    return alike and all(same(a, b) for a, b in zip(computed, stated, strict=True))
  if isinstance(stated, bool) or isinstance(computed, bool) or not isinstance(stated, int | float):
    return type(computed) is type(stated) and computed == stated
  if not isinstance(computed, int | float):
    return False
  if isinstance(computed, int) and isinstance(stated, int):
    return computed == stated
  try:
    return math.isclose(computed, stated, rel_tol=SAME, abs_tol=SAME)
  except OverflowError:  # an integer that no float holds
    return False


def check_stack(stack: Mapping[str, Any], price: RoundPrice, *, earlier: bool = False) -> None:
  """Raises unless the facts of a stack can be, and agree with one another.

  Args:
    stack: Facts of a bound stack, with every key that a ledger keeps.
    price: What its `price` says.
    earlier: Whether they are of a ledger that states no price; such a ledger's `noise_multiplier`
      may be that of the vector alone.

  Raises:
    ConfigurationError: If they cannot be, or a fact differs from what the others give.
  """
  _check_shapes(stack)
  _check_design(stack)
  _check_channels(stack)
  if earlier:
    return
  given = follows_from_designs(stack, price)
  for name, computed in dataclasses.asdict(given).items():
    stated = getattr(price, name)
    if name == 'vectors':
      _check_vectors(computed, price)
    elif not same(computed, stated):
      raise _contradiction(f'price.{name}', stated, computed)
  multiplier = price.noise_multiplier(price.minimum)
  if not same(multiplier, stack['noise_multiplier']):
    raise _contradiction('noise_multiplier', stack['noise_multiplier'], multiplier)
  for other in stack.get('beside', ()):
    if not isinstance(other, Mapping):
      raise ConfigurationError(f'`beside` must hold facts of stacks, got {other!r}.')
    check_stack(other, price_of(other))


def _check_vectors(computed: tuple[dict[str, Any], ...], price: RoundPrice) -> None:
  if len(computed) != len(price.vectors):
    raise _contradiction('number of vectors in its price', len(price.vectors), len(computed))
  for own, vector in zip(computed, price.vectors, strict=True):
    for name, value in own.items():
      stated = getattr(vector, name)
      agrees = same(value, stated)
      if name == 't_squared' and value is not None and stated is not None:
        agrees = abs(value - stated) <= _STEP_OF_T_SQUARED * (1 + SAME)
      if name != 'draw_distance' and not agrees:
        raise _contradiction(f'price.{own["name"]}.{name}', stated, value)


def _check_shapes(stack: Mapping[str, Any]) -> None:
  cohort = stack['cohort']
  if not isinstance(cohort, Mapping) or {*cohort} != {*_COHORT}:
    raise ConfigurationError(f'`cohort` must hold {", ".join(_COHORT)}, got {cohort!r}.')
  _validate.at_least(1, minimum=cohort['minimum'])
  _validate.at_least(cohort['minimum'], expected=cohort['expected'])
  _validate.at_least(cohort['expected'], maximum=cohort['maximum'])
  if cohort['maximum'] > _LARGEST_COHORT:
    raise ConfigurationError(
      f'`maximum` must be at most {_LARGEST_COHORT} clients, got {cohort["maximum"]}.'
    )
  _validate.non_negative(colluding_fraction=cohort['colluding_fraction'])
  if cohort['colluding_fraction'] >= 1:
    raise ConfigurationError(
      f'`colluding_fraction` must be below 1, got {cohort["colluding_fraction"]!r}.'
    )
  _validate.one_of(('none', *INTEGER_NOISE, GAUSSIAN), mechanism=stack['mechanism'])
  _validate.instance(bool, holds_against_server=stack['holds_against_server'])
  for name in ('layers', 'public'):
    words = stack[name]
    if not isinstance(words, list | tuple):
      raise ConfigurationError(f'`{name}` must be a list of words, got {words!r}.')
    for word in words:
      check_text(name, word)
  for name in ('channels', 'beside'):
    if not isinstance(stack.get(name, []), list | tuple):
      raise ConfigurationError(f'`{name}` must be a list, got {stack[name]!r}.')


def _check_design(stack: Mapping[str, Any]) -> None:
  """A design's bounds, modulus and share, from its scale, dimension, bits and multiplier."""
  if stack['integer_design'] is None:
    if stack['mechanism'] in INTEGER_NOISE:
      raise ConfigurationError(
        f'A stack with {stack["mechanism"]} noise has an integer design; this one has none. Pass '
        '`factory.bind(type).facts()`.'
      )
    return
  design = IntegerDesign(**stack['integer_design'])
  if stack['mechanism'] in INTEGER_NOISE and design.mechanism != stack['mechanism']:
    raise _contradiction('integer_design.mechanism', design.mechanism, stack['mechanism'])
  for name, computed in _derived(design, stack).items():
    stated = getattr(design, name)
    if not same(computed, stated):
      raise _contradiction(f'integer_design.{name}', stated, computed)
  if design.mechanism in DISTRIBUTED:
    check_share(design.mechanism, design.local_variance)


def _derived(design: IntegerDesign, stack: Mapping[str, Any]) -> Mapping[str, Any]:
  cohort, strategy = stack['cohort'], strategy_of(stack)
  if design.mechanism not in (CENTRAL, CORRELATED):
    return derived_constants(design, cohort['minimum'])
  solved = central_design(
    noise_multiplier=design.noise_multiplier,
    cohort_maximum=cohort['maximum'],
    dimension=design.dimension,
    column=strategy.column if strategy else None,
  )
  return dataclasses.asdict(solved)


def _check_channels(stack: Mapping[str, Any]) -> None:
  """Every channel has the noise of its stack, and no other."""
  law = stack['mechanism']
  for channel in stack['channels']:
    if not isinstance(channel, Mapping) or {*channel} != {*_CHANNEL}:
      raise ConfigurationError(f'A channel must hold {", ".join(_CHANNEL)}, got {channel!r}.')
    check_text('layer', channel['layer'])
    check_text('name', channel['name'])
    _validate.at_least(1, resolution=channel['resolution'])
    share, of_server = channel['local_variance'], channel['central_stddev']
    _validate.non_negative(local_variance=share, central_stddev=of_server)
    if law in DISTRIBUTED:
      check_share(law, share)
    if (share > 0) != (law in DISTRIBUTED) or (of_server > 0) != (law in _OF_SERVER):
      raise ConfigurationError(
        f'The channel {channel["layer"]}.{channel["name"]} of a stack with {law} noise states a '
        f'share of variance {share!r} and {of_server!r} of the server. Pass '
        '`factory.bind(type).facts()` as it is.'
      )


def _contradiction(name: str, stated: Any, computed: Any) -> ConfigurationError:
  return ConfigurationError(
    f'The facts of a stack contradict one another: `{name}` is {stated!r}, and the other facts '
    f'give {computed!r}. Pass `factory.bind(type).facts()` as it is.'
  )


def alike(computed: Mapping[str, Any] | None, stated: Any) -> bool:
  """Whether numbers by view are the computed ones."""
  if computed is None or computed == stated:
    return computed is stated or computed is not None
  keys_alike = isinstance(stated, dict) and stated.keys() == computed.keys()
  return keys_alike and all(same(computed[view], stated[view]) for view in computed)

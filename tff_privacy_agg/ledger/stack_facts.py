"""Facts of a bound stack: which of them a ledger keeps, and in which of them two stacks differ."""

from collections.abc import Mapping
from typing import Any

from tff_privacy_agg.errors import ConfigurationError

_STACK_KEYS = (
  'mechanism',
  'adjacency',
  'holds_against_server',
  'noise_multiplier',
  'cohort',
  'integer_design',
  'channels',
  'public',
  'sampler_distance_per_round',
  'layers',
)


def kept_facts(stack: Mapping[str, Any]) -> dict[str, Any]:
  """Those facts of a bound stack that a ledger keeps.

  Raises:
    ConfigurationError: If one is missing.
  """
  kept = (*_STACK_KEYS, 'beside', 'top_up', 'price', 'strategy')
  found = {key: stack[key] for key in kept if key in stack}
  missing = sorted({*_STACK_KEYS} - {*found})
  if missing:
    raise ConfigurationError(
      f'`stack` must hold the facts of a bound stack; it lacks {", ".join(missing)}. Pass '
      '`factory.bind(type).facts()`.'
    )
  return found


def differing_facts(stack: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
  """Names of the facts in which a stack differs from another one, by their JSON values.

  Samplers closer to their distributions than those of the other one are no difference.
  """
  mine = _with_larger_distances(stack, other)
  return [key for key in sorted({*mine, *other}) if mine.get(key) != other.get(key)]


def _with_larger_distances(stack: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
  """A stack's facts with the samplers' distances of another's where those are larger."""
  distances = [one.get('sampler_distance_per_round', 0.0) for one in (stack, other)]
  found = {**stack, 'sampler_distance_per_round': max(distances)}
  vectors, theirs = (one.get('price', {}).get('vectors', []) for one in (stack, other))
  if vectors and len(vectors) == len(theirs):
    larger = [
      {**mine, 'draw_distance': max(mine['draw_distance'], their['draw_distance'])}
      for mine, their in zip(vectors, theirs, strict=True)
    ]
    found['price'] = {**stack['price'], 'vectors': larger}
  beside, others = stack.get('beside', []), other.get('beside', [])
  if beside and len(beside) == len(others):
    found['beside'] = [_with_larger_distances(*pair) for pair in zip(beside, others, strict=True)]
  return found

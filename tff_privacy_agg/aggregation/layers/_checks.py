"""Checks that layers make of the domain before them."""

from typing import Any, TypeVar

from tff_privacy_agg.aggregation.domains import Domain, IntegerVectors, RealVectors
from tff_privacy_agg.errors import CompositionError

_Wanted = TypeVar('_Wanted', RealVectors, IntegerVectors)


def takes(layer: str, want: type[_Wanted], domain: Domain, *, fix: str) -> _Wanted:
  """`domain`, or an error unless it is a `want`."""
  if not isinstance(domain, want):
    raise CompositionError(
      f'Layer {layer!r} takes {want.__name__}; the layer before it gives {domain}. {fix}'
    )
  return domain


def require(condition: bool, layer: str, *, needs: str, found: Any, fix: str) -> None:
  """Raises unless `condition` holds."""
  if not condition:
    raise CompositionError(
      f'Layer {layer!r} takes {needs}; the layer before it gives {found}. {fix}'
    )

"""Checks that layers make of the domain before them."""

from typing import Any

from tff_privacy_agg.aggregation.domains import Domain
from tff_privacy_agg.errors import CompositionError


def takes(layer: str, want: type, domain: Domain, *, fix: str) -> None:
  """Raises unless `domain` is a `want`."""
  if not isinstance(domain, want):
    raise CompositionError(
      f'Layer {layer!r} takes {want.__name__}; the layer before it gives {domain}. {fix}'
    )


def require(condition: bool, layer: str, *, needs: str, found: Any, fix: str) -> None:
  """Raises unless `condition` holds."""
  if not condition:
    raise CompositionError(
      f'Layer {layer!r} takes {needs}; the layer before it gives {found}. {fix}'
    )

"""Which layers form a stack: one sum at its end, different names, domains that fit."""

from collections.abc import Sequence

from tff_privacy_agg._wording import counted
from tff_privacy_agg.aggregation.domains import Domain, RealVectors
from tff_privacy_agg.aggregation.layers import Layer, Terminal
from tff_privacy_agg.errors import CompositionError

_RESERVED_NAMES = ('privacy',)


def check(layers: Sequence[Layer], dim: int | None = None) -> list[Domain]:
  """The domains before each layer and after the last one.

  Args:
    layers: From the client's value to the sum.
    dim: Dimension of the value; None while it is not known.

  Raises:
    CompositionError: If the layers do not form a stack.
  """
  if isinstance(layers, Layer) or not isinstance(layers, Sequence):
    raise CompositionError(
      f'A stack takes a sequence of layers; got {layers!r}. Pass a list that ends with a sum.'
    )
  if not layers:
    raise CompositionError(
      'A stack needs layers; got none. End it with `SecureModularSum` or another sum.'
    )
  for layer in layers:
    if not isinstance(layer, Layer):
      raise CompositionError(f'A stack takes layers; got {layer!r}. Pass instances of `tpa.Layer`.')
  names = [layer.name for layer in layers]
  for name in names:
    if names.count(name) > 1:
      raise CompositionError(
        f'Layers need different names; {name!r} is used {counted(names.count(name), "time")}. '
        'Remove one of them, or pass `name=`.'
      )
    if name in _RESERVED_NAMES:
      raise CompositionError(f'A layer cannot be named {name!r}; the stack uses it. Rename it.')
  for position, layer in enumerate(layers[:-1]):
    if isinstance(layer, Terminal):
      raise CompositionError(
        f'Layer {layer.name!r} ends a stack; layer {layers[position + 1].name!r} stands after it. '
        'Put the sum last.'
      )
  if not isinstance(layers[-1], Terminal):
    raise CompositionError(
      f'A stack ends with a sum; the last layer is {layers[-1].name!r}. '
      'Add `SecureModularSum` (or `ForeignSum`, `PlainSum`).'
    )
  domains: list[Domain] = [RealVectors(dim=dim)]
  for layer in layers:
    domains.append(layer.output_domain(domains[-1]))
  return domains


def check_weights(layers: Sequence[Layer], weighted: bool) -> None:
  """Raises unless a stack uses the clients' weights if and only if it is given some."""
  using = [layer.name for layer in layers if layer.uses_weight]
  if using and not weighted:
    raise CompositionError(
      f"`compose` takes layers without weights; layer {using[0]!r} uses the clients' "
      'weights. Use `compose_weighted`, or `Mean` in its place.'
    )
  if weighted and not using:
    raise CompositionError(
      "`compose_weighted` takes a layer that uses the clients' weights; none of "
      f'{[layer.name for layer in layers]} does. Use `compose`, or add `WeightedMean`.'
    )

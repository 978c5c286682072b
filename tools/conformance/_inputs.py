"""Reading the `inputs` of conformance cases, and the mechanism that they describe."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from tff_privacy_agg import accounting
from tff_privacy_agg.accounting.curves import RdpCurve, sensitivity_factor
from tff_privacy_agg.errors import ConfigurationError

_MECHANISMS = {
  'skellam': 'skellam',
  'ddgauss': 'discrete_gaussian',
  'discrete_gaussian': 'discrete_gaussian',
  'gaussian': 'gaussian',
  'gaussian_central': 'gaussian',
}


class NotImplementedCaseError(Exception):
  """A case asks for something that is not implemented; the message says what."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Design:
  """A distributed mechanism whose scale follows from the bits, as cases describe it.

  Norms, variances and the dimension (padded) are those of the integer domain;
  `noise_multiplier` is nominal.
  """

  mechanism: str
  adjacency: str
  expected_clients: int
  honest: int
  noise_multiplier: float
  dimension: int
  k_stddevs: float
  scale: float
  scaled_norm: float
  l2: float
  l1: float
  local_variance: float

  def z_eff(self, honest: int) -> float:
    """Effective noise multiplier with `honest` honest shares."""
    return math.sqrt(honest * self.local_variance) / self.l2

  def curve(self, honest: int | None = None) -> RdpCurve:
    """One round's curve, by default with the case's honest survivors."""
    honest = self.honest if honest is None else honest
    variance = self.local_variance
    return curve(self.mechanism, self.l2, self.l1, variance, honest, self.dimension, self.adjacency)


def design(inputs: Mapping[str, Any]) -> Design:
  """Returns the distributed mechanism of a case."""
  dimension = padded_dimension(inputs)
  n, clip, z = inputs['expected_clients'], inputs['clip'], inputs['noise_multiplier']
  scale = accounting.scale_from_bits(
    clip=clip,
    noise_multiplier=z,
    expected_clients=n,
    bits=inputs['bits'],
    dimension=dimension,
    modclip_prob=inputs['modclip_prob'],
    rho=inputs['rho'],
  )
  l2, l1 = accounting.norm_bounds(clip * scale, dimension, inputs['beta'])
  return Design(
    mechanism=mechanism(inputs),
    adjacency=adjacency(inputs),
    expected_clients=n,
    honest=inputs.get('honest_survivors', n),
    noise_multiplier=z,
    dimension=dimension,
    k_stddevs=accounting.clip_stddevs(inputs['modclip_prob']),
    scale=scale,
    scaled_norm=clip * scale,
    l2=l2,
    l1=l1,
    local_variance=(z * clip * scale) ** 2 / n,
  )


def curve(
  law: str, l2: float, l1: float, variance: float, honest: int, dimension: int, adjacent: str
) -> RdpCurve:
  """Returns the curve of a sum of `honest` shares of the law that a case names."""
  if law == 'skellam':
    return accounting.skellam(l2, l1, local_variance=variance, honest=honest, adjacency=adjacent)
  if law == 'discrete_gaussian':
    return accounting.discrete_gaussian(l2, l1, variance, honest, dimension, adjacency=adjacent)
  sensitivity_factor(adjacent)  # the shares are the clients' own, whatever their law
  return accounting.gaussian(math.sqrt(honest * variance) / l2, adjacency=adjacent)


def mechanism(inputs: Mapping[str, Any]) -> str:
  """Returns the package's name of the mechanism that a case names."""
  named = inputs['mechanism']
  if named not in _MECHANISMS:
    raise NotImplementedCaseError(f'mechanism {named!r}')
  return _MECHANISMS[named]


def padded_dimension(inputs: Mapping[str, Any]) -> int:
  """Returns the dimension after the rotation's padding."""
  rotation, dim = inputs['rotation'], inputs['dim']
  if rotation == 'hd':
    return 1 << (dim - 1).bit_length()
  if rotation == 'dft':
    return dim + dim % 2
  raise NotImplementedCaseError(f'rotation {rotation!r}')


def adjacency(inputs: Mapping[str, Any], default: str = 'zero_out') -> str:
  """Returns the adjacency, of which a case may say more after the first word."""
  return re.split(r'[\s,(;]', inputs.get('adjacency', default).strip())[0]


def require_zero_out(inputs: Mapping[str, Any]) -> None:
  """Raises unless the case is about zero-out adjacency."""
  if adjacency(inputs) != 'zero_out':
    raise NotImplementedCaseError(f'adjacency {inputs["adjacency"]!r} for this kind')


def require_unsampled(inputs: Mapping[str, Any]) -> None:
  """Raises if the case asks for sampling where its kind has none."""
  if inputs.get('sampling', 'none') != 'none':
    raise NotImplementedCaseError(f'sampling {inputs["sampling"]!r} for this kind')


def orders(inputs: Mapping[str, Any], *, sampled: bool = False) -> np.ndarray | None:
  """Returns the orders that a case names, or None for the accountant's own.

  Args:
    inputs: Of the case: `orders` is a list, or 'integers A..B'.
    sampled: Whether integers 2 to 256 are the default.
  """
  named = inputs.get('orders', 'integers 2..256' if sampled else None)
  if named is None:
    return None
  if isinstance(named, list):
    if not named or not all(type(order) in (int, float) for order in named):
      raise ConfigurationError(f'Input `orders` must be a list of numbers, got {named!r}.')
    return np.array(named, dtype=np.float64)
  found = re.fullmatch(r'integers (\d+)\.\.(\d+)', str(named))
  if found is None:
    raise NotImplementedCaseError(f'orders {named!r}')
  if int(found[1]) > int(found[2]):
    raise ConfigurationError(f'Input `orders` must begin below its end, got {named!r}.')
  return np.arange(float(found[1]), float(found[2]) + 1)


def number(value: Any) -> float:
  """Returns a number that may be written as 'ln x'."""
  try:
    if isinstance(value, str) and value.startswith('ln '):
      return math.log(float(value[3:]))
    return float(value)
  except (TypeError, ValueError):
    raise ConfigurationError(
      f"A number may be written as such or as 'ln x'; got {value!r}."
    ) from None

"""What recipes share: TFF's default layers for zeroing and clipping, and what it measures besides."""

import math

from tff_privacy_agg.aggregation.layers import AdaptiveQuantile, Clipping, Zeroing
from tff_privacy_agg.errors import ConfigurationError

# Most clients of a round whose sum needs no modulus, unless a user says otherwise.
MANY_CLIENTS = 10_000


def zeroing() -> Zeroing:
  """TFF's default: zero above twice the 98 % quantile of the norms plus one.

  By L2 norms, where TFF goes by the largest coordinate.
  """
  return Zeroing(
    threshold=AdaptiveQuantile(
      initial=10.0, target=0.98, learning_rate=math.log(10.0), multiplier=2.0, increment=1.0
    )
  )


def clipping() -> Clipping:
  """TFF's default for robustness: clip at the 80 % quantile of the norms."""
  return Clipping(norm=AdaptiveQuantile(initial=1.0, target=0.8))


def bounding() -> Clipping:
  """TFF's default bound for secure sums: twice the 95 % quantile of the norms."""
  return Clipping(
    norm=AdaptiveQuantile(initial=50.0, target=0.95, learning_rate=1.0, multiplier=2.0)
  )


def private_clipping() -> Clipping:
  """TFF's default for differential privacy: clip at the median of the norms."""
  return Clipping(norm=AdaptiveQuantile(initial=0.1, target=0.5))


def refuse_debugging(debug_measurements_fn: object) -> None:
  """Raises unless the argument, which is there because TFF's recipes have it, is None."""
  if debug_measurements_fn is not None:
    raise ConfigurationError(
      f'`debug_measurements_fn` must be None, got {debug_measurements_fn!r}: what it measures of the '
      'clients is in no account. Leave it out.'
    )

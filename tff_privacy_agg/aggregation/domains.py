"""Domains of the vectors that flow between layers, the cohort, auxiliary channels."""

import dataclasses
import math
from fractions import Fraction

from tff_privacy_agg import _validate
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import ConfigurationError


@dataclasses.dataclass(frozen=True, kw_only=True)
class RealVectors:
  """Vectors of floats.

  Attributes:
    dim: Number of coordinates; None while the value type is not known.
    l2_bounded: True where the L2 norm is at most 1, in units of the norm that
      the clipping layer holds.
    flat: True after a random rotation: every coordinate of a vector of norm 1
      is then about `1 / sqrt(dim)`.
    moving: True where that norm may change in all rounds.
  """

  dim: int | None = None
  l2_bounded: bool = False
  flat: bool = False
  moving: bool = False

  def __str__(self) -> str:
    return f'{"L2-bounded" if self.l2_bounded else "unbounded"} real vectors'


@dataclasses.dataclass(frozen=True, kw_only=True)
class IntegerVectors:
  """Vectors of integers with a bounded L2 norm, with or without noise shares.

  Attributes:
    dim: Number of coordinates; None while the value type is not known.
    flat: As in `RealVectors`.
    noised: True where every client has added its share of the noise, or the server adds it.
    central: True where the server adds the noise to a sum in int64.
  """

  dim: int | None = None
  flat: bool = False
  noised: bool = False
  central: bool = False

  def __str__(self) -> str:
    if self.central:
      return 'integer vectors that the server adds noise to'
    return f'{"noised" if self.noised else "noiseless"} integer vectors'


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModularVectors:
  """Vectors of residues in [0, modulus): what leaves a client.

  Attributes:
    modulus: The modulus, a power of two; None where values are not wrapped.
    dim: Number of coordinates; None while the value type is not known.
    noised: True where every client has added its share of the noise.
  """

  modulus: int | None
  dim: int | None = None
  noised: bool = False

  def __str__(self) -> str:
    return 'vectors that have left the client'


Domain = RealVectors | IntegerVectors | ModularVectors


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Cohort:
  """Number of clients in a round, and how many of them are honest.

  Attributes:
    expected: Clients that a round is planned with.
    maximum: Most clients that a round admits: sizes the modulus. A larger round
      is refused. Defaults to `expected`.
    minimum: Fewest honest survivors whose noise carries the promised noise
      multiplier. A round with fewer leaves the model unchanged and is accounted
      with the noise that was there. Defaults to the honest part of `expected`.
    colluding_fraction: Fraction of the survivors, in [0, 1), whose noise shares
      the server is assumed to know: `honest = k - floor(fraction * k)`.

  Raises:
    ConfigurationError: Unless 1 <= minimum <= expected <= maximum.

  Examples:
    >>> tpa.Cohort(expected=100, colluding_fraction=0.1)
    Cohort(expected=100, maximum=100, minimum=90, colluding_fraction=0.1)
  """

  expected: int
  # None until __post_init__ has put the default in its place.
  maximum: int = None  # type: ignore[assignment]
  minimum: int = None  # type: ignore[assignment]
  colluding_fraction: float = 0.0

  def __post_init__(self) -> None:
    _validate.at_least(1, expected=self.expected)
    _validate.non_negative(colluding_fraction=self.colluding_fraction)
    if self.colluding_fraction >= 1:
      raise ConfigurationError(
        f'`colluding_fraction` must be below 1, got {self.colluding_fraction!r}. '
        'With no honest client there is no noise that the server does not know.'
      )
    if self.maximum is None:
      object.__setattr__(self, 'maximum', self.expected)
    if self.minimum is None:
      object.__setattr__(self, 'minimum', self.honest(self.expected))
    _validate.at_least(self.expected, maximum=self.maximum)
    _validate.at_least(1, minimum=self.minimum)
    honest = self.honest(self.expected)
    if self.minimum > honest:
      raise ConfigurationError(
        f'`minimum` must be at most the {counted(honest, "honest client")} among {self.expected} '
        f'expected, got {self.minimum}. Lower `minimum` or raise `expected`.'
      )

  def honest(self, survivors: int) -> int:
    """Number of honest clients among `survivors`, the fraction read as it is written."""
    return survivors - math.floor(Fraction(str(float(self.colluding_fraction))) * survivors)


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class Channel:
  """One bounded number a client adds to the secure sum next to its vector.

  The client's number lies in [-1, 1]; it is sent as the integer nearest to
  `resolution` times it, plus a share of noise. A client that is zeroed out
  (the neighbouring data set) sends 0, so L1 = L2 = `resolution`.

  Attributes:
    resolution: Integer steps in one unit, where clients add noise.
    exact_resolution: Integer steps in one unit, where they add none.
    stddev: Standard deviation of the noise in the sum over `Cohort.expected`
      clients, in units of the client's number; None lets the stack choose it.
  """

  resolution: int = 64
  exact_resolution: int = 1
  stddev: float | None = None

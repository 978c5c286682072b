"""How noise is correlated over rounds, and how often one client takes part."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tff_privacy_agg import _validate
from tff_privacy_agg.accounting.correlated.column import BandedColumn, check_separation


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True)
class BandedToeplitz:
  """How noise is correlated over rounds, and how often one client takes part.

  Attributes:
    column: The coefficients, such as `optimal_column` finds.
    separation: Any two rounds x < y in which a client takes part have `y - x >= separation`; at
      least `column.bands`.
    participations: Most rounds in which one client takes part; None for as many as the
      separation leaves.

  Raises:
    ConfigurationError: If a client may return while its last participation still counts.

  Examples:
    >>> strategy = BandedToeplitz.from_floats([1.0, 0.5], separation=3)
    >>> strategy.most_participations(10)
    4
  """

  column: BandedColumn
  separation: int
  participations: int | None = None

  def __post_init__(self) -> None:
    _validate.instance(BandedColumn, column=self.column)
    _validate.at_least(1, separation=self.separation)
    if self.participations is not None:
      _validate.at_least(1, participations=self.participations)
    check_separation(self.column, self.separation)

  @classmethod
  def from_floats(
    cls, coefficients: Sequence[float], *, separation: int, participations: int | None = None
  ) -> 'BandedToeplitz':
    """The strategy of coefficients, of which the first is 1, rounded to multiples of 2^-24."""
    return cls(BandedColumn.from_floats(coefficients), separation, participations)

  @property
  def bands(self) -> int:
    """Rounds that one participation moves."""
    return self.column.bands

  def most_participations(self, rounds: int) -> int:
    """Most of `rounds` rounds in which one client takes part."""
    return most_participations(rounds, self.separation, self.participations)

  def as_dict(self) -> dict[str, Any]:
    """JSON values, from which `from_dict` makes the same strategy."""
    return {
      'steps': list(self.column.steps),
      'separation': self.separation,
      'participations': self.participations,
    }

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> 'BandedToeplitz':
    """The strategy that `as_dict` described."""
    column = BandedColumn(tuple(values['steps']))
    return cls(column, values['separation'], values['participations'])


def most_participations(rounds: int, separation: int, cap: int | None = None) -> int:
  """Most of `rounds` rounds in which one client can take part, `separation` rounds apart.

  Args:
    rounds: Rounds, at least 0.
    separation: At least 1.
    cap: Most rounds of one client whatever the separation leaves; None without a cap.

  Examples:
    >>> most_participations(10, 3)
    4
  """
  _validate.at_least(0, rounds=rounds)
  _validate.at_least(1, separation=separation)
  most = (rounds - 1) // separation + 1
  return most if cap is None else min(most, cap)

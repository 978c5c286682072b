"""Results of an attack: on the unprotected variant, and on this package."""

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackReport:
  """One attack of the gallery.

  Attributes:
    name: Short name.
    attempt: What the attacker does.
    unprotected: What it got from the unprotected variant.
    ours: What it got from this package.
    succeeded: Whether it succeeded against the unprotected variant, as it should.
    defended: Whether it failed against ours.
    figures: The numbers behind the sentences.
    pictures: By file name, gray images `[height, width]` from 0 (black) to 1.
  """

  name: str
  attempt: str
  unprotected: str
  ours: str
  succeeded: bool
  defended: bool
  figures: Mapping[str, float]
  pictures: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

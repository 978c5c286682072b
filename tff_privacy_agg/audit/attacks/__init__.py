"""The gallery: attacks on unprotected variants, and on this package.

Each module has one function `run(seed)` that takes less than a minute and returns an
`AttackReport`.
"""

from collections.abc import Callable, Mapping

from tff_privacy_agg.audit.attacks import (
  clock_seed,
  inversion,
  malicious_server,
  mask_seed,
  not_modular,
  quantile_state,
)
from tff_privacy_agg.audit.attacks.report import AttackReport

GALLERY: Mapping[str, Callable[[int], AttackReport]] = {
  module.__name__.rsplit('.', 1)[-1]: module.run
  for module in (clock_seed, quantile_state, not_modular, mask_seed, inversion, malicious_server)
}

__all__ = ['GALLERY', 'AttackReport']

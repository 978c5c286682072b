"""Where computations with secure sums run, and what to do where they cannot.

`simulation_context` starts a TFF runtime in which secure sums are simulated.
The rest names the mend when a computation meets a runtime that has none.
"""

from tff_privacy_agg.hints import (
  explain,
  explained,
  warn_if_secure_sums_cannot_run,
)
from tff_privacy_agg.runtime.simulation import SimulationContext, simulation_context

__all__ = [
  'SimulationContext',
  'explain',
  'explained',
  'simulation_context',
  'warn_if_secure_sums_cannot_run',
]

"""Where computations with secure sums run, and what to do where they cannot.

`SecAggContext` runs them with the real protocol, `simulation_context` as plain sums.
The rest names the mend when a computation meets a runtime that has none.
"""

from tff_privacy_agg.hints import (
  explain,
  explained,
  warn_if_secure_sums_cannot_run,
)
from tff_privacy_agg.runtime.drops import RandomDrops
from tff_privacy_agg.runtime.secagg_context import SecAggContext, use
from tff_privacy_agg.runtime.session import RoundReport
from tff_privacy_agg.runtime.simulation import SimulationContext, simulation_context

__all__ = [
  'RandomDrops',
  'RoundReport',
  'SecAggContext',
  'SimulationContext',
  'explain',
  'explained',
  'simulation_context',
  'use',
  'warn_if_secure_sums_cannot_run',
]

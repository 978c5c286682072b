"""Where computations with secure sums run, and what to do where they cannot.

`SecAggContext` runs them with the real protocol and simulated parties, `simulation_context` as
plain sums. Real parties are in `deployment`. The rest names the fix when a computation meets a
runtime that has none. Names load when they are first used.
"""

import importlib
import sys

from tff_privacy_agg._lazy import lazy_names

# A program that has TFF's own contexts is rid of their workers at its end; see
# `_tff.worker_cleanup`.
if 'tensorflow_federated' in sys.modules:
  importlib.import_module('tff_privacy_agg._tff.worker_cleanup')

__all__, __getattr__, __dir__ = lazy_names(
  __name__,
  {
    '_telling': ('announced',),
    '_tff.error_hints': ('explain', 'explained', 'warn_if_secure_sums_cannot_run'),
    'runtime.drops': ('RandomDrops',),
    'runtime.executors': ('Executor',),
    'runtime.in_process': ('InProcessContext',),
    'runtime.round_report': ('RoundReport',),
    'runtime.pool': ('Cluster', 'WorkerPool'),
    'runtime.secagg_context': ('SecAggContext', 'use'),
    'runtime.simulation': ('SimulationContext', 'simulation_context'),
  },
  moved={
    name: f'deployment.{name}'
    for name in ('Coordinator', 'Deadlines', 'Member', 'Participant', 'Roster', 'make_keys')
  },
)

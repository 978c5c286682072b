"""Where computations with secure sums run, and what to do where they cannot.

`SecAggContext` runs them with the real protocol and simulated parties,
`simulation_context` as plain sums. `coordinator` and `participant` are real parties: a server
and its clients, each a process of its own, over gRPC with mutual TLS. The rest names the mend
when a computation meets a runtime that has none.

Names load when they are first used: the real parties need no TensorFlow.
"""

import importlib
import sys
from typing import Any

_HOMES = {
  'hints': ('announced', 'explain', 'explained', 'warn_if_secure_sums_cannot_run'),
  'runtime.coordinator': ('Coordinator',),
  'runtime.drops': ('RandomDrops',),
  'runtime.executors': ('Executor',),
  'runtime.live_session': ('Deadlines',),
  'runtime.participant': ('Member', 'Participant'),
  'runtime.pool': ('Cluster', 'WorkerPool'),
  'runtime.secagg_context': ('SecAggContext', 'use'),
  'runtime.session': ('RoundReport',),
  'runtime.simulation': ('SimulationContext', 'simulation_context'),
  'runtime.tls': ('Roster', 'make_keys'),
}
_WITHOUT_TFF = (
  'runtime.coordinator',
  'runtime.drops',
  'runtime.live_session',
  'runtime.participant',
  'runtime.session',
  'runtime.tls',
)
# A program that has TFF's own contexts is rid of their workers at its end; see `_cleanup`.
if 'tensorflow_federated' in sys.modules:
  importlib.import_module('tff_privacy_agg._cleanup')

_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
  'Cluster',
  'Coordinator',
  'Deadlines',
  'Executor',
  'Member',
  'Participant',
  'RandomDrops',
  'Roster',
  'RoundReport',
  'SecAggContext',
  'SimulationContext',
  'WorkerPool',
  'announced',
  'explain',
  'explained',
  'make_keys',
  'simulation_context',
  'use',
  'warn_if_secure_sums_cannot_run',
]


def __getattr__(name: str) -> Any:
  if name in _HOME_OF:
    if _HOME_OF[name] not in _WITHOUT_TFF:
      importlib.import_module('tff_privacy_agg._requires_tff')
    return getattr(importlib.import_module(f'tff_privacy_agg.{_HOME_OF[name]}'), name)
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
  return __all__

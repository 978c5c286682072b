"""Runtimes for computations with secure sums, and advice where they cannot run.

`SecAggContext` runs them with the real protocol and simulated parties, `simulation_context` as
plain sums. Real parties are in `deployment`. The rest names the fix when a computation meets a
runtime that has none. Names load when they are first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING

from tff_privacy_agg._lazy import lazy_names

# A program that has TFF's own contexts is rid of their workers at its end; see
# `_tff.worker_cleanup`.
if 'tensorflow_federated' in sys.modules:
  importlib.import_module('tff_privacy_agg._tff.worker_cleanup')

if TYPE_CHECKING:
  from tff_privacy_agg._telling import announced as announced
  from tff_privacy_agg._tff.error_hints import (
    explain as explain,
    explained as explained,
    warn_if_secure_sums_cannot_run as warn_if_secure_sums_cannot_run,
  )
  from tff_privacy_agg.runtime.cluster import Cluster as Cluster
  from tff_privacy_agg.runtime.drops import RandomDrops as RandomDrops
  from tff_privacy_agg.runtime.executors import Executor as Executor
  from tff_privacy_agg.runtime.in_process import InProcessContext as InProcessContext, use as use
  from tff_privacy_agg.runtime.pool import WorkerPool as WorkerPool
  from tff_privacy_agg.runtime.round_report import RoundReport as RoundReport
  from tff_privacy_agg.runtime.secagg_context import SecAggContext as SecAggContext
  from tff_privacy_agg.runtime.simulation import (
    SimulationContext as SimulationContext,
    simulation_context as simulation_context,
  )
else:
  __all__, __getattr__, __dir__ = lazy_names(
    __name__,
    moved={
      name: f'deployment.{name}'
      for name in ('Coordinator', 'Deadlines', 'Member', 'Participant', 'Roster', 'make_keys')
    },
  )

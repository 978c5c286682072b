"""The cost model of `scaleout.py`: what a round on a cluster takes, from what its parts take.

The clients' work takes, beyond a fixed time, as long as its slowest resource:

    cores      clients x all CPU time / cores             where the hosts share one machine
    head       clients x the coordinator's CPU time       one thread of Python
    scheduler  clients x the scheduler's CPU time       one thread of Python
    network    clients x bytes / rate of the head's link  the larger direction
    workers    parts / workers x max(work, (work + trips x latency + bytes / rate) / 2)

Before it, computation and model go to each worker over the head's link. The last line: a worker
holds two parts, so one travels while the other computes. The protocol of all clients runs in the
coordinator, before and after the work, and adds its CPU time.
CPU times and bytes are measured; the fixed time and the trips of a part are fitted.
"""

import dataclasses
import math

import numpy as np

PART = 16
_TRIPS = np.arange(0.0, 20.01, 0.1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """A round. Seconds and bytes are of one client, where they are not of the whole.

  Attributes:
    clients: In the round.
    workers: One process each.
    rate: Bytes a second of a link in each direction.
    latency: Seconds, one way.
    cores: Of the machine that the hosts share; None where each host has its own.
    work: CPU seconds of the workers.
    scheduler: CPU seconds of the scheduler.
    head: CPU seconds of the coordinator while clients work.
    protocol: CPU seconds of the coordinator before and after.
    other: CPU seconds of the relays, which take cores of a shared machine.
    down: Bytes to the workers.
    up: Bytes from the workers.
    each: Bytes to each worker, however many clients it works for.
  """

  clients: int
  workers: int
  rate: float
  latency: float
  cores: float | None
  work: float
  scheduler: float
  head: float
  protocol: float
  other: float
  down: float
  up: float
  each: float


def seconds_by_resource(cell: Cell, trips: float) -> dict[str, float]:
  """Seconds for which each resource is needed while clients work."""
  part = min(PART, -(-cell.clients // (4 * cell.workers)))
  travels = trips * cell.latency + part * (cell.down + cell.up) / cell.rate
  work = part * cell.work
  turn = max(work, (work + travels) / 2)
  found = {
    'head': cell.clients * cell.head,
    'scheduler': cell.clients * cell.scheduler,
    'network': cell.clients * max(cell.down, cell.up) / cell.rate,
    'workers': math.ceil(math.ceil(cell.clients / part) / cell.workers) * turn,
  }
  if cell.cores is not None:
    total = cell.work + cell.scheduler + cell.head + cell.other
    found['cores'] = cell.clients * total / cell.cores
  return found


def predict(cell: Cell, fixed: float, trips: float) -> tuple[float, str]:
  """Seconds of the round, and the resource that the work waits for."""
  needed = seconds_by_resource(cell, trips)
  limit = max(needed, key=lambda name: needed[name])
  start = cell.workers * cell.each / cell.rate
  return fixed + start + needed[limit] + cell.clients * cell.protocol, limit


def fit(cells: list[Cell], walls: list[float]) -> tuple[float, float]:
  """The (fixed seconds, trips) whose predictions have the least squares of relative errors."""
  best = (np.inf, 0.0, 0.0)
  for trips in _TRIPS:
    bare = np.array([predict(cell, 0.0, trips)[0] for cell in cells])
    weights = 1 / np.array(walls)
    fixed = max(0.0, float(np.sum((walls - bare) * weights**2) / np.sum(weights**2)))
    error = float(np.sum(((bare + fixed - walls) * weights) ** 2))
    best = min(best, (error, fixed, float(trips)))
  return round(best[1], 3), round(best[2], 1)

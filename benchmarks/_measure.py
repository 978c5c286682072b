"""What the benchmarks share: interleaved timing, the worker's CPU time, tables and JSON."""

import dataclasses
import gc
import json
import os
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff
from google.protobuf.internal import api_implementation

import tff_privacy_agg as tpa

# Linux: the number of another process's CPU clock is made of its id and this.
_SCHEDULED = 2


@dataclasses.dataclass(frozen=True)
class Cost:
  """Median wall time and median CPU time, seconds."""

  wall: float
  cpu: float

  def rounded(self, digits: int) -> list[float]:
    return [round(self.wall, digits), round(self.cpu, digits)]


def environment() -> dict[str, Any]:
  """Versions and machine, without dates, names or paths."""
  model = 'unknown'
  for line in pathlib.Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines():
    if line.startswith('model name'):
      model = line.split(':', 1)[1].strip()
      break
  return {
    'tff_privacy_agg': tpa.__version__,
    'tensorflow_federated': tff.__version__,
    'tensorflow': tf.__version__,
    'protobuf': api_implementation.Type(),
    'cpu': model,
    'cores': len(os.sched_getaffinity(0)),
    'load_average': [round(load, 2) for load in os.getloadavg()],
  }


def lift_nesting_limit(lifted: bool = True) -> bool:
  """Lifts protobuf's limit of 100 nested messages, for TFF's own aggregators only.

  A private switch of protobuf's C parser; nothing of `tff_privacy_agg` needs it.

  Returns:
    Whether the switch was found.
  """
  try:
    from google._upb import _message

    _message.SetAllowOversizeProtos(lifted)
  except (ImportError, AttributeError):
    return False
  return True


def first_line(error: BaseException) -> str:
  lines = str(error).strip().splitlines()
  return f'{type(error).__name__}: {lines[0] if lines else ""}'[:200]


def worker_pids() -> list[int]:
  """The TFF workers that this process started."""
  found = []
  for entry in pathlib.Path('/proc').iterdir():
    if not entry.name.isdigit():
      continue
    try:
      stat = (entry / 'stat').read_text(encoding='utf-8')
      command = (entry / 'cmdline').read_bytes()
    except OSError:
      continue
    parent = int(stat.rsplit(')', 1)[1].split()[1])
    if parent == os.getpid() and b'worker_binary' in command:
      found.append(int(entry.name))
  return found


def cpu_seconds(pid: int) -> float:
  """User and system time of a process so far, by its CPU clock: finer than `/proc`."""
  return time.clock_gettime((~pid << 3) | _SCHEDULED)


def interleave(
  candidates: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2
) -> tuple[dict[str, Cost], dict[str, str]]:
  """Runs all candidates in turn, `warm_up + rounds` times, each time in another order.

  Returns:
    Medians over the rounds after the warm-up, and the first line of the error of
    each candidate that failed.
  """
  pids = worker_pids()
  walls: dict[str, list[float]] = {name: [] for name in candidates}
  cpus: dict[str, list[float]] = {name: [] for name in candidates}
  failed: dict[str, str] = {}
  names = list(candidates)
  for turn in range(warm_up + rounds):
    shift = turn % len(names)
    for name in names[shift:] + names[:shift]:
      if name in failed:
        continue
      gc.collect()
      cpu, wall = sum(map(cpu_seconds, pids)), time.perf_counter()
      try:
        candidates[name]()
      except Exception as error:
        failed[name] = first_line(error)
        continue
      wall, cpu = time.perf_counter() - wall, sum(map(cpu_seconds, pids)) - cpu
      if turn >= warm_up:
        walls[name].append(wall)
        cpus[name].append(cpu)
  costs = {
    name: Cost(statistics.median(walls[name]), statistics.median(cpus[name]))
    for name in names
    if name not in failed
  }
  return costs, failed


def stepper(start: Any, step: Callable[[Any], Any]) -> Callable[[], None]:
  """A function that takes the state one round further at each call."""
  state = start

  def run() -> None:
    nonlocal state
    state = step(state)

  return run


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """A Markdown table."""

  def line(cells):
    return '| ' + ' | '.join(str(cell) for cell in cells) + ' |'

  rule = '|' + '|'.join(' --- ' if i == 0 else ' ---: ' for i in range(len(header))) + '|'
  return '\n'.join([line(header), rule, *(line(row) for row in rows)])


def write_json(file: str | None, value: Mapping[str, Any]) -> None:
  if file is not None:
    text = json.dumps(value, indent=2) + '\n'
    pathlib.Path(file).write_text(text, encoding='utf-8')

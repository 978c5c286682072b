"""Clients' work on several worker processes of this machine."""

import abc
import concurrent.futures
import multiprocessing
import os
import queue
import threading
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, cast

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import structures
from tff_privacy_agg._wording import counted
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime.executors import Executor, clients_per_call
from tff_privacy_agg.runtime.round_form import RoundForm
from tff_privacy_agg.secagg.local.processes import deaf_to_interrupts

_PART_CLIENTS = 16
_PARTS_PER_WORKER = 4
_ATTEMPTS = 3


class WorkerLostError(Exception):
  """The process that ran a part has gone; the part may be run again."""


class PartsExecutor(Executor):
  """Hands parts of the clients to workers, and takes results as they come.

  A part whose worker is lost runs again on another, at most three times; then its clients
  have dropped out, with a warning. An error of the work itself is raised.

  Attributes:
    parts_per_worker: Parts that are on their way to a worker, or on it, at once.
  """

  parts_per_worker = 1

  @abc.abstractmethod
  def workers(self) -> int:
    """Number of worker processes now."""

  @abc.abstractmethod
  def submit(self, slot: int, *part: Any) -> list[list[Any]] | None:
    """Runs `pool_worker.run_part` in the given slot and returns its result.

    Raises:
      WorkerLostError: If the worker has gone.
    """

  def run(
    self, form: RoundForm, data: Mapping[int, Any], broadcast: Any
  ) -> Generator[tuple[int, Any], None, None]:
    """Yields results in the order in which parts end."""
    from tff_privacy_agg.runtime import pool_worker

    workers = self.workers()
    even = -(-len(data) // (_PARTS_PER_WORKER * workers))
    size = max(1, min(clients_per_call(form), _PART_CLIENTS, even))
    clients = list(data)
    parts = [clients[first : first + size] for first in range(0, len(clients), size)]
    work = pool_worker.pack_value(form.work)
    params = pool_worker.pack_value(broadcast, form.broadcast_type)

    digest = pool_worker.digest_of(work, params)
    served: set[int] = set()

    def submit(slot: int, part: Sequence[int]) -> list[list[Any]]:
      packed = [pool_worker.pack_value(data[client], form.data_type) for client in part]
      # Computation and model go to a worker once, not with each part. A worker that took the
      # place of another lacks them and says so.
      common = None if slot in served else (work, params)
      results = self.submit(slot, digest, common, packed)
      if results is None:
        results = self.submit(slot, digest, (work, params), packed)
      served.add(slot)
      return cast(list[list[Any]], results)

    run = _Run(parts, self.parts_per_worker * workers, submit)
    for part, results in run.results():
      for client, leaves in zip(part, results, strict=True):
        yield client, structures.pack(iter(leaves), form.result_type)


class _Run:
  """The parts of one round, and the threads that carry them to the workers."""

  def __init__(
    self,
    parts: Sequence[Sequence[int]],
    slots: int,
    submit: Callable[[int, Sequence[int]], list[list[Any]]],
  ):
    self._left = len(parts)
    self._submit = submit
    self._todo: queue.Queue[tuple[int, Sequence[int]] | None] = queue.Queue()
    for part in parts:
      self._todo.put((1, part))
    # Bounded: workers wait for the sum, so that memory does not grow with the clients.
    self._done: queue.Queue[tuple[Sequence[int], Any]] = queue.Queue(slots)
    self._stopped = threading.Event()
    self._threads = [
      threading.Thread(target=self._carry, args=(slot,), daemon=True) for slot in range(slots)
    ]

  def results(self) -> Iterator[tuple[Sequence[int], list[list[Any]]]]:
    for thread in self._threads:
      thread.start()
    try:
      while self._left:
        part, outcome = self._done.get()
        self._left -= 1
        if isinstance(outcome, WorkerLostError):
          warnings.warn(
            f'{counted(len(part), "client")} dropped out: the workers that ran them were lost '
            f'{_ATTEMPTS} times. Look for a lack of memory.',
            RuntimeWarning,
            stacklevel=2,
          )
        elif isinstance(outcome, BaseException):
          raise outcome
        else:
          yield part, outcome
    finally:
      self._stopped.set()
      for _ in self._threads:
        self._todo.put(None)
      while any(thread.is_alive() for thread in self._threads):
        try:
          self._done.get(timeout=0.05)
        except queue.Empty:
          continue

  def _carry(self, slot: int) -> None:
    while not self._stopped.is_set() and (one := self._todo.get()) is not None:
      attempt, part = one
      outcome: Any
      try:
        outcome = self._submit(slot, part)
      except WorkerLostError as error:
        if attempt < _ATTEMPTS:
          self._todo.put((attempt + 1, part))
          continue
        outcome = error
      except BaseException as error:
        outcome = error
      self._done.put((part, outcome))


class WorkerPool(PartsExecutor):
  """Worker processes on this machine.

  They start with the first round (each imports TensorFlow, some seconds) and serve until
  `close`, the end of the program, or its death. A worker that dies is replaced.

  A program that uses one must be guarded by `if __name__ == '__main__':`, as for every
  `multiprocessing` with fresh interpreters.

  Args:
    workers: How many; by default the number of cores.

  Raises:
    ConfigurationError: If `workers` is not a positive integer.
  """

  def __init__(self, workers: int | None = None):
    if workers is None:
      workers = len(os.sched_getaffinity(0))
    _validate.at_least(1, workers=workers)
    self._slots: list[concurrent.futures.ProcessPoolExecutor | None] = [None] * workers
    self._closed = False

  def workers(self) -> int:
    """The number of processes."""
    return len(self._slots)

  def submit(self, slot: int, *part: Any) -> list[list[Any]] | None:
    """Runs a part in one process, started if there is none."""
    from tff_privacy_agg.runtime import pool_worker

    if self._closed:
      raise RuntimeUnavailableError(
        'Work was given to a worker pool that is closed. Make a new context with a new pool.'
      )
    pool = self._slots[slot]
    if pool is None:
      # A fork of a process with the threads of TensorFlow and gRPC can deadlock.
      pool = self._slots[slot] = concurrent.futures.ProcessPoolExecutor(
        1,
        mp_context=multiprocessing.get_context('spawn'),
        initializer=pool_worker.begin,
        initargs=(os.getpid(),),
      )
    try:
      with deaf_to_interrupts():  # The first part starts the process.
        running = pool.submit(pool_worker.run_part, *part)
      return running.result()
    except concurrent.futures.process.BrokenProcessPool as error:
      self._slots[slot] = None
      pool.shutdown(wait=False)
      raise WorkerLostError(str(error)) from error

  def close(self) -> None:
    """Ends the processes."""
    self._closed = True
    for pool in self._slots:
      if pool is not None:
        pool.shutdown(wait=True, cancel_futures=True)
    self._slots = [None] * len(self._slots)

"""Clients' work on the workers of a Dask cluster."""

import threading
from typing import Any

from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime.pool import PartsExecutor, WorkerLostError

_WATCH_SECONDS = 1.0


class Cluster(PartsExecutor):
  """The workers of a Dask cluster, on any number of hosts.

  Needs Dask, which `make env-dask` installs from a lock. All hosts need this package
  at the same version, and a network that is trusted: the scheduler and the workers run what
  they are sent, and clients' data travel to them.

  Args:
    address: Of the scheduler: `tcp://host:8786`.

  Raises:
    RuntimeUnavailableError: If Dask is not installed, or the scheduler does not answer.
  """

  # One travels while the other computes, so that a worker does not wait for the network.
  parts_per_worker = 2

  def __init__(self, address: str):
    try:
      import distributed
    except ImportError:
      raise RuntimeUnavailableError(
        'Dask is not installed. Run `make env-dask` in a clone of the project, or `pip install '
        '--no-deps --require-hashes -r requirements/dask.txt`; or use `WorkerPool`.'
      ) from None
    self._address = address
    self._lost = (distributed.KilledWorker, distributed.comm.CommClosedError)
    self._cancelled = distributed.client.FutureCancelledError
    try:
      self._client = distributed.Client(address, set_as_default=False, timeout='20s')
    except OSError as error:
      raise RuntimeUnavailableError(
        f'The Dask scheduler at {address} does not answer ({error}). Start it, or correct the '
        'address.'
      ) from None

  def workers(self) -> int:
    """The number of worker processes now."""
    self._require_scheduler()
    count = len(self._client.scheduler_info(n_workers=-1)['workers'])
    if not count:
      raise RuntimeUnavailableError('The Dask cluster has no worker. Start one on some host.')
    return count

  def submit(self, slot: int, *part: Any) -> list[list[Any]] | None:
    """Runs a part on the worker that the scheduler chooses."""
    from tff_privacy_agg.runtime import cluster_task

    self._require_scheduler()
    try:
      future = self._client.submit(cluster_task.run_part, *part, pure=False)
      over = threading.Event()
      future.add_done_callback(lambda _: over.set())
      # What is submitted after the loss of the scheduler never ends.
      while not over.wait(_WATCH_SECONDS):
        self._require_scheduler()
      return future.result()
    except self._lost as error:
      raise WorkerLostError(str(error)) from error
    except self._cancelled as error:
      raise self._scheduler_has_gone() from error

  def _require_scheduler(self) -> None:
    if self._client.status != 'running':
      raise self._scheduler_has_gone()

  def _scheduler_has_gone(self) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(
      f'The Dask scheduler at {self._address} has gone, and its tasks with it. Start it and its '
      'workers, make a new `Cluster`, and run the round again.'
    )

  def close(self) -> None:
    """Leaves the cluster, which runs on."""
    self._client.close()

"""A TFF execution context in which secure sums run as their plain simulation."""

import atexit
import os
import time
import weakref
from collections.abc import Mapping
from typing import Any

import grpc
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import (
  compat,
  compilation,
  error_hints,
  program_contexts,
  worker_cleanup as worker_cleanup,  # its exit hook
)
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime.tff_worker import Worker

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.02
_MAX_MESSAGE_BYTES = 2**31 - 1
_CHANNEL_OPTIONS = (
  ('grpc.max_receive_message_length', _MAX_MESSAGE_BYTES),
  ('grpc.max_send_message_length', _MAX_MESSAGE_BYTES),
  # The first attempt usually comes before the worker listens; gRPC's default
  # would wait a second before the next.
  ('grpc.initial_reconnect_backoff_ms', 50),
  ('grpc.min_reconnect_backoff_ms', 50),
  ('grpc.max_reconnect_backoff_ms', 500),
  # The worker is on this host: a proxy of the environment must not be asked.
  ('grpc.enable_http_proxy', 0),
)


def _connect(worker: Worker) -> tuple[grpc.Channel, tff.framework.RemoteExecutorGrpcStub]:
  channel = grpc.insecure_channel(worker.address, _CHANNEL_OPTIONS)
  stub = tff.framework.RemoteExecutorGrpcStub(channel)
  deadline = time.monotonic() + _READY_SECONDS
  while not stub.is_ready:
    if not worker.alive or time.monotonic() > deadline:
      channel.close()
      raise RuntimeUnavailableError(
        f'A TFF worker was started; {worker.failure()} '
        'Run `tff-privacy-agg doctor` to check the installation.'
      )
    time.sleep(_POLL_SECONDS)
  return channel, stub


def _executor_factory(
  worker: Worker, stub: tff.framework.RemoteExecutorGrpcStub
) -> tff.framework.ResourceManagingExecutorFactory:
  # TFF makes a new executor after every lost connection, and retries without
  # end: raising here is what ends the retries when the worker is gone.
  def create(cardinalities: Mapping[Any, int]) -> tff.framework.RemoteExecutor:
    if not worker.alive:
      raise RuntimeUnavailableError(
        f'A computation was sent to the TFF worker; {worker.failure()} '
        'Call `simulation_context()` for a new one.'
      )
    executor = tff.framework.RemoteExecutor(stub)
    executor.set_cardinalities({compat.CLIENTS: 0, **cardinalities})
    return executor

  return tff.framework.ResourceManagingExecutorFactory(create)


def _end(worker: Worker, channel: grpc.Channel) -> None:
  worker.end()
  if os.getpid() == worker.owner:
    channel.close()


class SimulationContext(compat.SyncContext):
  """Runs TFF computations on a C++ worker of its own, secure sums simulated.

  The result of a secure sum is exact, but the values are summed in the clear:
  this is for simulation, where all clients' data is on one machine anyway.
  A computation is compiled at its first call only.

  Made by `simulation_context`. `program_context` is its form for `tff.program`.
  """

  def __init__(self, worker: Worker):
    """Connects to `worker`, which this context then owns."""
    try:
      channel, stub = _connect(worker)
    except BaseException:
      worker.end()
      raise
    self._worker = worker
    self._previous: Any = None
    self._entered = False
    self._inner = compat.SyncExecutionContext(
      executor_fn=_executor_factory(worker, stub),
      compiler_fn=compilation.compile_native,
      transform_args=tff.tensorflow.transform_args,
      transform_result=tff.tensorflow.transform_result,
    )
    # Ends the worker of a context that is dropped without `close`.
    self._finalizer = weakref.finalize(self, _end, worker, channel)
    _open_contexts.add(self)

  def invoke(self, comp: Any, arg: Any) -> Any:
    """Runs `comp` on `arg`; TFF calls this.

    Raises:
      ConfigurationError: If a round has no client, or more than its stack admits.
      RuntimeUnavailableError: If the context is closed, belongs to the parent of
        a forked process, or has lost its worker; or if `arg` is too large to be sent.
    """
    if not self._finalizer.alive:
      raise RuntimeUnavailableError(
        'A computation was sent to a simulation context that is closed. '
        'Call `simulation_context()` for a new one.'
      )
    if os.getpid() != self._worker.owner:
      raise RuntimeUnavailableError(
        'A computation was sent to the simulation context of the parent process, which a fork '
        'does not carry over. Call `simulation_context()` in this process.'
      )
    if not self._entered:
      # Not in a `with` statement, so there is nothing to put back: let the
      # former context go, and its worker with it.
      self._previous = None
    error_hints.refuse_too_large(arg)
    try:
      with error_hints.explained():
        return self._inner.invoke(comp, arg)
    except ValueError as error:  # of gRPC, where `close` was between two of its calls
      if self._finalizer.alive:
        raise
      raise RuntimeUnavailableError(
        'A computation was cut short: its worker is gone, it was ended by its owner. Close a '
        'context after its last computation.'
      ) from error

  @property
  def isolated(self) -> bool:
    """Whether the worker opens no port on this host."""
    return self._worker.isolated

  def program_context(self) -> Any:
    """Returns a `tff.program.NativeFederatedContext` on the same worker.

    It is what program logic runs in, `tff.learning.programs.train_model` say:

        context = tpa.runtime.simulation_context()
        with tff.framework.get_context_stack().install(context.program_context()):
          asyncio.run(tff.learning.programs.train_model(train_process=process, ...))

    There a call of a computation gives references, to be awaited inside an event
    loop. It keeps this context alive, and ends with it.
    """
    return program_contexts.as_awaitable(self)

  def close(self) -> None:
    """Ends the worker. The context stays installed, and refuses to run anything."""
    self._finalizer()

  def __enter__(self) -> 'SimulationContext':
    self._entered = True
    return self

  def __exit__(self, *exc_info: object) -> None:
    if self._previous is not None:
      compat.set_default_context(self._previous)
      self._previous = None
    self.close()

  def _install(self) -> None:
    """Makes this the calling thread's default context; `with` puts the old one back."""
    self._previous = compat.get_context_stack().current
    compat.set_default_context(self)


_open_contexts: weakref.WeakSet[SimulationContext] = weakref.WeakSet()


@_validate.plain_numbers
def simulation_context(
  *,
  concurrency: int = 2,
  install: bool = True,
  log_file: str | os.PathLike[str] | None = None,
) -> SimulationContext:
  """Starts a TFF runtime that can run secure sums, and makes it the default.

  As a plain call it serves until the process ends. In a `with` statement it
  serves the block; the former default context then comes back, and the worker
  process ends:

      with tpa.runtime.simulation_context():
        state = process.initialize()

  TFF keeps default contexts per thread: call this in the thread that runs the
  computations, outside of any `tff.federated_computation`. The worker process
  ends with this process, however that ends. It runs alone in a network
  namespace, so it reads no file over the network. Where the system allows no
  namespace it serves whoever reaches its port: the first context of a process
  says so on standard error.

  Args:
    concurrency: How many clients' computations run at once, at least 1. More
      takes more memory, and is seldom faster beyond the number of cores.
    install: Whether to make the context the calling thread's default.
    log_file: File that the worker's log is appended to; by default it is quoted
      in error messages only.

  Returns:
    The context, also accepted by `tff.framework.set_default_context`.

  Raises:
    ConfigurationError: If `concurrency` is not a positive integer.
    RuntimeUnavailableError: If the worker does not start.

  Examples:
    >>> with tpa.runtime.simulation_context():
    ...   print(tff.federated_computation(lambda: tff.federated_value(7, tff.SERVER))())
    7
  """
  _validate.at_least(1, concurrency=concurrency)
  context = SimulationContext(Worker(concurrency=concurrency, log_file=log_file))
  if install:
    context._install()
  return context


def _close_contexts_at_exit(owner: int = os.getpid()) -> None:
  """Ends this process's own workers. A forked child leaves its parent's alone."""
  if os.getpid() != owner:
    return
  for context in list(_open_contexts):
    context.close()
    context._previous = None


# Registered after, so run before, the hook of `worker_cleanup`, which then finds nothing of ours.
atexit.register(_close_contexts_at_exit)

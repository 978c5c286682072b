"""TFF computations in this process: no worker, and so no open port."""

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, TypeVar

import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime.program import Program
from tff_privacy_agg.runtime.simulation import SimulationContext, simulation_context


class InProcessContext(compat.SyncContext):
  """Runs TFF computations in this process, secure sums simulated.

  It opens no port and sends nothing, so no message has a limit. Stateful TensorFlow runs anew
  in each call, as on a TFF worker. What TFF's runtime alone can run (a result that is a dataset,
  `federated_select`, JAX) goes to a TFF worker, which starts then.

  In a `with` statement it is the calling thread's default context for the block, and closed
  after it.

  Args:
    concurrency: How many clients' parts run at once.
    worker: Whether a worker may start; a computation that needs one is refused otherwise.

  Raises:
    ConfigurationError: If `concurrency` is not a positive integer.
  """

  def __init__(self, *, concurrency: int = 1, worker: bool = True):
    _validate.at_least(1, concurrency=concurrency)
    self._concurrency, self._may_start = concurrency, worker
    self._pool = concurrent.futures.ThreadPoolExecutor(concurrency, 'clients')
    # A computation is kept with what was made of it: its id stays its own.
    self._programs: dict[int, tuple[Any, Program | None]] = {}
    self._lock = threading.Lock()
    self._worker: SimulationContext | None = None
    self._owner = os.getpid()
    self._closed = False
    self._installed = contextlib.ExitStack()

  def invoke(self, comp: Any, arg: Any) -> Any:
    """Runs `comp` on `arg`; TFF calls this.

    Raises:
      RuntimeUnavailableError: If the context is closed, or belongs to the parent of a forked
        process; or if `comp` needs a worker that may not start.
    """
    if self._closed or os.getpid() != self._owner:
      reason = 'is closed' if self._closed else 'belongs to the parent of this forked process'
      raise RuntimeUnavailableError(
        f'A computation was called in a context that {reason}. Make a new context.'
      )
    program = self._program(comp)
    if program is None:
      return self._own_worker().invoke(comp, arg)
    return program(tff.tensorflow.transform_args(arg))

  def runs(self, comp: Any) -> bool:
    """Whether `comp` runs in this process."""
    return self._program(comp) is not None

  def close(self) -> None:
    """Ends the worker, if there is one. The context refuses to run anything then."""
    self._closed = True
    self._pool.shutdown(wait=False, cancel_futures=True)
    with self._lock:
      self._programs.clear()
      if self._worker is not None:
        self._worker.close()

  def __enter__(self) -> 'InProcessContext':
    self._installed.enter_context(compat.get_context_stack().install(self))
    return self

  def __exit__(self, *exc_info: object) -> None:
    self._installed.close()
    self.close()

  def _program(self, comp: Any) -> Program | None:
    with self._lock:
      if id(comp) not in self._programs:
        try:
          program = Program(comp, self._pool)
        except NotImplementedError:
          program = None
        self._programs[id(comp)] = (comp, program)
      return self._programs[id(comp)][1]

  def _own_worker(self) -> SimulationContext:
    if not self._may_start:
      raise RuntimeUnavailableError(
        'A computation was called that only a TFF worker can run; a party of a deployment starts '
        'none, since a worker may open a port. Write it as `tff.tensorflow.computation`, without '
        'datasets in its result.'
      )
    with self._lock:
      if self._worker is None:
        self._worker = simulation_context(install=False, concurrency=self._concurrency)
      return self._worker


_Context = TypeVar('_Context')


@contextlib.contextmanager
def use(context: _Context) -> Iterator[_Context]:
  """Runs the block's computations in `context`, then puts the former context back.

      context = tpa.runtime.SecAggContext()
      with tpa.runtime.use(context):
        output = process.next(state, data)
      context.last_round.survivors

  The context stays open, to be used again; `context.close()` ends its processes, as does the
  end of the program.

  Args:
    context: A `tff.framework.SyncContext`.

  Examples:
    >>> with tpa.runtime.use(tpa.runtime.InProcessContext(worker=False)):
    ...   print(tff.tensorflow.computation(lambda: tf.constant(7))())
    7
  """
  with compat.get_context_stack().install(context):
    yield context

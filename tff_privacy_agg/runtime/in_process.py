"""TFF computations in this process: no worker, and so no open port."""

import concurrent.futures
import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._tff import compat, structures
from tff_privacy_agg.errors import RuntimeUnavailableError
from tff_privacy_agg.runtime.graph_function import GraphFunction
from tff_privacy_agg.runtime.simulation import SimulationContext, compile_native, simulation_context

framework = tff.framework

_AT_SERVER = {
  'federated_apply',
  'federated_eval_at_server',
  'federated_value_at_server',
  'federated_zip_at_server',
}
_AT_CLIENTS = {
  'federated_aggregate',
  'federated_broadcast',
  'federated_eval_at_clients',
  'federated_map',
  'federated_map_all_equal',
  'federated_value_at_clients',
  'federated_zip_at_clients',
}
_BLOCKS = (
  framework.Block,
  framework.Call,
  framework.Lambda,
  framework.Literal,
  framework.Reference,
  framework.Selection,
  framework.Struct,
)


@dataclasses.dataclass(frozen=True)
class _Same:
  """A value that all clients have."""

  value: Any


class Program:
  """A TFF computation that this process can run.

  Inside, a structure is a list, a value at the clients a list with one value for each or
  `_Same`, a function a callable of one value.

  Args:
    computation: What is run.
    pool: Where the clients' parts run.

  Raises:
    NotImplementedError: If it holds what only TFF's own runtime runs.
  """

  def __init__(self, computation: Any, pool: concurrent.futures.Executor):
    self._type = computation.type_signature
    self._pool = pool
    self._graphs: dict[int, GraphFunction] = {}
    self._block = compile_native(computation).to_building_block()
    self._has_clients = any(
      _is_at_clients(below) and not below.all_equal for _, below in _placed(self._type.parameter)
    )
    self._check(self._block)

  def __call__(self, argument: Any) -> Any:
    """Runs the computation on an argument in the containers that TFF takes."""
    if self._type.parameter is not None:
      argument = _plain(argument, self._type.parameter)
    clients = _count(argument, self._type.parameter)
    result = _Evaluation(self._graphs, self._pool, clients).value(self._block, {})(argument)
    return _contained(result, self._type.result)

  def _check(self, block: Any) -> None:
    if isinstance(block, framework.CompiledComputation):
      if block.proto.WhichOneof('computation') != 'tensorflow' or _has_sequence(
        block.type_signature.result
      ):
        raise NotImplementedError
      self._graphs[id(block)] = GraphFunction(block.proto)
    elif isinstance(block, framework.Intrinsic):
      if block.uri not in (_AT_SERVER | _AT_CLIENTS if self._has_clients else _AT_SERVER):
        raise NotImplementedError
    elif not isinstance(block, _BLOCKS):
      raise NotImplementedError
    for child in block.children():
      self._check(child)


class _Evaluation:
  """One run of a program."""

  def __init__(
    self, graphs: Mapping[int, GraphFunction], pool: concurrent.futures.Executor, clients: int
  ):
    self._graphs, self._pool, self._clients = graphs, pool, clients

  def value(self, block: Any, names: Mapping[str, Any]) -> Any:
    """What a building block stands for, where `names` are bound."""
    if isinstance(block, framework.CompiledComputation):
      return self._graph(block)
    if isinstance(block, framework.Reference):
      return names[block.name]
    if isinstance(block, framework.Selection):
      return self.value(block.source, names)[block.as_index()]
    if isinstance(block, framework.Struct):
      return [self.value(child, names) for child in block.children()]
    if isinstance(block, framework.Call):
      argument = None if block.argument is None else self.value(block.argument, names)
      if isinstance(block.function, framework.Intrinsic):
        return self._intrinsic(block.function.uri, argument, block.argument.type_signature)
      return self.value(block.function, names)(argument)
    if isinstance(block, framework.Lambda):
      return lambda value: self.value(block.result, {**names, block.parameter_name: value})
    if isinstance(block, framework.Block):
      for name, local in block.locals:
        names = {**names, name: self.value(local, names)}
      return self.value(block.result, names)
    return block.value

  def _graph(self, block: Any) -> Callable[[Any], Any]:
    signature, function = block.type_signature, self._graphs[id(block)]

    def run(argument: Any) -> Any:
      leaves = []
      if signature.parameter is not None:
        leaves = structures.flatten(argument, signature.parameter)
      return _nested(iter(function(leaves)), signature.result)

    return run

  def _intrinsic(self, uri: str, argument: Any, argument_type: Any) -> Any:
    if uri == 'federated_apply':
      return argument[0](argument[1])
    if uri == 'federated_eval_at_server':
      return argument(None)
    if uri in ('federated_value_at_server', 'federated_zip_at_server'):
      return argument
    if uri in ('federated_broadcast', 'federated_value_at_clients'):
      return _Same(argument)
    if uri == 'federated_zip_at_clients':
      return [_of_client(argument, argument_type, one) for one in range(self._clients)]
    if uri == 'federated_eval_at_clients':
      return self._map(argument, _Same(None))
    if uri == 'federated_map_all_equal':
      return _Same(argument[0](argument[1].value))
    if uri == 'federated_map':
      return self._map(*argument)
    values, total, accumulate, _, report = argument
    for value in self._each(values):
      total = accumulate([total, value])
    return report(total)

  def _map(self, function: Callable[[Any], Any], values: Any) -> list[Any]:
    return list(self._pool.map(function, self._each(values)))

  def _each(self, values: Any) -> list[Any]:
    return [values.value] * self._clients if isinstance(values, _Same) else values


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


def _placed(tff_type: Any) -> Iterator[tuple[str, Any]]:
  return iter(()) if tff_type is None else structures.paths(tff_type)


def _is_at_clients(tff_type: Any) -> bool:
  return isinstance(tff_type, compat.FederatedType) and tff_type.placement is compat.CLIENTS


def _has_sequence(tff_type: Any) -> bool:
  return any(isinstance(below, compat.SequenceType) for _, below in structures.paths(tff_type))


def _count(value: Any, tff_type: Any) -> int:
  """The number of clients in an argument; 0 if it has none."""
  if tff_type is None:
    return 0
  pairs = zip(structures.flatten(value, tff_type), structures.paths(tff_type), strict=True)
  counts = {
    len(leaf) for leaf, (_, below) in pairs if _is_at_clients(below) and not below.all_equal
  }
  if len(counts) > 1:
    raise ValueError(f'The arguments at clients have {sorted(counts)} clients; give each as many.')
  return counts.pop() if counts else 0


def _of_client(value: Any, tff_type: Any, client: int) -> Any:
  if isinstance(tff_type, compat.StructType):
    items = zip(value, compat.struct_items(tff_type), strict=True)
    return [_of_client(child, below, client) for child, (_, below) in items]
  return value.value if isinstance(value, _Same) else value[client]


def _nested(leaves: Iterator[Any], tff_type: Any) -> Any:
  if not isinstance(tff_type, compat.StructType):
    return next(leaves)
  return [_nested(leaves, below) for _, below in compat.struct_items(tff_type)]


def _plain(value: Any, tff_type: Any) -> Any:
  """An argument as programs take it, checked against its type."""
  if isinstance(tff_type, compat.FederatedType):
    if not _is_at_clients(tff_type):
      return _plain(value, tff_type.member)
    if tff_type.all_equal:
      return _Same(_plain(value, tff_type.member))
    if not isinstance(value, list):
      raise TypeError(f'A list with one value for each client was expected, got {type(value)}.')
    return [_plain(one, tff_type.member) for one in value]
  if isinstance(tff_type, compat.StructType):
    return [_plain(child, below) for child, below in structures.children(value, tff_type)]
  if isinstance(tff_type, compat.SequenceType):
    return _sequence(value, tff_type)
  if isinstance(tff_type, compat.TensorType):
    return _array(value, tff_type)
  raise NotImplementedError(f'An argument of type {tff_type}.')


def _sequence(value: Any, tff_type: Any) -> Any:
  if not isinstance(value, tf.data.Dataset):  # A list of elements, or refused.
    return tff.framework.serialize_value(value, tff_type)[0].sequence.serialized_graph_def
  found = compat.SequenceType(compat.tensorflow_to_type(value.element_spec))
  if not tff_type.is_assignable_from(found):
    raise TypeError(f'A dataset of type {tff_type} was expected, got {found}.')
  return value


def _array(value: Any, tff_type: Any) -> np.ndarray:
  dtype = np.dtype(getattr(tff_type.dtype, 'as_numpy_dtype', tff_type.dtype))
  if dtype.kind in 'SUO':
    array = np.asarray(value, object)
  else:
    found = np.asarray(value)
    # Python's own numbers have no size; arrays must not lose any.
    own = isinstance(value, bool | int | float | complex | list | tuple)
    if not np.can_cast(found.dtype, dtype, 'same_kind' if own else 'safe') or (
      found.dtype.kind == 'b' and dtype.kind != 'b'
    ):
      raise TypeError(f'A value of type {tff_type} was expected, got {found.dtype}.')
    array = np.asarray(found, dtype)
    if own and dtype.kind in 'iu' and not np.array_equal(array, found):
      raise TypeError(f'A value of type {tff_type} was expected, got {value}.')
  shape = tff_type.shape
  if shape is not None and (
    len(shape) != array.ndim
    or any(want not in (None, got) for want, got in zip(shape, array.shape, strict=True))
  ):
    raise TypeError(f'A value of type {tff_type} was expected, got one of shape {array.shape}.')
  return array


def _contained(value: Any, tff_type: Any) -> Any:
  """A result in the containers that its type names."""
  if isinstance(tff_type, compat.FederatedType):
    if isinstance(value, _Same):
      return _contained(value.value, tff_type.member)
    if _is_at_clients(tff_type):
      return [_contained(one, tff_type.member) for one in value]
    return _contained(value, tff_type.member)
  if not isinstance(tff_type, compat.StructType):
    return value
  items = zip(compat.struct_items(tff_type), value, strict=True)
  return structures.contain(
    [(name, _contained(child, below)) for (name, below), child in items], tff_type
  )

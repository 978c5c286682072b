"""A TFF computation, taken apart and run in this process."""

import concurrent.futures
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow_federated as tff

from tff_privacy_agg._tff import compilation, structures
from tff_privacy_agg.runtime.graph_function import GraphFunction
from tff_privacy_agg.runtime.program_values import (
  Same,
  contained,
  count_clients,
  has_sequence,
  is_at_clients,
  nested,
  of_client,
  placed,
  plain,
)

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


class Program:
  """A TFF computation that this process can run.

  Inside, a structure is a list, a value at the clients a list with one value for each or
  `Same`, a function a callable of one value.

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
    self._block = compilation.compile_native(computation).to_building_block()
    self._has_clients = any(
      is_at_clients(below) and not below.all_equal for _, below in placed(self._type.parameter)
    )
    self._check(self._block)

  def __call__(self, argument: Any) -> Any:
    """Runs the computation on an argument in the containers that TFF takes."""
    if self._type.parameter is not None:
      argument = plain(argument, self._type.parameter)
    clients = count_clients(argument, self._type.parameter)
    result = _Evaluation(self._graphs, self._pool, clients).value(self._block, {})(argument)
    return contained(result, self._type.result)

  def _check(self, block: Any) -> None:
    if isinstance(block, framework.CompiledComputation):
      if block.proto.WhichOneof('computation') != 'tensorflow' or has_sequence(
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
    """The value of a building block, where `names` are bound."""
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
      return nested(iter(function(leaves)), signature.result)

    return run

  def _intrinsic(self, uri: str, argument: Any, argument_type: Any) -> Any:
    if uri == 'federated_apply':
      return argument[0](argument[1])
    if uri == 'federated_eval_at_server':
      return argument(None)
    if uri in ('federated_value_at_server', 'federated_zip_at_server'):
      return argument
    if uri in ('federated_broadcast', 'federated_value_at_clients'):
      return Same(argument)
    if uri == 'federated_zip_at_clients':
      return [of_client(argument, argument_type, one) for one in range(self._clients)]
    if uri == 'federated_eval_at_clients':
      return self._map(argument, Same(None))
    if uri == 'federated_map_all_equal':
      return Same(argument[0](argument[1].value))
    if uri == 'federated_map':
      return self._map(*argument)
    values, total, accumulate, _, report = argument
    for value in self._each(values):
      total = accumulate([total, value])
    return report(total)

  def _map(self, function: Callable[[Any], Any], values: Any) -> list[Any]:
    return list(self._pool.map(function, self._each(values)))

  def _each(self, values: Any) -> list[Any]:
    return [values.value] * self._clients if isinstance(values, Same) else values

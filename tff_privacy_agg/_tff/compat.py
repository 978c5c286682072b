"""The names that TFF's main branch has moved to `federated_language`.

TFF 0.87 has them in `tensorflow_federated`; its main branch, in
`federated_language`. Everything else of this package takes them from here, so
that a port to a new release is a change of this file.
"""

from typing import Any

import tensorflow_federated as tff

_language: Any = tff
if not hasattr(tff, 'federated_computation'):
  import federated_language

  _language = federated_language

federated_computation = _language.federated_computation
federated_broadcast = _language.federated_broadcast
federated_aggregate = _language.federated_aggregate
federated_eval = _language.federated_eval
federated_map = _language.federated_map
federated_sum = _language.federated_sum
federated_value = _language.federated_value
federated_zip = _language.federated_zip

# These two stay in TFF on both branches.
federated_secure_modular_sum = tff.backends.mapreduce.federated_secure_modular_sum
tensorflow_computation = tff.tensorflow.computation

CLIENTS = _language.CLIENTS
SERVER = _language.SERVER

FederatedType = _language.FederatedType
FunctionType = _language.FunctionType
SequenceType = _language.SequenceType
StructType = _language.StructType
StructWithPythonType = _language.StructWithPythonType
TensorType = _language.TensorType
Type = _language.Type
Value = _language.Value
Computation = _language.Computation
to_type = _language.to_type
tensorflow_to_type = (
  tff.types.tensorflow_to_type if hasattr(tff, 'types') else tff.tensorflow.to_type
)

CompiledComputation = _language.framework.CompiledComputation
ConcreteComputation = _language.framework.ConcreteComputation
transform_postorder = _language.framework.transform_postorder
SyncContext = _language.framework.SyncContext
SyncExecutionContext = _language.framework.SyncExecutionContext
get_context_stack = _language.framework.get_context_stack
set_default_context = _language.framework.set_default_context
NativeFederatedContext = _language.program.NativeFederatedContext
FederatedDataSource = _language.program.FederatedDataSource
FederatedDataSourceIterator = _language.program.FederatedDataSourceIterator
GroupingReleaseManager = _language.program.GroupingReleaseManager
ReleaseManager = _language.program.ReleaseManager
materialize_value = _language.program.materialize_value
# TFF 0.87's own structures; on the main branch they are Python's containers, and this a function.
STRUCTS = tuple(kind for kind in (tff.structure.Struct,) if isinstance(kind, type))


def serialize_computation(computation: Any) -> Any:
  """The `Computation` message of a computation."""
  if hasattr(_language.framework, 'serialize_computation'):
    return _language.framework.serialize_computation(computation)
  return computation.to_proto()


def deserialize_computation(proto: Any) -> Any:
  """The computation of a `Computation` message."""
  framework = _language.framework
  if hasattr(framework, 'deserialize_computation'):
    return framework.deserialize_computation(proto)
  return framework.ConcreteComputation(
    computation_proto=proto, context_stack=framework.get_context_stack()
  )


def running_context() -> Any:
  """The context that runs computations in this thread; that behind a program's context, if any."""
  current = get_context_stack().current
  return getattr(current, 'behind', current)


def runs_protocol() -> bool:
  """Whether the context sums by a protocol from which clients drop out, and counts survivors."""
  return hasattr(running_context(), 'last_round')


def protocol_survivors() -> int | None:
  """Clients in the last sum of such a context; None where there is no such sum."""
  report = getattr(running_context(), 'last_round', None)
  return None if report is None else len(report.survivors)


def struct_items(struct_type: Any) -> list[tuple[Any, Any]]:
  """The (name or None, type) pairs of a `StructType`, in declared order."""
  if hasattr(tff.structure, 'iter_elements'):
    return list(tff.structure.iter_elements(struct_type))
  return list(struct_type.items())

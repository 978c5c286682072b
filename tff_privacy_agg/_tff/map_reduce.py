"""A computation in TFF's map-reduce form: one broadcast, one pass over the clients, one set of sums."""

from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError


def data_count(signature: Any) -> int:
  """Refuses what is not (state, data ...) -> (state, output ...); returns how many data."""

  def placed(element: compat.Type, placement: object) -> bool:
    return isinstance(element, compat.FederatedType) and element.placement is placement

  def refuse(found: str, fix: str) -> None:
    raise ConfigurationError(
      'A computation with secure sums runs as (state@SERVER, data@CLIENTS) -> '
      f'(state@SERVER, output@SERVER). {found} {fix}'
    )

  parameter = signature.parameter
  if not isinstance(parameter, compat.StructType):
    refuse(f'This one takes {parameter}.', 'Add a state, a tff.SERVER-placed first parameter.')
  given = [element for _, element in compat.struct_items(parameter)]
  if not placed(given[0], compat.SERVER):
    refuse(f'Its first parameter is {given[0]}.', 'Put the tff.SERVER-placed state first.')
  if len(given) < 2 or not all(placed(one, compat.CLIENTS) for one in given[1:]):
    refuse(f'It takes {parameter}.', 'Every parameter after the state must be tff.CLIENTS-placed.')
  if not isinstance(signature.result, compat.StructType):
    refuse(f'It returns {signature.result}.', 'Return the new state and an output.')
  returned = [element for _, element in compat.struct_items(signature.result)]
  if len(returned) < 2 or not all(placed(one, compat.SERVER) for one in returned):
    refuse(
      f'It returns {signature.result}.',
      'Every result must be tff.SERVER-placed: what stays at tff.CLIENTS cannot be returned.',
    )
  if not given[0].member.is_assignable_from(returned[0].member):
    refuse(f'Its first result is {returned[0]}.', f'Return a state of type {given[0]}.')
  return len(given) - 1


def form_of(computation: Any, data_count: int) -> Any:
  """TFF's `MapReduceForm` of a computation with so many arguments at clients.

  Raises:
    ConfigurationError: If TFF cannot bring it into that form.
  """
  signature = computation.type_signature
  given = [element for _, element in compat.struct_items(signature.parameter)]
  returned = compat.struct_items(signature.result)
  if data_count > 1 or len(returned) > 2:
    members = given[1].member
    if data_count > 1:
      members = compat.to_type([one.member for one in given[1:]])

    @compat.federated_computation(given[0], compat.FederatedType(members, compat.CLIENTS))
    def pair(state: compat.Value, values: compat.Value) -> tuple[compat.Value, compat.Value]:
      data = [values] if data_count == 1 else [values[index] for index in range(data_count)]
      outputs = computation(state, *data)
      rest = [outputs[index] for index in range(1, len(returned))]
      return outputs[0], rest[0] if len(rest) == 1 else compat.federated_zip(tuple(rest))

  else:
    pair = computation
  try:
    return tff.backends.mapreduce.get_map_reduce_form_for_computation(pair, _as_it_is())
  except Exception as error:
    text = str(error).strip().split('\n')[0].split(' Examples are')[0]
    raise ConfigurationError(
      'A computation with secure sums runs as one broadcast, one pass over the clients and one '
      "set of sums, TFF's `MapReduceForm`. TFF could not bring this one into that form: "
      f'{type(error).__name__}: {text[:300]} '
      'Let no sum, and no broadcast, depend on another sum of the same round.'
    ) from error


def _as_it_is() -> tf.compat.v1.ConfigProto:
  """Leaves the graphs alone: their sessions optimize them, and TFF's pass keeps large constants."""
  config = tf.compat.v1.ConfigProto()
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  return config

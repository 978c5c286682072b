"""A TFF computation with secure sums, taken apart: server, each client, sums, server."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tff_privacy_agg import secagg
from tff_privacy_agg._tff import compat, map_reduce, structures
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.runtime.aggregands import (
  BITWIDTH,
  MAX_INPUT,
  MODULAR,
  Aggregand,
  aggregands_of,
)

_SECURE = re.compile(r'\bfederated_secure_\w+')
_KINDS = (BITWIDTH, MAX_INPUT, MODULAR)


def secure_intrinsics(computation: Any) -> set[str]:
  """TFF's names of the secure intrinsics that a computation calls."""
  return set(_SECURE.findall(computation.to_building_block().compact_representation()))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClientResult:
  """Result of one client's work.

  Attributes:
    inputs: {leaf: integers} for the secure sums.
    clear: The part that goes to the server in the clear; a structure without leaves mostly.
  """

  inputs: Mapping[str, np.ndarray]
  clear: Any


class RoundForm:
  """TFF's map-reduce form of one round, with what the secure sums need.

  Attributes:
    prepare: TFF computation, state -> what is broadcast.
    work: TFF computation of one client: (data, broadcast) -> result.
    update: TFF computation, (state, sums) -> (state, output).
    data_type: TFF type of one client's argument.
    broadcast_type: TFF type of what is broadcast.
    result_type: TFF type of one client's result.
    aggregands: The tensors that are summed, in order.
    clear: Leaves that are summed in the clear, allowed by the caller.
  """

  def __init__(self, computation: Any, *, maximum_clients: int, allow_clear: Collection[str] = ()):
    """Takes `computation` apart.

    Args:
      computation: (state at server, data at clients ...) -> (state, output ...) at server.
      maximum_clients: Most clients of a round, for the bits of bounded sums.
      allow_clear: Names of leaves, or of structures of them, that may be summed in the clear.

    Raises:
      ConfigurationError: If it is no such computation.
      ClearAggregandError: If more than `allow_clear` would leave the clients in the clear.
      CapacityError: If the sums of so many clients do not fit.
      UnsupportedModulusError: If a modulus is not a power of two.
    """
    self._type = computation.type_signature
    self._data_count = map_reduce.data_count(self._type)
    form = map_reduce.form_of(computation, self._data_count)
    self.result_type = form.work.type_signature.result
    self.prepare, self.work, self.update = form.prepare, form.work, form.update
    self.data_type = form.work.type_signature.parameter[0]
    self.broadcast_type = form.prepare.type_signature.result
    bounds = (
      (BITWIDTH, form.secure_sum_bitwidth),
      (MAX_INPUT, form.secure_sum_max_input),
      (MODULAR, form.secure_modular_sum_modulus),
    )
    types = [element for _, element in compat.struct_items(self.result_type)]
    self.aggregands: tuple[Aggregand, ...] = tuple(
      aggregand
      for values_type, (kind, bound) in zip(types[1:], bounds, strict=True)
      for aggregand in aggregands_of(
        kind, values_type, bound(), bound.type_signature.result, maximum_clients
      )
    )
    self.clear = tuple(path for path, _ in structures.paths(types[0]))
    _check_clear(types[0], allow_clear)
    self._clear_sum = _clear_sum(form, types[0])
    self.leaves = tuple(one.leaf for one in self.aggregands if one.size)
    if not self.leaves:
      raise ConfigurationError(
        'The secure sums of this computation hold no numbers. Sum at least one.'
      )

  def __repr__(self) -> str:
    return f'<RoundForm of {len(self.leaves)} leaves, {len(self.clear)} in the clear>'

  @property
  def plain_bytes(self) -> float:
    """Bytes of one client's input in the clear."""
    return sum(one.plain_bytes for one in self.aggregands)

  @property
  def schema(self) -> str:
    """Text that server and client must agree on."""
    return f'{self.work.type_signature.compact_representation()} {self.leaves}'

  def data_of(self, data: Sequence[Sequence[Any]]) -> list[Any]:
    """The clients' arguments, one for each client, from one list for each parameter."""
    if self._data_count == 1:
      return list(data[0])
    if len({len(one) for one in data}) > 1:
      raise ConfigurationError(
        f'The arguments at clients have {[len(one) for one in data]} clients; give each as many.'
      )
    return list(zip(*data, strict=True))

  def broadcast_arrays(self, broadcast: Any) -> list[Any]:
    """All that a client receives of the server's state, for the digest of the context."""
    return [_plain(leaf) for leaf in structures.flatten(broadcast, self.broadcast_type)]

  def split(self, result: Any) -> ClientResult:
    """One client's result of `work` as inputs of the session, and its clear part."""
    parts = list(structures.children(result, self.result_type))
    flat = [leaf for value, below in parts[1:] for leaf in structures.flatten(value, below)]
    inputs = {
      one.name: one.encode(value)
      for one, value in zip(self.aggregands, flat, strict=True)
      if one.size
    }
    return ClientResult(inputs=inputs, clear=parts[0][0])

  def join(self, sums: Mapping[str, np.ndarray], clear: Sequence[Any]) -> Any:
    """The argument of `update` from the sums and the survivors' clear parts."""
    arrays = iter(
      np.asarray(sums[one.name] if one.size else np.zeros(one.shape)).astype(one.dtype)
      for one in self.aggregands
    )
    types = [element for _, element in compat.struct_items(self.result_type)]
    secure = [structures.pack(arrays, below) for below in types[1:]]
    return (self._clear_sum(list(clear)), *secure)

  def result(self, output: Any) -> Any:
    """The computation's result, as TFF's own contexts return it, from that of `update`."""
    output_type = self.update.type_signature.result
    (new_state, _), (rest, rest_type) = structures.children(output, output_type)
    wanted = compat.struct_items(self._type.result)
    others = [rest]
    if len(wanted) > 2:
      others = [value for value, _ in structures.children(rest, rest_type)]
    items = [
      (name, structures.restore(value, below))
      for (name, below), value in zip(wanted, [new_state, *others], strict=True)
    ]
    return structures.contain(items, self._type.result)


def _plain(leaf: Any) -> np.ndarray:
  """A leaf of a broadcast as an array that can be hashed; text and bytes by their own bytes."""
  array = np.asarray(leaf)
  return array.astype(np.bytes_) if array.dtype.hasobject else array


def _clear_sum(form: Any, clear_type: Any) -> Any:
  """A function from the clients' clear parts to their aggregate."""
  if not list(structures.paths(clear_type)):
    return lambda values: ()

  @compat.federated_computation(compat.FederatedType(clear_type, compat.CLIENTS))
  def aggregate(values: compat.Value) -> compat.Value:
    return compat.federated_aggregate(values, form.zero(), form.accumulate, form.merge, form.report)

  return aggregate


def _check_clear(clear_type: Any, allowed: Collection[str]) -> None:
  leaves = dict(structures.paths(clear_type))
  refused = [
    path for path in leaves if not any(path == one or path.startswith(f'{one}/') for one in allowed)
  ]
  if refused:
    named = ', '.join(f'{path!r} ({leaves[path]})' for path in refused)
    raise secagg.ClearAggregandError(
      f"This round also sums in the clear, where the server sees each client's value: {named}. Sum "
      'them securely (`metrics_aggregator=tpa.no_metrics` drops training metrics), or name them in '
      '`allow_clear`.'
    )

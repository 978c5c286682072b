"""The aggregation process of a stack: the package's only aggregation code in TFF."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg._tff import compat, compilation, error_hints
from tff_privacy_agg.accounting import Budget, Filter
from tff_privacy_agg.aggregation import binding, stack_mark, tff_values
from tff_privacy_agg.aggregation.layers import ForeignSum, Layer, ModularTerminal, PlainSum
from tff_privacy_agg.aggregation.layers.base import Measurements, Numbers, Params, State
from tff_privacy_agg.aggregation.stack import Stack
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.numerics import entropy, modular
from tff_privacy_agg.numerics.randomness import RandomStream


def build(
  layers: Sequence[Layer],
  bound: binding.Binding,
  value_type: compat.Type,
  weight_type: compat.Type | None,
  *,
  delta: float,
  randomness: str,
  budget: Budget | None,
) -> tff.templates.AggregationProcess:
  """The process of a stack that is bound to `value_type`; weighted if there is a `weight_type`."""
  stack = stack_of(bound, delta=delta, budget=budget)
  error_hints.warn_if_secure_sums_cannot_run()
  server_draws = bound.mechanism is not None and not bound.mechanism.distributed
  client_draws = any(layer.uses_randomness for layer in layers) and not server_draws

  def draw(round_number: tf.Tensor) -> RandomStream:
    key = entropy.operating_system_key(round_number)
    return RandomStream(kind=randomness, key=key)

  @compat.tensorflow_computation
  def initialize_stack() -> State:
    compilation.mark_as_written()
    return stack.init()

  stack_state_type = initialize_stack.type_signature.result

  @compat.tensorflow_computation(stack_state_type)
  def prepare(state: State) -> Params:
    return stack.prepare(state)

  params_type = prepare.type_signature.result

  def encode(params: Params, value: Any, weight: tf.Tensor | None) -> Numbers:
    compilation.mark_as_written()
    vector = tff_values.to_vector(value, value_type, bound.dtype)
    drawn = draw(params['round']) if client_draws else None
    return stack.client(params, vector, drawn, weight)

  if weight_type is None:
    client = compat.tensorflow_computation(
      lambda params, value: encode(params, value, None), (params_type, value_type)
    )
  else:
    client = compat.tensorflow_computation(encode, (params_type, value_type, weight_type))
  message_type = client.type_signature.result

  @compat.tensorflow_computation(stack_state_type, message_type)
  def finish(state: State, sums: Numbers) -> tuple[State, Any, Measurements]:
    compilation.mark_as_written()
    stack_mark.write(layers, bound.cohort)
    drawn = draw(state['privacy']['rounds']) if server_draws else None
    new_state, vector, measurements = stack.server(state, sums, drawn)
    return new_state, tff_values.from_vector(vector, value_type), measurements

  summed = _Sum(layers[-1], message_type, stack_state_type, bound.channel_bits)

  @compat.federated_computation
  def initialize() -> compat.Value:
    return summed.join(compat.federated_eval(initialize_stack, compat.SERVER), summed.initial())

  def run(state: compat.Value, *client_values: compat.Value) -> tff.templates.MeasuredProcessOutput:
    stack_state, sum_state = summed.part(state)
    params = compat.federated_broadcast(compat.federated_map(prepare, stack_state))
    messages = compat.federated_map(client, (params, *client_values))
    sums, new_sum_state = summed.run(sum_state, messages)
    new_state, result, measurements = compat.federated_map(finish, (stack_state, sums))
    return tff.templates.MeasuredProcessOutput(
      state=summed.join(new_state, new_sum_state), result=result, measurements=measurements
    )

  types = [value_type] if weight_type is None else [value_type, weight_type]
  placed = [compat.FederatedType(one, compat.CLIENTS) for one in types]
  state_type = initialize.type_signature.result
  if weight_type is None:
    # TFF takes the parameters' names from the function: callers may use them.
    next_round = compat.federated_computation(
      lambda state, value: run(state, value), state_type, *placed
    )
  else:
    next_round = compat.federated_computation(
      lambda state, value, weight: run(state, value, weight), state_type, *placed
    )
  return tff.templates.AggregationProcess(initialize, next_round)


def stack_of(bound: binding.Binding, *, delta: float, budget: Budget | None) -> Stack:
  """The functions of a bound stack.

  Raises:
    ConfigurationError: If not even the first round is within the budget.
  """
  return Stack(binding=bound, delta=delta, limit=_limit(budget, bound))


def _limit(budget: Budget | None, bound: binding.Binding) -> Filter | None:
  """The budget at its fixed order; refuses one that even the first round exceeds."""
  if budget is None:
    return None
  if bound.mechanism is None or (budget.view == 'server' and not bound.holds_against_server):
    raise ConfigurationError(
      f"The budget counts the {budget.view}'s view, in which this stack's epsilon is infinite. Add "
      'distributed noise and a secure sum'
      + (", or pass `Budget(..., view='release')`." if bound.mechanism is not None else '.')
    )
  limit = bound.limit(budget)
  if not limit.admits(bound.worst_round, bound.sampler_distance):
    raise ConfigurationError(
      f'A single round at noise multiplier {bound.noise_multiplier(bound.cohort.minimum):.3g} '
      f'exceeds the budget of epsilon {budget.epsilon:g} at delta {budget.delta:g}. Raise the '
      'noise multiplier or the budget.'
    )
  return limit


class _Sum:
  """The sum that a terminal layer stands for, and its part of the state."""

  def __init__(
    self,
    terminal: Layer,
    message_type: compat.Type,
    stack_state_type: compat.Type,
    channel_bits: int,
  ) -> None:
    self._name = terminal.name
    self._stack_names = [name for name, _ in compat.struct_items(stack_state_type)]
    self._inner = None
    self._plain = isinstance(terminal, PlainSum)
    if isinstance(terminal, ForeignSum):
      self._inner = terminal.factory.create(message_type)
    if isinstance(terminal, ModularTerminal):
      bits = OrderedDict(vector=terminal.width, channels=channel_bits)
      self._moduli = OrderedDict(
        (name, modular.dtype_for(width).as_numpy_dtype(2**width)) for name, width in bits.items()
      )

  def initial(self) -> compat.Value | None:
    """Initial state of a foreign sum; None otherwise."""
    return None if self._inner is None else self._inner.initialize()

  def join(self, stack_state: compat.Value, sum_state: compat.Value | None) -> compat.Value:
    """The process's state from the stack's and the sum's."""
    if sum_state is None:
      return stack_state
    parts = OrderedDict((name, stack_state[name]) for name in self._stack_names)
    return compat.federated_zip(OrderedDict(parts, **{self._name: sum_state}))

  def part(self, state: compat.Value) -> tuple[compat.Value, compat.Value | None]:
    """Inverse of `join`."""
    if self._inner is None:
      return state, None
    parts = OrderedDict((name, state[name]) for name in self._stack_names)
    return compat.federated_zip(parts), state[self._name]

  def run(
    self, sum_state: compat.Value | None, messages: compat.Value
  ) -> tuple[compat.Value, compat.Value | None]:
    """The sums over clients, and the sum's next state."""
    if self._inner is not None:
      output = self._inner.next(sum_state, messages)
      return output.result, output.state
    if self._plain:
      return compat.federated_sum(messages), None
    return compat.federated_secure_modular_sum(messages, self._moduli), None

"""The stack as TFF aggregation factories: the package's only aggregation code in TFF."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Self

import tensorflow_federated as tff

from tff_privacy_agg import _cleanup as _cleanup  # its exit hook
from tff_privacy_agg import _compat, _validate, binding, hints, values
from tff_privacy_agg.accounting import Budget, Filter
from tff_privacy_agg.domains import Cohort
from tff_privacy_agg.errors import CompositionError, ConfigurationError
from tff_privacy_agg.layers import ForeignSum, Layer, ModularTerminal, PlainSum
from tff_privacy_agg.numerics import entropy, modular
from tff_privacy_agg.numerics.randomness import KINDS, RandomStream
from tff_privacy_agg.stack import Stack

_DEFAULT_DELTA = 1e-6


class _ComposedFactory:
  """What both factories share: a checked stack, and `create`."""

  def __init__(
    self,
    layers: Sequence[Layer],
    cohort: Cohort,
    delta: float | None,
    randomness: str,
    budget: Budget | None = None,
    beside: Sequence[binding.Binding] = (),
  ):
    binding.check(layers)
    layers = tuple(layers)
    _validate.instance(Cohort, cohort=cohort)
    if budget is not None:
      _validate.instance(Budget, budget=budget)
    if delta is None:
      delta = _DEFAULT_DELTA if budget is None else budget.delta
    _validate.fraction(delta=delta)
    _validate.one_of(KINDS, randomness=randomness)
    weighted = [layer.name for layer in layers if layer.uses_weight]
    if weighted and not isinstance(self, tff.aggregators.WeightedAggregationFactory):
      raise CompositionError(
        f"`compose` takes layers without weights; layer {weighted[0]!r} uses the clients' "
        'weights. Use `compose_weighted`, or `Mean` in its place.'
      )
    if not weighted and isinstance(self, tff.aggregators.WeightedAggregationFactory):
      raise CompositionError(
        "`compose_weighted` takes a layer that uses the clients' weights; none of "
        f'{[layer.name for layer in layers]} does. Use `compose`, or add `WeightedMean`.'
      )
    self._layers = layers
    self._cohort = cohort
    self._delta = float(delta)
    self._randomness = randomness
    self._budget = budget
    self._beside = tuple(beside)

  @property
  def layers(self) -> tuple[Layer, ...]:
    """The layers, from the client's value to the sum."""
    return self._layers

  @property
  def cohort(self) -> Cohort:
    """The cohort that the stack is built for."""
    return self._cohort

  @property
  def delta(self) -> float:
    """Delta of the epsilon in the metrics, before the samplers' distance is added."""
    return self._delta

  @property
  def randomness(self) -> str:
    """Where the noise comes from: 'chacha20' or 'philox'."""
    return self._randomness

  @property
  def budget(self) -> Budget | None:
    """The most that the process spends."""
    return self._budget

  def accounted(
    self,
    *,
    delta: float,
    budget: Budget | None,
    beside: Sequence[binding.Binding] = (),
  ) -> Self:
    """The same stack under another account.

    Args:
      delta: As in `compose`.
      budget: As in `compose`.
      beside: What the same cohort releases beside this stack in every round; the
        account adds its cost.

    Raises:
      ConfigurationError: If an argument is outside its range.
    """
    return type(self)(self._layers, self._cohort, delta, self._randomness, budget, beside)

  def bind(self, value_type: _compat.Type) -> binding.Binding:
    """The constants of the stack for values of `value_type`: design, channels, table.

    Args:
      value_type: TFF type of one client's value, without placement.

    Raises:
      CompositionError: If the type is not a structure of float tensors of known shapes.
      ConfigurationError: If the modulus cannot carry the noise at this dimension.
    """
    dim, dtype = values.measure(value_type)
    return binding.bind(self._layers, self._cohort, dim, dtype, self._beside)

  def _create(self, value_type, weight_type=None) -> tff.templates.AggregationProcess:
    bound = self.bind(value_type)
    stack = Stack(binding=bound, delta=self._delta, limit=_limit(self._budget, bound))
    hints.warn_if_secure_sums_cannot_run()
    server_draws = bound.mechanism is not None and not bound.mechanism.distributed
    client_draws = any(layer.uses_randomness for layer in self._layers) and not server_draws

    def draw(round_number):
      key = entropy.operating_system_key(round_number)
      return RandomStream(kind=self._randomness, key=key)

    @_compat.tensorflow_computation
    def initialize_stack():
      return stack.init()

    stack_state_type = initialize_stack.type_signature.result

    @_compat.tensorflow_computation(stack_state_type)
    def prepare(state):
      return stack.prepare(state)

    params_type = prepare.type_signature.result

    def encode(params, value, weight):
      vector = values.to_vector(value, value_type, bound.dtype)
      drawn = draw(params['round']) if client_draws else None
      return stack.client(params, vector, drawn, weight)

    if weight_type is None:
      client = _compat.tensorflow_computation(
        lambda params, value: encode(params, value, None), (params_type, value_type)
      )
    else:
      client = _compat.tensorflow_computation(encode, (params_type, value_type, weight_type))
    message_type = client.type_signature.result

    @_compat.tensorflow_computation(stack_state_type, message_type)
    def finish(state, sums):
      drawn = draw(state['privacy']['rounds']) if server_draws else None
      new_state, vector, measurements = stack.server(state, sums, drawn)
      return new_state, values.from_vector(vector, value_type), measurements

    summed = _Sum(self._layers[-1], message_type, stack_state_type, bound.channel_bits)

    @_compat.federated_computation
    def initialize():
      return summed.join(_compat.federated_eval(initialize_stack, _compat.SERVER), summed.initial())

    def run(state, *client_values):
      stack_state, sum_state = summed.part(state)
      params = _compat.federated_broadcast(_compat.federated_map(prepare, stack_state))
      messages = _compat.federated_map(client, (params, *client_values))
      sums, new_sum_state = summed.run(sum_state, messages)
      new_state, result, measurements = _compat.federated_map(finish, (stack_state, sums))
      return tff.templates.MeasuredProcessOutput(
        state=summed.join(new_state, new_sum_state), result=result, measurements=measurements
      )

    types = [value_type] if weight_type is None else [value_type, weight_type]
    placed = [_compat.FederatedType(one, _compat.CLIENTS) for one in types]
    state_type = initialize.type_signature.result
    if weight_type is None:
      next_round = _compat.federated_computation(lambda s, v: run(s, v), state_type, *placed)
    else:
      next_round = _compat.federated_computation(lambda s, v, w: run(s, v, w), state_type, *placed)
    return tff.templates.AggregationProcess(initialize, next_round)


def _limit(budget: Budget | None, bound: binding.Binding) -> Filter | None:
  """The budget at its fixed order; refuses one that not even the first round is within."""
  if budget is None:
    return None
  if bound.mechanism is None or (budget.view == 'server' and not bound.holds_against_server):
    raise ConfigurationError(
      f"A budget in the {budget.view}'s view was asked of a stack whose epsilon is infinite there. "
      'Add distributed noise and a secure sum'
      + (", or pass `Budget(..., view='release')`." if bound.mechanism is not None else '.')
    )
  worst = bound.worst_round
  limit = budget.fix(bound.orders, worst)
  if not limit.admits(worst, bound.sampler_distance):
    raise ConfigurationError(
      f'A budget of epsilon {budget.epsilon:g} at delta {budget.delta:g} was asked; not one round '
      f'of noise multiplier {bound.noise_multiplier(bound.cohort.minimum):.3g} is within it. '
      'Raise the noise multiplier or the budget.'
    )
  return limit


class _Sum:
  """The sum that a terminal layer stands for, and its part of the state."""

  def __init__(self, terminal: Layer, message_type, stack_state_type, channel_bits: int):
    self._name = terminal.name
    self._stack_names = [name for name, _ in _compat.struct_items(stack_state_type)]
    self._inner = None
    self._plain = isinstance(terminal, PlainSum)
    if isinstance(terminal, ForeignSum):
      self._inner = terminal.factory.create(message_type)
    if isinstance(terminal, ModularTerminal):
      bits = OrderedDict(vector=terminal.width, channels=channel_bits)
      self._moduli = OrderedDict(
        (name, modular.dtype_for(width).as_numpy_dtype(2**width)) for name, width in bits.items()
      )

  def initial(self):
    """Initial state of a foreign sum; None otherwise."""
    return None if self._inner is None else self._inner.initialize()

  def join(self, stack_state, sum_state):
    """The process's state from the stack's and the sum's."""
    if sum_state is None:
      return stack_state
    parts = OrderedDict((name, stack_state[name]) for name in self._stack_names)
    return _compat.federated_zip(OrderedDict(parts, **{self._name: sum_state}))

  def part(self, state):
    """Inverse of `join`."""
    if self._inner is None:
      return state, None
    parts = OrderedDict((name, state[name]) for name in self._stack_names)
    return _compat.federated_zip(parts), state[self._name]

  def run(self, sum_state, messages):
    """The sums over clients, and the sum's next state."""
    if self._inner is not None:
      output = self._inner.next(sum_state, messages)
      return output.result, output.state
    if self._plain:
      return _compat.federated_sum(messages), None
    return _compat.federated_secure_modular_sum(messages, self._moduli), None


class ComposedFactory(_ComposedFactory, tff.aggregators.UnweightedAggregationFactory):
  """A stack of layers as an unweighted TFF aggregation factory: see `compose`."""

  def create(self, value_type) -> tff.templates.AggregationProcess:
    """The aggregation process for values of `value_type`.

    Raises:
      CompositionError: If the type is not a structure of float tensors of known shapes.
      ConfigurationError: If the modulus cannot carry the noise at this dimension.
    """
    return self._create(value_type)


class WeightedComposedFactory(_ComposedFactory, tff.aggregators.WeightedAggregationFactory):
  """A stack of layers as a weighted TFF aggregation factory: see `compose_weighted`."""

  def create(self, value_type, weight_type) -> tff.templates.AggregationProcess:
    """The aggregation process for values of `value_type` and scalar weights.

    Raises:
      CompositionError: If a type is not as described.
      ConfigurationError: If the modulus cannot carry the noise at this dimension.
    """
    values.check_weight(weight_type)
    return self._create(value_type, weight_type)


def compose(
  layers: Sequence[Layer],
  *,
  cohort: Cohort,
  delta: float | None = None,
  randomness: str = 'chacha20',
  budget: Budget | None = None,
) -> ComposedFactory:
  """Composes layers into a TFF aggregation factory.

  The result is an ordinary `tff.aggregators.UnweightedAggregationFactory`: pass it
  as `model_aggregator` to TFF's learning processes, or wrap it in TFF's own
  factories. All that leaves a client is one message of residues: the vector, and
  the auxiliary channels with the count of survivors.

  Measurements: one entry for each layer that has any, and `privacy` with
  `epsilon` (server's view, no amplification), `release_epsilon`, `delta`
  (with the samplers' distance added), `noise_multiplier` (effective, of this
  round), `rounds`, `survivors`, `honest` and `accepted`. Epsilon is infinite in a
  stack without noise. With a budget also `halted`: the next round, at
  `cohort.minimum` honest survivors, could have passed it. From then on clients send
  noise alone, the result is zeros, and neither account nor any other state changes.

  Args:
    layers: From the client's value to the sum.
    cohort: Expected, most and fewest clients of a round.
    delta: Delta of the reported epsilon; at most a tenth of one over the population.
      Defaults to the budget's, else 1e-6.
    randomness: `'chacha20'` (noise from a cipher keyed with the operating
      system's entropy) or `'philox'` (same entropy, a faster generator that is
      not cryptographic: for simulations).
    budget: The most to spend, kept inside the computation whatever runs it. A round
      with fewer than `cohort.minimum` honest survivors costs more than was planned,
      and only the runtime can keep its sum closed: see `PrivacyLedger`.

  Returns:
    The factory; `bind(value_type)` tells the constants of the build.

  Raises:
    CompositionError: If the layers do not form a stack.
    ConfigurationError: If an argument is outside its range.
  """
  return ComposedFactory(layers, cohort, delta, randomness, budget)


def compose_weighted(
  layers: Sequence[Layer],
  *,
  cohort: Cohort,
  delta: float | None = None,
  randomness: str = 'chacha20',
  budget: Budget | None = None,
) -> WeightedComposedFactory:
  """Composes layers, `WeightedMean` among them, into a weighted TFF factory.

  Args:
    layers: As in `compose`.
    cohort: As in `compose`.
    delta: As in `compose`.
    randomness: As in `compose`.
    budget: As in `compose`.

  Returns:
    A `tff.aggregators.WeightedAggregationFactory`.

  Raises:
    CompositionError: If the layers do not form a stack, or none uses weights.
    ConfigurationError: If an argument is outside its range.
  """
  return WeightedComposedFactory(layers, cohort, delta, randomness, budget)

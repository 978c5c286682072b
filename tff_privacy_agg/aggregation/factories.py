"""The stack as TFF aggregation factories."""

from collections.abc import Sequence
from typing import Self

import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._names import RANDOMNESS
from tff_privacy_agg._tff import (
  compat,
  worker_cleanup as worker_cleanup,  # its exit hook
)
from tff_privacy_agg.accounting import Budget
from tff_privacy_agg.aggregation import binding, composition, process, tff_values
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.layers import Layer

_DEFAULT_DELTA = 1e-6


class _ComposedFactory:
  """Base of both factories: a checked stack, and `create`."""

  def __init__(
    self,
    layers: Sequence[Layer],
    cohort: Cohort,
    delta: float | None,
    randomness: str,
    budget: Budget | None = None,
    beside: Sequence[binding.Binding] = (),
  ):
    composition.check(layers)
    layers = tuple(layers)
    _validate.instance(Cohort, cohort=cohort)
    if budget is not None:
      _validate.instance(Budget, budget=budget)
    self._stated_delta = delta
    if delta is None:
      delta = _DEFAULT_DELTA if budget is None else budget.delta
    _validate.fraction(delta=delta)
    _validate.one_of(tuple(RANDOMNESS), randomness=randomness)
    composition.check_weights(layers, isinstance(self, tff.aggregators.WeightedAggregationFactory))
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
  def stated_delta(self) -> float | None:
    """The delta that the stack was composed with; None if it was left to the default."""
    return self._stated_delta

  @property
  def randomness(self) -> str:
    """Source of the noise: 'chacha20' or 'philox'."""
    return self._randomness

  @property
  def budget(self) -> Budget | None:
    """The most that the process spends."""
    return self._budget

  def accounted(
    self, *, delta: float, budget: Budget | None, beside: Sequence[binding.Binding] = ()
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

  def bind(self, value_type: compat.Type) -> binding.Binding:
    """The constants of the stack for values of `value_type`: design, channels, table.

    Args:
      value_type: TFF type of one client's value, without placement.

    Raises:
      CompositionError: If the type is not a structure of float tensors of known shapes.
      ConfigurationError: If the modulus cannot carry the noise at this dimension.
    """
    dim, dtype = tff_values.measure(value_type)
    return binding.bind(self._layers, self._cohort, dim, dtype, self._beside)

  def _create(
    self, value_type: compat.Type, weight_type: compat.Type | None = None
  ) -> tff.templates.AggregationProcess:
    return process.build(
      self._layers,
      self.bind(value_type),
      value_type,
      weight_type,
      delta=self._delta,
      randomness=self._randomness,
      budget=self._budget,
    )


class ComposedFactory(_ComposedFactory, tff.aggregators.UnweightedAggregationFactory):
  """A stack of layers as an unweighted TFF aggregation factory: see `compose`."""

  def create(self, value_type: compat.Type) -> tff.templates.AggregationProcess:
    """The aggregation process for values of `value_type`.

    Raises:
      CompositionError: If the type is not a structure of float tensors of known shapes.
      ConfigurationError: If the modulus cannot carry the noise at this dimension.
    """
    return self._create(value_type)


class WeightedComposedFactory(_ComposedFactory, tff.aggregators.WeightedAggregationFactory):
  """A stack of layers as a weighted TFF aggregation factory: see `compose_weighted`."""

  def create(
    self, value_type: compat.Type, weight_type: compat.Type
  ) -> tff.templates.AggregationProcess:
    """The aggregation process for values of `value_type` and scalar weights.

    Raises:
      CompositionError: If a type is not as described.
      ConfigurationError: If the modulus cannot carry the noise at this dimension.
    """
    tff_values.check_weight(weight_type)
    return self._create(value_type, weight_type)


@_validate.plain_numbers
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

  Examples:
    >>> factory = tpa.compose(
    ...   [
    ...     tpa.Mean(),
    ...     tpa.Clipping(norm=1.0),
    ...     tpa.Quantization(),
    ...     tpa.DiscreteGaussianNoise(noise_multiplier=1.0),
    ...     tpa.SecureModularSum(bits=16),
    ...   ],
    ...   cohort=tpa.Cohort(expected=100, minimum=80),
    ... )
    >>> bound = factory.bind(tff.TensorType(np.float32, [1000]))
    >>> round(bound.noise_multiplier(80), 2), bound.holds_against_server
    (1.0, True)
  """
  return ComposedFactory(layers, cohort, delta, randomness, budget)


@_validate.plain_numbers
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

  Examples:
    >>> factory = tpa.compose_weighted(
    ...   [tpa.WeightedMean(maximum=10.0), tpa.Clipping(norm=1.0), tpa.PlainSum()],
    ...   cohort=tpa.Cohort(expected=100),
    ... )
    >>> isinstance(factory, tff.aggregators.WeightedAggregationFactory)
    True
  """
  return WeightedComposedFactory(layers, cohort, delta, randomness, budget)

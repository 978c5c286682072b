"""Training metrics as bounded sums with noise of their own."""

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._names import DISTRIBUTED
from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation import binding, tff_values
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.aggregation.factories import ComposedFactory, compose
from tff_privacy_agg.aggregation.layers import (
  CoordinateClipping,
  Quantization,
  SecureModularSum,
)
from tff_privacy_agg.aggregation.layers.noise import NOISE_LAYERS
from tff_privacy_agg.errors import ConfigurationError

Bounds = float | Sequence[float]
# Name, TFF type and bounds of a released metric.
_Chosen = tuple[str, compat.Type, tuple[float, ...]]


@_validate.plain_numbers
@dataclasses.dataclass(frozen=True, kw_only=True)
class PrivateMetrics:
  """Sums of the clients' metrics, bounded and with distributed noise: see `private_metrics`."""

  noise_multiplier: float
  cohort: Cohort
  maximum: float | Mapping[str, Bounds] = 100.0
  mechanism: str = 'discrete_gaussian'
  bits: int = 32
  randomness: str = 'chacha20'

  def __post_init__(self) -> None:
    _validate.noise_multiplier(self.noise_multiplier)
    _validate.instance(Cohort, cohort=self.cohort)
    _validate.one_of(DISTRIBUTED, mechanism=self.mechanism)
    bounds = self.maximum if isinstance(self.maximum, Mapping) else {'': self.maximum}
    if not bounds:
      raise ConfigurationError(
        '`maximum` names the metrics to release; it names none. Use `no_metrics` for that.'
      )
    for name, bound in bounds.items():
      for one in _each(bound):
        _validate.positive(**{f'maximum[{name!r}]' if name else 'maximum': one})

  def bind(self, metrics_type: compat.Type) -> binding.Binding:
    """The constants of the release for metrics of a type: what an account adds for it.

    Args:
      metrics_type: TFF type of one client's metrics: names to (nested) numbers.

    Raises:
      ConfigurationError: If `maximum` does not fit the metrics, or `bits` are too few.
    """
    chosen = self._chosen(metrics_type)
    return self._factory(chosen).bind(_vector_type(chosen))

  def __call__(
    self,
    metric_finalizers: Callable[[Any], Any] | Mapping[str, Callable[[Any], Any]],
    local_unfinalized_metrics_type: compat.Type | None = None,
  ) -> compat.Computation:
    """As TFF's metrics aggregators; the type may be left out, as TFF does."""

    def aggregate(metrics: compat.Value) -> compat.Value:
      metrics_type = metrics.type_signature.member
      chosen = self._chosen(metrics_type)
      process = self._factory(chosen).create(_vector_type(chosen))

      @compat.tensorflow_computation(metrics_type)
      def flatten(value: Mapping[str, Any]) -> tf.Tensor:
        parts = [tff_values.to_vector(value[name], kind, tf.float64) for name, kind, _ in chosen]
        return tf.concat(parts, axis=0)

      @compat.tensorflow_computation(process.next.type_signature.result.result.member)
      def finalize(sums: tf.Tensor) -> Any:
        # What is negative is noise, and no finalizer is made for it.
        totals = _unflatten(tf.maximum(sums, 0), chosen)
        if callable(metric_finalizers):
          return metric_finalizers(totals)
        return OrderedDict((name, metric_finalizers[name](totals[name])) for name in totals)

      output = process.next(process.initialize(), compat.federated_map(flatten, metrics))
      return compat.federated_map(finalize, output.result)

    if local_unfinalized_metrics_type is None:
      return compat.federated_computation(aggregate)
    placed = compat.FederatedType(local_unfinalized_metrics_type, compat.CLIENTS)
    return compat.federated_computation(aggregate, placed)

  def _chosen(self, metrics_type: compat.Type) -> list[_Chosen]:
    """Name, type and bounds of each released metric, in declared order."""
    declared = OrderedDict(compat.struct_items(metrics_type))
    if not isinstance(self.maximum, Mapping):
      bounds: Mapping[str, Bounds] = dict.fromkeys(declared, self.maximum)
    else:
      bounds = self.maximum
    unknown = sorted({*bounds} - {*declared})
    if unknown:
      raise ConfigurationError(
        f'`maximum` names the metrics {", ".join(unknown)}; the model has '
        f'{", ".join(declared)}. Name metrics of the model.'
      )
    chosen = []
    for name, kind in declared.items():
      if name not in bounds:
        continue
      size, given = tff_values.count(kind), _each(bounds[name])
      if np.ndim(bounds[name]) == 0:
        given *= size
      if len(given) != size:
        raise ConfigurationError(
          f'`maximum[{name!r}]` gives {len(given)} bounds; the metric sums {size} numbers. '
          'Give one for each, or one for all.'
        )
      chosen.append((name, kind, given))
    return chosen

  def _factory(self, chosen: Sequence[_Chosen]) -> ComposedFactory:
    noise = NOISE_LAYERS[self.mechanism](noise_multiplier=self.noise_multiplier)
    layers = [
      CoordinateClipping(maximum=tuple(bound for _, _, bounds in chosen for bound in bounds)),
      # Clients at a maximum are the rule; rounded conditionally they would all err to one side.
      Quantization(beta=0.0),
      noise,
      SecureModularSum(bits=self.bits),
    ]
    return compose(layers, cohort=self.cohort, randomness=self.randomness)


@_validate.plain_numbers
def private_metrics(
  noise_multiplier: float,
  cohort: Cohort,
  *,
  maximum: float | Mapping[str, Bounds] = 100.0,
  mechanism: str = 'discrete_gaussian',
  bits: int = 32,
  randomness: str = 'chacha20',
) -> PrivateMetrics:
  """Training metrics with differential privacy: pass it as `metrics_aggregator`.

  TFF's default sums what every client measured, in the clear. Here each number of the
  unfinalized metrics (a count, a sum of losses) is clipped to [0, maximum], all of them
  get distributed noise in units of their bounds, and one secure modular sum adds
  them up; ratios are formed on the server from two noised sums, never on a client. A
  round with fewer than `cohort.minimum` honest survivors gives zeros.

  `build_private_learning_process` puts its cost into the account of the training. Used
  by itself, `bind(type).curve(honest)` tells the cost of a round.

  Args:
    noise_multiplier: Effective noise multiplier of all metrics together, a round, at
      `cohort.minimum` honest survivors. The noise in the sum of n numbers with bounds m
      is about `noise_multiplier * m * sqrt(n)`.
    cohort: The cohort of the training.
    maximum: Most that one client adds to a sum, in its unit: one bound for all
      numbers, or bounds by the metric's name (one, or one for each of its numbers);
      metrics that are not named are not released.
    mechanism: 'discrete_gaussian' or 'skellam'.
    bits: Bits a number that leave a client, 2 to 62.
    randomness: As in `compose`.

  Returns:
    A metrics aggregator; its `noise_multiplier` and bounds are attributes.

  Raises:
    ConfigurationError: If an argument is outside its range.

  Examples:
    >>> metrics = tpa.private_metrics(5.0, tpa.Cohort(expected=100), maximum={'loss': 10.0})
    >>> metrics.noise_multiplier
    5.0
  """
  return PrivateMetrics(
    noise_multiplier=noise_multiplier,
    cohort=cohort,
    maximum=maximum,
    mechanism=mechanism,
    bits=bits,
    randomness=randomness,
  )


def unfinalized_type(
  model: Callable[[], tff.learning.models.VariableModel] | tff.learning.models.FunctionalModel,
) -> compat.Type:
  """TFF type of one client's unfinalized metrics.

  Args:
    model: A function that makes a `tff.learning.models.VariableModel`, or a
      `tff.learning.models.FunctionalModel`.
  """

  @compat.tensorflow_computation
  def unfinalized() -> Mapping[str, Any]:
    if isinstance(model, tff.learning.models.FunctionalModel):
      return model.initialize_metrics_state()
    made = model()
    return made.report_local_unfinalized_metrics()

  return unfinalized.type_signature.result


def _each(bound: Bounds) -> tuple[float, ...]:
  return tuple(np.atleast_1d(np.asarray(bound, np.float64)).tolist())


def _vector_type(chosen: Sequence[_Chosen]) -> compat.Type:
  return compat.TensorType(np.float64, [sum(len(bounds) for _, _, bounds in chosen)])


def _unflatten(sums: tf.Tensor, chosen: Sequence[_Chosen]) -> OrderedDict[str, Any]:
  parts = tf.split(sums, [len(bounds) for _, _, bounds in chosen])
  return OrderedDict(
    (name, tff_values.from_vector(part, kind))
    for part, (name, kind, _) in zip(parts, chosen, strict=True)
  )

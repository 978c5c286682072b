"""Metrics aggregators for TFF's learning processes."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation.noise_history import holds_noise
from tff_privacy_agg.errors import ConfigurationError


def no_metrics(
  metric_finalizers: object, local_unfinalized_metrics_type: compat.Type | None = None
) -> compat.Computation:
  """Releases no training metrics: pass it as `metrics_aggregator`.

  TFF's default sums each client's loss, accuracy and example count in the clear,
  which no account covers. With this one nothing of them leaves a client.

  Args:
    metric_finalizers: What TFF passes; not used.
    local_unfinalized_metrics_type: TFF type of one client's metrics, or None
      where TFF asks for a polymorphic computation.

  Returns:
    A computation from metrics at the clients to an empty structure at the server.

  Examples:
    >>> str(tpa.no_metrics({}, tff.TensorType(np.float32)).type_signature)
    '({float32}@CLIENTS -> <>@SERVER)'
  """
  del metric_finalizers

  def drop(unused_metrics: compat.Value) -> compat.Value:
    return compat.federated_value(OrderedDict(), compat.SERVER)

  if local_unfinalized_metrics_type is None:
    return compat.federated_computation(drop)
  placed = compat.FederatedType(local_unfinalized_metrics_type, compat.CLIENTS)
  return compat.federated_computation(drop, placed)


def refuse_noise(metrics: Any) -> None:
  """Raises if what is to be released holds the noise that a process keeps for later rounds.

  Raises:
    ConfigurationError: If it does: a release less its noise is the exact sum.
  """
  if holds_noise(metrics):
    raise ConfigurationError(
      'A state was passed to be released that holds the noise of earlier rounds, and with it their '
      'exact sums. Release metrics and model weights, and keep states where the training runs.'
    )


def flatten(metrics: Any, prefix: str = '') -> Mapping[str, Any]:
  """Nested metrics as one level, with names joined by `/`; refuses the noise of a state."""
  refuse_noise(metrics)
  flat: OrderedDict[str, Any] = OrderedDict()
  for name, value in metrics.items():
    path = f'{prefix}{name}'
    if isinstance(value, Mapping):
      flat.update(flatten(value, f'{path}/'))
    else:
      flat[path] = value
  return flat

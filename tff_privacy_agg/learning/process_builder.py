"""TFF's learning algorithms with every release in one account."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_federated as tff

from tff_privacy_agg import _validate
from tff_privacy_agg._names import ALGORITHMS
from tff_privacy_agg._tff import compat
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.aggregation.factories import ComposedFactory, WeightedComposedFactory
from tff_privacy_agg.aggregation.process import stack_of
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.accounting_plan import Accounting
from tff_privacy_agg.learning.example_level import ExampleLevel
from tff_privacy_agg.learning.flat_metrics import no_metrics
from tff_privacy_agg.learning.metrics_factory import (
  PrivateMetrics,
  private_metrics,
  unfinalized_type,
)
from tff_privacy_agg.learning.options import METRICS
from tff_privacy_agg.learning.preparation.builder_checks import (
  check_account,
  check_optimizers,
  check_options,
  private_binding,
  reasons_of_tff,
)
from tff_privacy_agg.learning.private_process import PrivateLearningProcess

# The default metrics then take a twentieth of what a round costs.
_METRICS_NOISE_RATIO = 4.5
# The same weights as with TFF's default, bit for bit, in less time: docs/performance.md.
FAST_LOOP = tff.learning.LoopImplementation.DATASET_ITERATOR


def build_private_learning_process(
  algorithm: str,
  model_fn: Callable[[], tff.learning.models.VariableModel] | tff.learning.models.FunctionalModel,
  *,
  aggregator: ComposedFactory | WeightedComposedFactory,
  accounting: Accounting,
  metrics: str | PrivateMetrics = 'none',
  gradient_aggregator: ComposedFactory | WeightedComposedFactory | None = None,
  example_level: ExampleLevel | None = None,
  **options: Any,
) -> PrivateLearningProcess:
  """Builds one of TFF's learning processes in which every release is accounted.

  A genuine `tff.learning.templates.LearningProcess`: `state.aggregator['privacy']` and
  `metrics['aggregator']['privacy']` hold the account of all that the round releases,
  model, gradients and metrics together. A round that is not accepted (too few honest
  survivors, or the budget is spent) leaves everything but the account as it was, a
  server optimizer's momentum included. Once the budget halts the process, clients train
  on no example and send noise alone.

  Args:
    algorithm: 'fed_avg', 'fed_prox', 'fed_sgd' or 'mime_lite'.
    model_fn: As TFF's builders take it.
    aggregator: A stack with a mean and with noise, from `compose`, `compose_weighted` or a recipe.
      Delta and budget are stated once, in `accounting`; a stack composed with others is refused.
    accounting: Population, delta, budget and what is claimed of the cohorts.
    metrics: What becomes of the clients' training metrics. 'none' drops them; 'private'
      releases them with noise, for about a twentieth of a round's cost, each number
      clipped to 100 (`private_metrics(...)` in its place sets noise and bounds); 'clear'
      sums them in the clear, which leaves the account incomplete, and the ledger
      says so.
    gradient_aggregator: Stack for the full gradients that Mime sums next to the model
      updates; defaults to `aggregator`.
    example_level: DP-SGD in the clients' local training, on top of all that; the ledger then
      states the epsilon of one example, too.
    **options: What TFF's builder of the algorithm also takes: optimizers,
      `proximal_strength`, `client_weighting`, ... `loop_implementation` is
      `tff.learning.LoopImplementation.DATASET_ITERATOR` unless it is given: the same weights as
      with TFF's default, bit for bit, in less time.

  Returns:
    The process; `process.facts` is what its ledger rests on.

  Raises:
    ConfigurationError: If an argument is outside its range, the stack has no noise or no mean, or
      TFF refuses the model or an option.

  Reference: arXiv:1602.05629 (FedAvg), arXiv:1812.06127 (FedProx), arXiv:2008.03606 (Mime).
  """
  _validate.one_of(tuple(ALGORITHMS), algorithm=algorithm)
  _validate.instance(Accounting, accounting=accounting)
  stacks = {'aggregator': aggregator}
  if algorithm == 'mime_lite':
    stacks['gradient_aggregator'] = gradient_aggregator or aggregator
  elif gradient_aggregator is not None:
    raise ConfigurationError(
      f'`gradient_aggregator` is for mime_lite, which sums gradients; {algorithm} sums none. '
      'Leave it out.'
    )
  if example_level is not None:
    _validate.instance(ExampleLevel, example_level=example_level)
    if algorithm == 'mime_lite':
      raise ConfigurationError(
        '`example_level` counts the batches of local training; mime_lite takes gradients of all '
        'examples once more. Use another algorithm.'
      )
    model_fn = example_level.wrap(model_fn)
  build = getattr(tff.learning.algorithms, ALGORITHMS[algorithm][0])
  with reasons_of_tff(build.__name__):
    weights_type = weights_type_of(model_fn)
  bound = {name: private_binding(name, stack, weights_type) for name, stack in stacks.items()}
  for name, stack in stacks.items():
    check_account(name, stack, accounting)
  metrics_aggregator = _metrics_aggregator(metrics, aggregator, bound['aggregator'])
  beside = _beside(bound, metrics_aggregator, lambda: unfinalized_type(model_fn))
  accounted = aggregator.accounted(delta=accounting.delta, budget=accounting.budget, beside=beside)
  weighted = isinstance(aggregator, WeightedComposedFactory)
  build = getattr(tff.learning.algorithms, ALGORITHMS[algorithm][weighted])
  check_options(build, options)
  check_optimizers(options)
  options.setdefault('loop_implementation', FAST_LOOP)
  if algorithm == 'mime_lite':
    options['full_gradient_aggregator'] = stacks['gradient_aggregator']
  takes_weights = weighted or algorithm == 'fed_sgd'
  with reasons_of_tff(build.__name__):
    inner = build(
      model_fn,
      model_aggregator=_as_weighted(accounted) if takes_weights else accounted,
      metrics_aggregator=metrics_aggregator,
      **options,
    )
  accounted_bound = accounted.bind(weights_type)
  return PrivateLearningProcess(
    inner,
    facts=accounting.facts(
      accounted_bound.facts(),
      randomness=_weakest([*stacks.values(), metrics_aggregator]),
      unaccounted=('training metrics, summed in the clear',) if metrics == 'clear' else (),
    ),
    budget=accounting.budget,
    example_level=example_level,
    stack=stack_of(accounted_bound, delta=accounting.delta, budget=accounting.budget),
  )


def round_of(
  algorithm: str,
  *,
  aggregator: ComposedFactory,
  metrics: str | PrivateMetrics,
  weights_type: compat.Type,
  metrics_type: Callable[[], compat.Type],
) -> Binding:
  """All that one round of a process releases, without building the process.

  Args:
    algorithm: As in `build_private_learning_process`.
    aggregator: As there; of the gradients of mime_lite, too.
    metrics: As there.
    weights_type: From `weights_type_of`.
    metrics_type: Gives TFF type of one client's unfinalized metrics.
  """
  bound = {'aggregator': private_binding('aggregator', aggregator, weights_type)}
  if algorithm == 'mime_lite':
    bound['gradient_aggregator'] = bound['aggregator']
  metrics_aggregator = _metrics_aggregator(metrics, aggregator, bound['aggregator'])
  beside = _beside(bound, metrics_aggregator, metrics_type)
  return aggregator.accounted(delta=aggregator.delta, budget=None, beside=beside).bind(weights_type)


def _beside(
  bound: Mapping[str, Binding], metrics_aggregator: Any, metrics_type: Callable[[], compat.Type]
) -> list[Binding]:
  """Releases of the clients other than the model's updates."""
  beside = [bound['gradient_aggregator']] if 'gradient_aggregator' in bound else []
  if isinstance(metrics_aggregator, PrivateMetrics):
    beside.append(metrics_aggregator.bind(metrics_type()))
  return beside


def _as_weighted(
  factory: ComposedFactory | WeightedComposedFactory,
) -> tff.aggregators.WeightedAggregationFactory:
  if isinstance(factory, tff.aggregators.WeightedAggregationFactory):
    return factory
  return tff.aggregators.as_weighted_aggregator(factory)


def _weakest(sources: Sequence[Any]) -> str:
  kinds = {source.randomness for source in sources if hasattr(source, 'randomness')}
  return 'philox' if 'philox' in kinds else 'chacha20'


def weights_type_of(
  model: Callable[[], tff.learning.models.VariableModel] | tff.learning.models.FunctionalModel,
) -> compat.Type:
  """TFF type of a model's trainable weights.

  Args:
    model: A function that makes a model, or a functional model.
  """
  if not isinstance(model, tff.learning.models.FunctionalModel):
    return tff.learning.models.weights_type_from_model(model).trainable
  trainable, _ = model.initial_weights
  return compat.to_type(
    tf.nest.map_structure(lambda w: compat.TensorType(w.dtype, w.shape), trainable)
  )


def _metrics_aggregator(
  metrics: str | PrivateMetrics,
  aggregator: ComposedFactory | WeightedComposedFactory,
  bound: Binding,
) -> Callable[..., compat.Computation]:
  if isinstance(metrics, PrivateMetrics):
    return metrics
  _validate.one_of(METRICS, metrics=metrics)
  if metrics == 'none':
    return no_metrics
  if metrics == 'clear':
    return tff.learning.metrics.sum_then_finalize
  if not bound.distributed:
    raise ConfigurationError(
      "`metrics='private'` adds distributed noise; the aggregator's noise is the server's. Use a "
      "distributed mechanism, or `metrics='none'`."
    )
  return private_metrics(
    noise_multiplier=_METRICS_NOISE_RATIO * bound.noise_multiplier(bound.cohort.minimum),
    cohort=aggregator.cohort,
    mechanism=bound.law,
    randomness=aggregator.randomness,
  )

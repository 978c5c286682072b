"""Refusals before a process is built: stacks, options and models that no account or builder takes."""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg._tff.error_hints import last_line
from tff_privacy_agg.aggregation.binding import Binding
from tff_privacy_agg.aggregation.factories import ComposedFactory, WeightedComposedFactory
from tff_privacy_agg.aggregation.layers import Mean, WeightedMean
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError
from tff_privacy_agg.learning.accounting_plan import Accounting
from tff_privacy_agg.learning.preparation.checks import without_mean

_OURS = ('model_aggregator', 'metrics_aggregator', 'full_gradient_aggregator')


def private_binding(
  name: str, stack: ComposedFactory | WeightedComposedFactory, weights_type: compat.Type
) -> Binding:
  """The constants of a stack whose noise covers what it sums; refuses any other.

  Args:
    name: What the message calls the stack.
    stack: The stack.
    weights_type: TFF type of the model's trainable weights.
  """
  if not isinstance(stack, ComposedFactory | WeightedComposedFactory):
    raise ConfigurationError(
      f'`{name}` must be a stack of this package, whose cost is known; got '
      f'{type(stack).__name__}. Pass what `compose` or a recipe gives, not wrapped.'
    )
  bound = stack.bind(weights_type)
  if bound.mechanism is None:
    raise ConfigurationError(
      f'`{name}` must be a stack with noise; this one has none, and its epsilon is infinite. '
      "Add a noise layer, or use TFF's own builder."
    )
  return bound


def check_account(
  name: str, stack: ComposedFactory | WeightedComposedFactory, accounting: Accounting
) -> None:
  """Refuses a stack that averages nothing, or was composed for another account.

  Args:
    name: What the message calls the stack.
    stack: The stack.
    accounting: The account that the process is built for.
  """
  if not any(isinstance(layer, Mean | WeightedMean) for layer in stack.layers):
    raise without_mean(f'`{name}`')
  if stack.stated_delta not in (None, accounting.delta):
    raise ConfigurationError(
      f'`{name}` was composed with a delta of {stack.stated_delta:g}; `accounting` has '
      f'{accounting.delta:g}. State delta once, in `Accounting(delta=...)`.'
    )
  if stack.budget not in (None, accounting.budget):
    raise ConfigurationError(
      f'`{name}` was composed with a budget that is not that of `accounting`. State the budget '
      'once, in `Accounting(budget=...)`.'
    )


def check_options(build: Callable[..., Any], options: Mapping[str, Any]) -> None:
  """Refuses options that TFF's builder does not take, or that are set here."""
  known = [name for name in inspect.signature(build).parameters if name not in _OURS][1:]
  unknown = sorted({*options} - {*known})
  if unknown:
    raise ConfigurationError(
      f'`tff.learning.algorithms.{build.__name__}` takes {", ".join(known)}; got '
      f'{", ".join(unknown)}. Aggregators are set by `aggregator` and `metrics`.'
    )


def check_optimizers(options: Mapping[str, Any]) -> None:
  """Refuses optimizers that are none of TFF's among a builder's options."""
  for name, given in options.items():
    known = isinstance(given, tff.learning.optimizers.Optimizer)
    if name.endswith(('optimizer', 'optimizer_fn')) and not known:
      raise ConfigurationError(
        f"`{name}` must be one of TFF's optimizers, got {given!r}. TFF 0.87 trains with no other, "
        "Keras's included: pass such as `tff.learning.optimizers.build_sgdm(0.1)`."
      )


@contextlib.contextmanager
def reasons_of_tff(builder: str) -> Iterator[None]:
  """Puts into one sentence why TFF does not build a process.

  Args:
    builder: Name of its builder.

  Raises:
    ConfigurationError: With TFF's reason.
  """
  try:
    yield
  except PrivacyAggError:
    raise
  except Exception as error:
    raise ConfigurationError(
      f'`tff.learning.algorithms.{builder}` refuses the model or an option: '
      f'{last_line(error)} Change that argument.'
    ) from error

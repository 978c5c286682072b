"""Refusals before the first charge: shapes, cohorts, runtime, stacks that do not fit.

`tpa.train`, the command `train` and `CohortDataSource` share `check_process` and `check_cohorts`, and
run them before a ledger or a run directory is made.
"""

from collections.abc import Sequence
from typing import Any

from tff_privacy_agg._tff import compat, error_hints
from tff_privacy_agg._wording import counted
from tff_privacy_agg.aggregation import stack_mark
from tff_privacy_agg.aggregation.domains import Cohort
from tff_privacy_agg.errors import ConfigurationError
from tff_privacy_agg.learning.rounds.cohorts import Cohorts
from tff_privacy_agg.ledger import LedgerFacts

_BUILDERS = '`tpa.build_private_learning_process` or a function of `tff.learning.algorithms`'


def check_process(process: Any) -> list[Cohort]:
  """Refuses what is no learning process, cannot run here, or adds up where it should average.

  Returns:
    The cohorts that its stacks are built for; empty for a process without a stack of this package.

  Raises:
    ConfigurationError: If it is no process of two computations on clients' datasets, or its stack
      has no mean.
    RuntimeUnavailableError: If it has secure sums, and the current TFF context cannot run them.
  """
  signature = getattr(getattr(process, 'next', None), 'type_signature', None)
  parameter = getattr(signature, 'parameter', None)
  if not hasattr(process, 'initialize') or parameter is None or len(parameter) < 2:
    raise ConfigurationError(
      f'`process` must be a TFF learning process, got {_short(process)}. Build it with {_BUILDERS}.'
    )
  if not isinstance(getattr(parameter[1], 'member', None), compat.SequenceType):
    raise ConfigurationError(
      f"`process` must take the clients' datasets; the `next` of this one takes {parameter[1]}. Pass "
      f'a learning process from {_BUILDERS}, not the process of an aggregator.'
    )
  marks = stack_mark.read(process.next)
  # Metrics with noise are sums; the model's stack is the one that averages.
  if marks and not any(mark.averages for mark in marks):
    raise without_mean('The stack of `process`')
  error_hints.refuse_native_context(process.next)
  return [mark.cohort for mark in marks]


def without_mean(what: str) -> ConfigurationError:
  """The refusal of a stack that would move a model by the sum of its clients.

  Args:
    what: Names the stack, at the start of the sentence.
  """
  return ConfigurationError(
    f'{what} has no mean: it would move the model by the sum of all updates of a round. Put '
    '`Mean()` first in the stack; a stack that sums on purpose is for analytics, not for training.'
  )


def check_element(process: Any, element: Any) -> None:
  """Refuses clients whose batches are not what a process takes.

  Args:
    process: A learning process.
    element: TFF type of one batch of a client.

  Raises:
    ConfigurationError: If a computation of the process would not take them.
  """
  wanted = process.next.type_signature.parameter[1].member.element
  if not wanted.is_assignable_from(element):
    raise ConfigurationError(
      f'The process takes batches of {_of(wanted)}; after `preprocess` a client gives {_of(element)}. '
      + _remedy(wanted, element)
    )


def check_cohorts(
  cohorts: Cohorts,
  *,
  clients: Sequence[str],
  stacks: Sequence[Cohort],
  facts: LedgerFacts | None,
  rounds: int | None,
) -> None:
  """Refuses cohorts that the data, the stack or the account cannot have.

  Args:
    cohorts: The sampler.
    clients: Ids of the clients in the data.
    stacks: Cohorts that the stacks of the process are built for.
    facts: What the ledger rests on; None without one.
    rounds: Rounds in all; None if that is not known.

  Raises:
    ConfigurationError: If they do not fit.
  """
  known = frozenset(clients)
  missing = [one for one in cohorts.client_ids if one not in known]
  if missing:
    raise ConfigurationError(
      f'`cohorts` draws from {counted(len(cohorts.client_ids), "client")}; the data lacks '
      f'{len(missing)} of them, such as {missing[0]!r}. Pass `client_ids=data.client_ids`.'
    )
  size, drawn = _usual_size(cohorts)
  for cohort in stacks:
    _check_size(cohort, size, drawn)
  if facts is None:
    return
  number = len(cohorts.client_ids)
  if number > facts.population:
    raise ConfigurationError(
      f'`population` of the accounting is {facts.population}; `cohorts` draws from '
      f'{counted(number, "client")}. Set `Accounting(population={number})`: delta is judged by it.'
    )
  separation = getattr(cohorts, 'separation', 1)
  if facts.separation is not None and separation < facts.separation:
    raise ConfigurationError(
      f'The noise of the process needs rounds of one client at least {facts.separation} apart; '
      f'`cohorts` keeps {separation}. Draw with `tpa.SeparatedCohorts(separation={facts.separation}, '
      '...)`.'
    )
  cap = facts.cap
  if cap is not None and rounds is not None and size is not None and rounds * size > cap * number:
    raise ConfigurationError(
      f'{counted(rounds, "round")} of {drawn} need {counted(rounds * size, "participation")}; '
      f'{counted(number, "client")} with a cap of {counted(cap, "participation")} have '
      f'{cap * number}. Raise the cap, or train for at most '
      f'{counted(cap * number // size, "round")}.'
    )


def check_size(clients: int, facts: LedgerFacts, round_number: int) -> None:
  """Refuses a cohort that its ledger could not settle.

  Args:
    clients: Clients of the round.
    facts: What the ledger rests on.
    round_number: The round.

  Raises:
    ConfigurationError: If there are too many.
  """
  if clients > facts.maximum:
    raise ConfigurationError(
      f'Round {round_number} has {counted(clients, "client")}; the ledger counts on at most '
      f'{facts.maximum}. Draw smaller cohorts, or raise `Cohort.maximum`.'
    )


def _usual_size(cohorts: Cohorts) -> tuple[int | None, str]:
  """Clients of a round, and the same in words; None for a sampler that does not say."""
  sampling = cohorts.sampling
  if sampling.kind == 'poisson':
    size = round((sampling.population or 0) * (sampling.rate or 0.0))
    return size, f'about {counted(size, "client")}'
  fixed = getattr(cohorts, 'size', sampling.cohort)
  return fixed, f'{counted(fixed, "client")}'


def _check_size(cohort: Cohort, size: int | None, drawn: str) -> None:
  if size is None:
    return
  if size > cohort.maximum:
    raise ConfigurationError(
      f'`cohorts` draws {drawn} a round; the stack of the process admits at most {cohort.maximum}. '
      f'Draw fewer, or build the stack for `Cohort(maximum={size})`.'
    )
  honest = cohort.honest(size)
  if honest < cohort.minimum:
    of_them = '' if honest == size else f', {honest} of them honest'
    raise ConfigurationError(
      f'`cohorts` draws {drawn} a round{of_them}; the stack of the process needs {cohort.minimum} '
      'honest ones, so that every round would be charged and none would move the model. Draw more, '
      f'or build the stack for `Cohort(minimum={max(honest, 1)})`.'
    )


def _remedy(wanted: Any, element: Any) -> str:
  """Advice for batches of another type."""
  takes, gives = _leaves(wanted), _leaves(element)
  if takes is None or gives is None or [*takes] != [*gives]:
    return 'Map each client to these names and shapes in `preprocess`.'
  pairs = {name: (takes[name], gives[name]) for name in takes}
  batch = [one.shape is not None and other.shape is not None for one, other in pairs.values()]
  if all(batch) and all(len(a.shape) == len(b.shape) + 1 for a, b in pairs.values()):
    return 'Batch the examples: `preprocess=lambda dataset: dataset.batch(10)`.'
  cast = [f'`{name}` to {a.dtype}' for name, (a, b) in pairs.items() if a.dtype != b.dtype]
  if cast:
    return f'Cast {", ".join(cast)} in `preprocess`.'
  return 'Give the model the `input_spec` of the data, or reshape the data in `preprocess`.'


def _leaves(kind: Any) -> dict[str, Any] | None:
  """The tensors of a type by name; None for a type that is nested or unnamed."""
  if not isinstance(kind, compat.StructType):
    return None
  found = dict(compat.struct_items(kind))
  flat = all(name and isinstance(one, compat.TensorType) for name, one in found.items())
  return found if flat else None


def _of(kind: Any) -> str:
  return str(kind).replace('\n', ' ')


def _short(value: Any) -> str:
  text = repr(value)
  return text if len(text) <= 80 else f'a {type(value).__name__}'

"""Says in one sentence what a TFF runtime error means and how to fix it."""

import contextlib
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_federated as tff

from tff_privacy_agg._tff import compat
from tff_privacy_agg.errors import ConfigurationError, PrivacyAggError, RuntimeUnavailableError

_NO_SECURE_SUMS = (
  "TFF's native context is the current one, and cannot run secure sums. "
  'Call `tff_privacy_agg.runtime.simulation_context()` first, in the same thread.'
)
_MOST_ARGUMENT_BYTES = 2**31 - 1
_MEND_OF_LARGE_ARGUMENTS = (
  'Let the clients compute their values, as a learning process does, or run their work client by '
  'client in a `tff_privacy_agg.runtime.SecAggContext()`, or take fewer clients a round.'
)
# What TFF's (or gRPC's, or protobuf's) message contains, and what it means.
_EXPLANATIONS: tuple[tuple[str, str], ...] = (
  ('Cannot embed a federated value', _NO_SECURE_SUMS),
  (
    'No default context installed',
    'A computation was called in a thread without an execution context; TFF keeps one default '
    'per thread. Call `tff_privacy_agg.runtime.simulation_context()` in this thread.',
  ),
  (
    'Error parsing message',
    'A computation or an argument could not be read back by protobuf, which takes 100 nested '
    'messages and 2 GiB. Nest fewer aggregators, if it is too deep. '
    f'If it is too large: {_MEND_OF_LARGE_ARGUMENTS}',
  ),
  (
    'message larger than max',
    'An argument or a result is larger than the 2 GiB that one message may have. '
    f'{_MEND_OF_LARGE_ARGUMENTS}',
  ),
)


# What the graphs of this package assert comes back inside of TFF's and gRPC's own words.
_ASSERTED = re.compile(
  r'assertion failed: \[((?:The cohort admits|A round needs)[^\]]*)\]'
  r'(?: \[(\d+)\])?'
)


def asserted(error: BaseException) -> str | None:
  """The sentence of this package that an error of a running computation carries; or None."""
  found = _ASSERTED.search(str(error))
  if found is None:
    return None
  sentence, number = found.groups()
  return sentence.replace('the number that took part follows', f'{number} took part')


def last_line(error: BaseException) -> str:
  """Kind and reason of an error of TensorFlow, without where it happened; ends in a dot."""
  kind = type(error).__name__
  lines = [line.strip() for line in str(error).splitlines()]
  said = next((line for line in reversed(lines) if line), 'no reason given')
  return f'{kind}: {said.removeprefix(f"{kind}: ")}'.rstrip('.') + '.'


def explain(error: BaseException) -> str | None:
  """Returns what `error` means and how to fix it, or None if it is not known.

  Args:
    error: An exception from calling a TFF computation. Its causes are searched
      too.

  Examples:
    >>> tpa.runtime.explain(RuntimeError('Error parsing message')).split(',')[0]
    'A computation or an argument could not be read back by protobuf'
  """
  seen: list[BaseException] = []
  current: BaseException | None = error
  while current is not None and current not in seen:
    for sign, meaning in _EXPLANATIONS:
      if sign in str(current):
        return meaning
    seen.append(current)
    current = current.__cause__ or current.__context__
  return None


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Turns a known TFF runtime error into a `RuntimeUnavailableError` caused by it.

  What a round of this package asserts becomes a `ConfigurationError` of one sentence.
  Other errors pass unchanged.

  Examples:
    >>> with tpa.runtime.explained():
    ...   print('a computation of TFF runs here')
    a computation of TFF runs here
  """
  try:
    yield
  except PrivacyAggError:
    raise
  except Exception as error:
    sentence = asserted(error)
    if sentence is not None:
      # Nothing else in TFF's error says more, and there are eighty lines of it.
      raise ConfigurationError(sentence) from None
    meaning = explain(error)
    if meaning is None:
      raise
    raise RuntimeUnavailableError(meaning) from error


def _number_bytes(value: Any) -> int:
  """Bytes of the arrays and tensors in a structure; datasets, which are sent as graphs, apart."""
  if isinstance(value, Mapping):
    value = list(value.values())
  if isinstance(value, (list, tuple, *compat.STRUCTS)):
    return sum(map(_number_bytes, value))
  size = getattr(value, 'nbytes', None)
  return size if isinstance(size, int) else 0


def refuse_too_large(argument: Any) -> None:
  """Refuses an argument of a TFF computation that cannot be sent, before time is spent on it.

  All clients' values go to TFF's worker as one message, which protobuf limits to 2 GiB.

  Args:
    argument: What a TFF context is asked to run a computation on.

  Raises:
    RuntimeUnavailableError: If its arrays take more than 2 GiB.
  """
  size = _number_bytes(argument)
  if size > _MOST_ARGUMENT_BYTES:
    raise RuntimeUnavailableError(
      f'A computation was called with {size / 2**30:.1f} GiB of values, which TFF sends as one '
      f'message of at most 2 GiB. {_MEND_OF_LARGE_ARGUMENTS}'
    )


def _is_native(context: Any) -> bool:
  """Whether `context` compiles as TFF's native contexts do, secure sums left as they are."""
  # TFF has no public mark of a native context. Should its attributes change,
  # this finds none: the warning is lost, nothing else.
  asynchronous = getattr(context, '_async_context', context)
  pipeline = getattr(asynchronous, '_compiler_pipeline', None)
  compiler = getattr(pipeline, '_compiler_fn', None)
  return compiler is tff.backends.native.desugar_and_transform_to_native


def refuse_native_context(computation: Any) -> None:
  """Refuses a computation with secure sums where the current context cannot run them.

  Raises:
    RuntimeUnavailableError: If the context is a native one of TFF.
  """
  if not _is_native(compat.get_context_stack().current):
    return
  if b'federated_secure' in compat.serialize_computation(computation).SerializeToString():
    raise RuntimeUnavailableError(_NO_SECURE_SUMS)


def warn_if_secure_sums_cannot_run() -> None:
  """Warns if the current TFF context is a native one, which cannot run secure sums.

  Looks only: it starts no worker. Call it from what builds a process, so that
  the warning names the user's line.
  """
  if _is_native(compat.get_context_stack().current):
    warnings.warn(
      "TFF's native context is the current one and cannot run secure sums; call "
      '`tff_privacy_agg.runtime.simulation_context()` before running the process.',
      UserWarning,
      stacklevel=3,
    )
